/* See thread.h. */
#include "thread.h"

#include <signal.h>
#include <time.h>

int axi_thread_start(pthread_t *thread, void *(*function)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, function, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void axi_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool axi_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, axi_time deadline)
{
    struct timespec at = {.tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000};
    return pthread_cond_timedwait(condition, lock, &at) == 0;
}

bool axi_condition_wait_a_while(pthread_cond_t *condition, pthread_mutex_t *lock, axi_time deadline)
{
    axi_time while_end = axi_deadline(AXI_LOOK_UP_MS);
    return axi_condition_wait(condition, lock, deadline < while_end ? deadline : while_end);
}
