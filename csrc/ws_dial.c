/* See ws_dial.h. */
#include "ws_dial.h"

#include "ws_resolve.h"

#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/random.h>

/* ---- one round over all addresses ---------------------------------------------------------- */

/* An address that swallows everything must leave time for those behind it. */
static axi_time share_of(axi_time deadline, const struct addrinfo *address)
{
    if (!address->ai_next) return deadline;
    int left_ms = axi_left_ms(deadline, 10000);
    return axi_now() + (axi_time)left_ms * 1000000 / 2;
}

static axon_status try_addresses(axi_link **link, axi_link_target *target, const struct addrinfo *list,
                                 axi_time deadline, bool *again, axon_error *err)
{
    axon_status status = AXON_ECONNECT;
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        char address[NI_MAXHOST];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        target->address = address;
        status = axi_link_open(link, target, share_of(deadline, at), again, err);
        bool was_swallowed = status == AXON_ETIMEOUT && axi_left_ms(deadline, 1) > 0;
        if (!*again && !was_swallowed) break;
        *again = true;
    }
    return status;
}

static axon_status try_once(axi_link **link, axi_link_target *target, axi_time deadline, bool *again,
                            axon_error *err)
{
    *again = false;
    const axi_proxy *proxy = target->proxy;
    struct addrinfo *list;
    axon_status status = proxy->host[0]
                             ? axi_resolve(&list, proxy->host, proxy->port, deadline, err)
                             : axi_resolve(&list, target->url->host, target->url->port, deadline, err);
    if (status != AXON_OK) return status;
    axi_fail(err, AXON_ECONNECT, "its addresses cannot be used");
    status = try_addresses(link, target, list, deadline, again, err);
    freeaddrinfo(list);
    return status;
}

/* ---- trying again -------------------------------------------------------------------------- */

/* Somewhere between half of `pause_ms` and all of it, so that robots that lost their server together do not come
 * back together. */
static uint32_t with_jitter(uint32_t pause_ms)
{
    uint32_t noise = 0;
    if (getrandom(&noise, sizeof noise, GRND_NONBLOCK) < 0) noise = (uint32_t)axi_now();
    uint32_t half = pause_ms / 2;
    return pause_ms - (half ? noise % half : 0);
}

axon_status axi_ws_pause(uint32_t *pause_ms, uint32_t max_ms, axi_time deadline,
                         const atomic_bool *is_cancelled, axon_error *err)
{
    axi_time end = axi_deadline(with_jitter(*pause_ms));
    if (end > deadline) end = deadline;
    *pause_ms = *pause_ms > max_ms / 2 ? max_ms : *pause_ms * 2;
    for (int left; (left = axi_left_ms(end, AXI_LOOK_UP_MS)) > 0;) {
        poll(NULL, 0, left);
        if (axi_interrupted() || (is_cancelled && atomic_load(is_cancelled)))
            return axi_fail(err, AXON_ECANCELED, "cancelled while waiting to try again");
    }
    return AXON_OK;
}

axon_status axi_ws_dial(axi_link **link, const axi_ws_url *url, const axi_ws_options *options,
                        axi_time deadline, axon_error *err)
{
    axi_proxy proxy;
    axon_status status = axi_proxy_find(&proxy, url, err);
    if (status != AXON_OK) return status;
    axi_link_target target = {.url = url,
                              .proxy = &proxy,
                              .authorization = options->authorization,
                              .ca_file = options->ca_file,
                              .tls_insecure = options->tls_insecure,
                              .is_cancelled = options->is_cancelled};
    axon_error failure;
    uint32_t pause_ms = options->retry_min_ms;
    for (unsigned tries = 1;; tries++) {
        bool again;
        status = try_once(link, &target, deadline, &again, &failure);
        if (status == AXON_OK) return AXON_OK;
        if (!again || pause_ms == 0) break;
        axi_log(AXON_LOG_WARN, "%s: %s; trying again", url->authority, failure.message);
        axon_error cancelled;
        axon_status slept =
            axi_ws_pause(&pause_ms, options->retry_max_ms, deadline, options->is_cancelled, &cancelled);
        if (slept != AXON_OK) return axi_fail(err, slept, "%s", cancelled.message);
        if (axi_left_ms(deadline, 1) > 0) continue;
        return axi_fail(err, status, "%s; tried %u times", failure.message, tries);
    }
    if (err) *err = failure;
    return status;
}
