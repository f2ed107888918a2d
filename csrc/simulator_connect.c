/* From an address to a session. See simulator_internal.h.
 *
 * ZeroMQ connects by itself, again and again and without a word. Here it tries once at a time, and what it reports of
 * each try becomes the error of a call. */
#include "simulator_internal.h"

#include "service_internal.h"
#include "ws_dial.h"
#include "ws_resolve.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    DEFAULT_CONNECT_TIMEOUT_MS = 10000,
    DEFAULT_RETRY_MIN_MS = 100,
    DEFAULT_RETRY_MAX_MS = 2000,
    DEFAULT_CLOSE_TIMEOUT_MS = 1000,
    DEFAULT_GRACE_MS = 60000,
    DEFAULT_MAX_BYTES = 256 * 1024 * 1024,
    PROBE_MS = 500 /* for finding out why nobody answered */
};

/* ---- options and address ------------------------------------------------------------------- */

static void fill_in(axon_simulator_options *o)
{
    if (!o->connect_timeout_ms) o->connect_timeout_ms = DEFAULT_CONNECT_TIMEOUT_MS;
    if (!o->retry_min_ms) o->retry_min_ms = DEFAULT_RETRY_MIN_MS;
    if (!o->retry_max_ms) o->retry_max_ms = DEFAULT_RETRY_MAX_MS;
    if (!o->call_timeout_ms) o->call_timeout_ms = AXI_SIMULATOR_CALL_TIMEOUT_MS;
    if (!o->close_timeout_ms) o->close_timeout_ms = DEFAULT_CLOSE_TIMEOUT_MS;
    if (!o->grace_ms) o->grace_ms = DEFAULT_GRACE_MS;
    if (!o->max_reply_bytes) o->max_reply_bytes = DEFAULT_MAX_BYTES;
    if (!o->max_request_bytes) o->max_request_bytes = DEFAULT_MAX_BYTES;
    if (o->retry_max_ms < o->retry_min_ms) o->retry_max_ms = o->retry_min_ms;
}

static axon_status refuse(axon_error *err, const char *address, const char *why)
{
    return axi_fail(err, AXON_EINVAL, "simulator address \"%.*s\": %s", AXI_URL_SHOWN, address, why);
}

static axon_status read_address(axon_simulator *simulator, const char *address, axon_error *err)
{
    int made;
    if (!address || !*address) return axi_fail(err, AXON_EINVAL, "simulator address: it is empty");
    const char *scheme = strstr(address, "://"), *rest = scheme ? scheme + 3 : address;
    if (strncasecmp(address, "ipc://", 6) == 0) {
        if (!*rest) return refuse(err, address, "it names no path");
        made = asprintf(&simulator->address, "ipc://%s", rest);
    } else {
        if (scheme && strncasecmp(address, "tcp://", 6) != 0)
            return refuse(err, address, "it must begin with tcp:// or ipc://");
        simulator->where.port = AXI_SIMULATOR_PORT;
        const char *wrong = axi_authority_read(&simulator->where, rest, strlen(rest));
        if (wrong) return refuse(err, address, wrong);
        bool is_v6 = strchr(simulator->where.host, ':') != NULL;
        made = asprintf(&simulator->address, is_v6 ? "tcp://[%s]:%u" : "tcp://%s:%u", simulator->where.host,
                        simulator->where.port);
    }
    if (made >= 0) return AXON_OK;
    simulator->address = NULL;
    return axi_no_memory(err, strlen(address));
}

axon_status axi_simulator_configure(axon_simulator *simulator, const char *address,
                                    const axon_simulator_options *opts, axon_error *err)
{
    axon_simulator_options *o = &simulator->options;
    axon_status status = axi_options_read(o, sizeof *o, opts, err);
    if (status == AXON_OK && o->connect_once != 0 && o->connect_once != 1)
        status = axi_fail(err, AXON_EINVAL, "connect_once is neither 0 nor 1");
    if (status == AXON_OK) status = read_address(simulator, address, err);
    if (status != AXON_OK) return status;
    fill_in(o);
    simulator->timeout_ms = o->call_timeout_ms;
    snprintf(simulator->name, sizeof simulator->name, "%s", simulator->address);
    return AXON_OK;
}

/* ---- waiting ------------------------------------------------------------------------------- */

axon_status axi_simulator_wait(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    bool is_something =
        axi_dealer_wait(simulator->dealer, simulator->wake_fd, axi_left_ms(deadline, AXI_LOOK_UP_MS));
    if (atomic_load(&simulator->is_cancelled))
        return axi_fail(err, AXON_ECANCELED, "%s: cancelled", simulator->name);
    if (is_something) return AXON_OK;
    if (axi_interrupted()) return axi_fail(err, AXON_ECANCELED, "%s: interrupted", simulator->name);
    return axi_left_ms(deadline, 1) > 0 ? AXON_OK : AXON_ETIMEOUT;
}

/* ---- why nobody answered ------------------------------------------------------------------- */

/* What the system says to a connection of our own: libzmq does not pass it on. */
static int probe(const struct addrinfo *address)
{
    int reason = 0;
    socklen_t size = sizeof reason;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) < 0) reason = errno;
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    if (reason == EINPROGRESS && poll(&writable, 1, PROBE_MS) == 1)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &size);
    close(fd);
    return reason;
}

