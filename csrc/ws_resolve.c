/* See ws_resolve.h. */
#include "ws_resolve.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A look-up, owned by the one who asked and by the thread that does it: the last one frees it. */
typedef struct lookup {
    atomic_int owners;
    int done_fd;      /* readable when done, for poll() */
    atomic_bool done; /* what follows may be read */
    int error;        /* of getaddrinfo() */
    int system_error;
    struct addrinfo *list;
    char port[8];
    char host[];
} lookup;

static void let_go(lookup *job)
{
    if (atomic_fetch_sub(&job->owners, 1) > 1) return;
    if (job->list) freeaddrinfo(job->list);
    close(job->done_fd);
    free(job);
}

static void *look_up(void *argument)
{
    lookup *job = argument;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    job->error = getaddrinfo(job->host, job->port, &hints, &job->list);
    job->system_error = errno;
    if (job->error != 0) job->list = NULL;
    atomic_store(&job->done, true);
    eventfd_write(job->done_fd, 1);
    let_go(job);
    return NULL;
}

static lookup *make_job(const char *host, uint16_t port)
{
    size_t length = strlen(host) + 1;
    lookup *made = malloc(sizeof *made + length);
    if (!made) return NULL;
    *made = (lookup){.done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    atomic_init(&made->owners, 2);
    memcpy(made->host, host, length);
    snprintf(made->port, sizeof made->port, "%u", port);
    if (made->done_fd >= 0) return made;
    free(made);
    return NULL;
}

/* Signals are the application's: none is handled on a thread that it does not know. */
static bool start(lookup *job)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    bool started = pthread_create(&thread, &attributes, look_up, job) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

static axon_status wait_for(lookup *job, axi_time deadline, axon_error *err)
{
    for (;;) {
        struct pollfd done = {.fd = job->done_fd, .events = POLLIN};
        if (poll(&done, 1, axi_left_ms(deadline, AXI_LOOK_UP_MS)) == 1 && atomic_load(&job->done))
            return AXON_OK;
        if (axi_interrupted())
            return axi_fail(err, AXON_ECANCELED, "cancelled while looking up \"%s\"", job->host);
        if (axi_left_ms(deadline, 1) == 0)
            return axi_fail(err, AXON_ETIMEOUT, "no answer from the name service about \"%s\"", job->host);
    }
}

static axon_status fail_look_up(axon_error *err, const lookup *job)
{
    if (job->error == EAI_MEMORY) return axi_fail(err, AXON_ENOMEM, "out of memory in getaddrinfo()");
    if (job->error == EAI_NONAME || job->error == EAI_NODATA)
        return axi_fail(err, AXON_ECONNECT, "no such host \"%s\"", job->host);
    const char *why = job->error == EAI_SYSTEM ? strerror(job->system_error) : gai_strerror(job->error);
    return axi_fail(err, AXON_ECONNECT, "no such host \"%s\", as far as the name service says: %s",
                    job->host, why);
}

static bool read_address(struct addrinfo **list, const char *host, uint16_t port)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    return getaddrinfo(host, service, &hints, list) == 0;
}

axon_status axi_resolve(struct addrinfo **list, const char *host, uint16_t port, axi_time deadline,
                        axon_error *err)
{
    if (read_address(list, host, port)) return AXON_OK;
    lookup *job = make_job(host, port);
    if (!job) return axi_no_memory(err, sizeof *job);
    if (!start(job)) {
        atomic_store(&job->owners, 1);
        let_go(job);
        return axi_fail(err, AXON_ENOMEM, "no thread could be started to look up \"%s\"", host);
    }
    axon_status status = wait_for(job, deadline, err);
    if (status == AXON_OK && job->error != 0) status = fail_look_up(err, job);
    if (status == AXON_OK) {
        *list = job->list;
        job->list = NULL;
    }
    let_go(job);
    return status;
}
