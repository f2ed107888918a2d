/* Our WebSocket client under the Autobahn test suite: for every case of the suite's server it connects and sends
 * back what it gets.
 *
 *     echo_client URL AGENT     runs all cases, then has the reports written */
#include "ws.h"

#include <stdio.h>
#include <stdlib.h>

enum { CASE_MS = 60000, GOODBYE_MS = 5000, LIMIT = 64 << 20 };

static axi_ws *connect_to(const char *url)
{
    axi_ws_options options = {.retry_min_ms = 50, .retry_max_ms = 500, .max_message_bytes = LIMIT};
    axon_error err;
    axi_ws *ws = NULL;
    if (axi_ws_open(&ws, url, &options, axi_deadline(CASE_MS), &err) == AXON_OK) return ws;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

/* Echoes until the connection is over, as it is at the end of every case, for good or bad reasons: those are the
 * suite's to judge. Only a silent suite is told of here. */
static void run_case(const char *url)
{
    axi_ws *ws = connect_to(url);
    axi_time deadline = axi_deadline(CASE_MS);
    axi_ws_message message;
    axon_error err;
    axon_status status;
    while ((status = axi_ws_receive(ws, &message, deadline, &err)) == AXON_OK) {
        struct iovec part = {.iov_base = message.data, .iov_len = message.length};
        status = axi_ws_send(ws, &part, 1, message.is_text, deadline, &err);
        free(message.data);
        if (status != AXON_OK) break;
    }
    if (status == AXON_ETIMEOUT) fprintf(stderr, "%s\n", err.message);
    axi_ws_close(ws, axi_deadline(GOODBYE_MS));
}

static int count_cases(const char *base)
{
    char url[256];
    snprintf(url, sizeof url, "%s/getCaseCount", base);
    axi_ws *ws = connect_to(url);
    axi_ws_message message;
    axon_error err;
    int count = 0;
    if (axi_ws_receive(ws, &message, axi_deadline(CASE_MS), &err) == AXON_OK) {
        count = atoi((char *)message.data);
        free(message.data);
    }
    axi_ws_close(ws, axi_deadline(GOODBYE_MS));
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    char url[256];
    int count = count_cases(argv[1]);
    for (int i = 1; i <= count; i++) {
        snprintf(url, sizeof url, "%s/runCase?case=%d&agent=%s", argv[1], i, argv[2]);
        run_case(url);
    }
    snprintf(url, sizeof url, "%s/updateReports?agent=%s", argv[1], argv[2]);
    run_case(url);
    return count > 0 ? 0 : 1;
}