static axon_status fail_to_connect(axon_simulator *simulator, axi_dealer_state state,
                                   const struct addrinfo *address, axon_error *err)
{
    switch (state) {
    case AXI_DEALER_STRANGER:
        return axi_fail(err, AXON_EPROTOCOL, "%s: what listens there is no ZeroMQ server", simulator->name);
    case AXI_DEALER_CONNECTED:
        return axi_fail(err, AXON_ETIMEOUT,
                        "%s: somebody listens there and did not answer ZeroMQ's greeting", simulator->name);
    case AXI_DEALER_DIALING:
        return axi_fail(err, AXON_ETIMEOUT, "%s: no answer", simulator->name);
    default: {
        int reason = address ? probe(address) : 0;
        return axi_fail(err, AXON_ECONNECT, "%s: %s", simulator->name,
                        reason ? strerror(reason) : "nobody listens there");
    }
    }
}

/* ---- one try ------------------------------------------------------------------------------- */

static axon_status try_endpoint(axon_simulator *simulator, const char *endpoint,
                                const struct addrinfo *address, axi_time deadline, axon_error *err)
{
    axon_status status = axi_dealer_open(&simulator->dealer, simulator->context, endpoint,
                                         simulator->options.max_reply_bytes, err);
    if (status != AXON_OK) return axi_fail(err, status, "%s: %s", simulator->name, err->message);
    axi_dealer_state state = AXI_DEALER_DIALING;
    while (status == AXON_OK) {
        state = axi_dealer_look(simulator->dealer);
        if (state >= AXI_DEALER_READY) break;
        status = axi_simulator_wait(simulator, deadline, err);
    }
    if (state == AXI_DEALER_READY) return AXON_OK;
    axi_dealer_close(simulator->dealer, 0);
    simulator->dealer = NULL;
    return status == AXON_OK || status == AXON_ETIMEOUT ? fail_to_connect(simulator, state, address, err)
                                                        : status;
}

static bool print_endpoint(char *text, size_t size, const struct addrinfo *address)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo(address->ai_addr, address->ai_addrlen, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    const char *form = address->ai_family == AF_INET6 ? "tcp://[%s]:%s" : "tcp://%s:%s";
    return snprintf(text, size, form, host, port) < (int)size;
}

/* An address that swallows everything must leave time for those behind it. */
static axi_time share_of(axi_time deadline, const struct addrinfo *address)
{
    if (!address->ai_next || deadline == AXI_NEVER) return deadline;
    return axi_now() + (deadline - axi_now()) / 2;
}

static axon_status try_addresses(axon_simulator *simulator, const struct addrinfo *list, axi_time deadline,
                                 axon_error *err)
{
    axon_status status = axi_fail(err, AXON_ECONNECT, "%s: its addresses cannot be used", simulator->name);
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        char endpoint[NI_MAXHOST + 32];
        if (!print_endpoint(endpoint, sizeof endpoint, at)) continue;
        status = try_endpoint(simulator, endpoint, at, share_of(deadline, at), err);
        bool may_go_on = status == AXON_ECONNECT || (status == AXON_ETIMEOUT && axi_now() < deadline);
        if (!may_go_on) break;
    }
    return status;
}

static axon_status try_once(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    struct addrinfo *list;
    if (!simulator->where.host[0]) return try_endpoint(simulator, simulator->address, NULL, deadline, err);
    axon_status status = axi_resolve(&list, simulator->where.host, simulator->where.port, deadline, err);
    if (status != AXON_OK) return axi_fail(err, status, "%s: %s", simulator->name, err->message);
    status = try_addresses(simulator, list, deadline, err);
    freeaddrinfo(list);
    return status;
}

/* ---- trying again -------------------------------------------------------------------------- */

axon_status axi_simulator_connect(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    uint32_t pause_ms = simulator->options.retry_min_ms;
    for (unsigned tries = 1;; tries++) {
        axon_status status = try_once(simulator, deadline, err);
        if (status == AXON_OK) {
            simulator->counts.sessions++;
            axi_log(AXON_LOG_INFO, "%s: connected", simulator->name);
            return AXON_OK;
        }
        if (status != AXON_ECONNECT || simulator->options.connect_once) return status;
        axi_log(AXON_LOG_WARN, "%s; trying again", err->message);
        axon_error cancelled;
        axon_status slept = axi_ws_pause(&pause_ms, simulator->options.retry_max_ms, deadline,
                                         &simulator->is_cancelled, &cancelled);
        if (slept != AXON_OK) return axi_fail(err, slept, "%s: %s", simulator->name, cancelled.message);
        if (axi_left_ms(deadline, 1) == 0)
            return axi_fail(err, status, "%s; tried %u times", err->message, tries);
    }
}

void axi_simulator_drop(axon_simulator *simulator, const char *why)
{
    if (!simulator->dealer) return;
    axi_log(AXON_LOG_WARN, "%s: the session is over: %s", simulator->name, why);
    axi_dealer_close(simulator->dealer, 0);
    simulator->dealer = NULL;
    simulator->owes = false;
}
