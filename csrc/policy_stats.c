/* Where the time of calls went. The last replies are kept as they are and sorted when somebody asks: exact
 * percentiles over a window, which a histogram would only come near. */
#include "policy_internal.h"
#include "stats.h"

#include <stdio.h>

void axi_policy_count(axon_policy *policy, axi_ask ask, axon_status status, const axon_timing *timing)
{
    axon_policy_stats *counts = &policy->counts;
    counts->calls++;
    counts->replies += status == AXON_OK;
    counts->timeouts += status == AXON_ETIMEOUT;
    counts->cancels += status == AXON_ECANCELED;
    if (status != AXON_OK || ask != AXI_ASK_STEP) return;
    policy->timing = *timing;
    policy->has_timing = true;
    policy->samples[counts->window++ % AXON_STATS_WINDOW] =
        (axi_sample){.total = (float)timing->total_ms,
                     .encode = (float)timing->encode_ms,
                     .send = (float)timing->send_ms,
                     .wait = (float)timing->wait_ms,
                     .decode = (float)timing->decode_ms,
                     .server = (float)timing->server_ms};
}

/* ---- parts of a call ----------------------------------------------------------------------- */

/* What a sample says of one part of the call; negative when it says nothing. */
typedef float (*part_of)(const axi_sample *sample);

static float total(const axi_sample *sample)
{
    return sample->total;
}

static float encode(const axi_sample *sample)
{
    return sample->encode;
}

static float send(const axi_sample *sample)
{
    return sample->send;
}

static float wait(const axi_sample *sample)
{
    return sample->wait;
}

static float decode(const axi_sample *sample)
{
    return sample->decode;
}

static float server(const axi_sample *sample)
{
    return sample->server;
}

static float network(const axi_sample *sample)
{
    if (sample->server < 0) return -1;
    float left = sample->send + sample->wait - sample->server;
    return left > 0 ? left : 0;
}

static float client(const axi_sample *sample)
{
    return sample->encode + sample->decode;
}

static axon_percentiles measure(const axon_policy *policy, size_t count, part_of part)
{
    float numbers[AXON_STATS_WINDOW];
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        float number = part(&policy->samples[i]);
        if (number >= 0) numbers[found++] = number;
    }
    return axi_percentiles_of(numbers, found);
}

/* ---- in words ------------------------------------------------------------------------------ */

/* Two digits that count, and no more: "212", "3.4", "0.43". */
static void print_ms(char *text, size_t size, double ms)
{
    snprintf(text, size, "%.*f ms", ms >= 10 ? 0 : ms >= 1 ? 1 : 2, ms);
}

static void judge(const axon_policy *policy, axon_policy_stats *stats)
{
    char far[24], near[24], ours[24];
    bool server_spoke = stats->server.max > 0 || stats->network.max > 0;
    print_ms(ours, sizeof ours, measure(policy, (size_t)stats->window, client).p50);
    print_ms(far, sizeof far, server_spoke ? stats->server.p50 : stats->send.p50 + stats->wait.p50);
    print_ms(near, sizeof near, stats->network.p50);
    if (stats->window == 0)
        snprintf(stats->verdict, sizeof stats->verdict, "no reply yet");
    else if (server_spoke)
        snprintf(stats->verdict, sizeof stats->verdict, "server %s, network %s, client %s", far, near,
                 ours);
    else
        snprintf(stats->verdict, sizeof stats->verdict, "server and network %s, client %s", far, ours);
}

axon_status axon_policy_get_stats(const axon_policy *policy, axon_policy_stats *stats, axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    if (!stats) return axi_fail(err, AXON_EINVAL, "stats: it is NULL");
    *stats = policy->counts;
    if (stats->window > AXON_STATS_WINDOW) stats->window = AXON_STATS_WINDOW;
    size_t count = (size_t)stats->window;
    stats->total = measure(policy, count, total);
    stats->encode = measure(policy, count, encode);
    stats->send = measure(policy, count, send);
    stats->wait = measure(policy, count, wait);
    stats->decode = measure(policy, count, decode);
    stats->server = measure(policy, count, server);
    stats->network = measure(policy, count, network);
    judge(policy, stats);
    return AXON_OK;
}

axon_status axon_policy_timing(const axon_policy *policy, axon_timing *timing, axon_error *err)
{
    if (!policy) return axi_fail(err, AXON_EINVAL, "policy: it is NULL");
    if (!timing) return axi_fail(err, AXON_EINVAL, "timing: it is NULL");
    if (!policy->has_timing) return axi_fail(err, AXON_EINVAL, "%s: no reply yet", policy->name);
    *timing = policy->timing;
    return AXON_OK;
}
