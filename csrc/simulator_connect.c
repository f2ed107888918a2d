/* From an address to a session. See simulator_internal.h. */
#include "simulator_internal.h"

#include "service_internal.h"
#include "ws_dial.h"
#include "ws_resolve.h"

#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    DEFAULT_CONNECT_TIMEOUT_MS = 10000,
    DEFAULT_RETRY_MIN_MS = 100,
    DEFAULT_RETRY_MAX_MS = 2000,
    DEFAULT_CLOSE_TIMEOUT_MS = 1000,
    DEFAULT_GRACE_MS = 60000,
    DEFAULT_MAX_BYTES = 256 * 1024 * 1024
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

/* ---- one try ------------------------------------------------------------------------------- */

static axon_status try_address(axon_simulator *simulator, const struct sockaddr *address, socklen_t length,
                               axi_time deadline, axon_error *err)
{
    const axi_dealer_target target = {.name = simulator->name,
                                      .address = address,
                                      .address_length = length,
                                      .max_bytes = simulator->options.max_reply_bytes,
                                      .wake_fd = simulator->wake_fd,
                                      .is_cancelled = &simulator->is_cancelled};
    return axi_dealer_open(&simulator->dealer, &target, deadline, err);
}

/* "ipc:///path"; "ipc://@name" is in Linux's abstract namespace. */
static axon_status try_path(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = simulator->address + strlen("ipc://");
    size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return axi_fail(err, AXON_EINVAL, "%s: a path of %zu bytes, limit %zu", simulator->name, length,
                        sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, length);
    bool is_abstract = path[0] == '@';
    if (is_abstract) address.sun_path[0] = '\0';
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + !is_abstract);
    return try_address(simulator, (const struct sockaddr *)&address, size, deadline, err);
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
        status = try_address(simulator, at->ai_addr, at->ai_addrlen, share_of(deadline, at), err);
        bool may_go_on = status == AXON_ECONNECT || (status == AXON_ETIMEOUT && axi_now() < deadline);
        if (!may_go_on) break;
    }
    return status;
}

static axon_status try_once(axon_simulator *simulator, axi_time deadline, axon_error *err)
{
    struct addrinfo *list;
    if (!simulator->where.host[0]) return try_path(simulator, deadline, err);
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
    axi_dealer_close(simulator->dealer, false);
    simulator->dealer = NULL;
    simulator->owes = false;
}
