/* Streams and robot backends when memory runs out: every allocation of ours fails once, and nothing is lost or leaked. */
#include "checks.h"
#include "failing_malloc.h"

#include <axon/stream_server.h>

#include <poll.h>

#define COMMAND_TYPE "move"

static axon_error err;

static const char *const texts[] = {
    "{\"type\":\"imu_data\",\"imu_id\":\"i\",\"accelerometer\":{\"x\":1,\"y\":2,\"z\":3}}",
    "{\"type\":\"camera_feed\",\"camera_id\":\"c\",\"image_data\":\"R0lGODlhAQABAIAAAAAAAP\"}",
    "{\"type\":\"camera_feed\",\"camera_id\":\"c\",\"image_data\":\"no picture\"}",
    "no message",
};

static void a_message_is_read_or_memory_is_said_to_be_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        axon_status usual = i < 2 ? AXON_OK : AXON_EPROTOCOL;
        bool has_failed = true;
        for (long count = 0; has_failed; count++) {
            axon_message *message = NULL;
            fail_after(count);
            axon_status status = axon_message_read(texts[i], strlen(texts[i]), &message, &err);
            has_failed = fail_no_more();
            if (status != (has_failed ? AXON_ENOMEM : usual))
                fail_msg("%s: allocation %ld: %s", texts[i], count, err.message);
            axon_message_free(message);
        }
    }
}

static axon_value *make_status(void)
{
    axon_value *message = axon_value_map();
    axon_value_set(message, "type", axon_value_string("robot_status", AXON_ZSTRING));
    axon_value_set(message, "robot_id", axon_value_string("r", AXON_ZSTRING));
    return message;
}

/* A backend and a client say something to each other: the first failure. */
static axon_status talk(const axon_value *message)
{
    axon_stream_server_options here = {.size = sizeof here, .port = AXON_ANY_PORT, .stop_timeout_ms = 100};
    axon_stream_options there = {.size = sizeof there, .close_timeout_ms = 100, .connect_once = 1};
    axon_stream_server *server = NULL;
    axon_stream *stream = NULL;
    axon_command *command = NULL;
    axon_message *heard = NULL;
    axon_status status = axon_stream_server_open(&server, &here, &err);
    if (status == AXON_OK)
        status =
            axon_stream_open(&stream, axon_stream_server_url(server), AXON_ROBOT_CONTROL, &there, &err);
    if (status == AXON_OK) status = axon_stream_send_control(stream, "r", COMMAND_TYPE, NULL, "c", &err);
    if (status == AXON_OK) status = axon_stream_server_next(server, 20000, &command, &err);
    if (status == AXON_OK) status = axon_stream_server_publish(server, AXON_ROBOT_CONTROL, message, &err);
    if (status == AXON_OK) status = axon_stream_next(stream, NULL, 20000, &heard, &err);
    if (status == AXON_OK) status = axon_command_refuse(command, "payload", "no", &err);
    axon_message_free(heard);
    axon_command_free(command);
    axon_stream_close(stream);
    axon_stream_server_close(server);
    return status;
}

static void every_call_says_that_memory_is_out(void **state)
{
    (void)state;
    axon_value *message = make_status();
    bool has_failed = true;
    for (long count = 0; has_failed; count++) {
        fail_after(count);
        axon_status status = talk(message);
        has_failed = fail_no_more();
        if (status != AXON_OK && (status != AXON_ENOMEM || !has_failed))
            fail_msg("allocation %ld: %s", count, err.message);
    }
    axon_value_free(message);
}

/* The network's threads run out of memory: what they were at is lost, and then all goes on. */
static void what_is_lost_on_the_way_costs_nothing_else(void **state)
{
    (void)state;
    axon_stream_server_options here = {.size = sizeof here, .port = AXON_ANY_PORT, .stop_timeout_ms = 100};
    axon_stream_options there = {.size = sizeof there, .close_timeout_ms = 100, .retry_min_ms = 5};
    axon_stream_server *server = NULL;
    axon_stream *stream = NULL;
    axon_value *message = make_status();
    assert_ok(axon_stream_server_open(&server, &here, &err), &err);
    assert_ok(axon_stream_open(&stream, axon_stream_server_url(server), AXON_ROBOT_CONTROL, &there, &err),
              &err);
    for (long count = 0; count < 40; count++) {
        fail_elsewhere_after(count);
        for (int i = 0; i < 4; i++) {
            axon_stream_send_control(stream, "r", COMMAND_TYPE, NULL, NULL, NULL);
            assert_ok(axon_stream_server_publish(server, AXON_ROBOT_CONTROL, message, &err), &err);
        }
        poll(NULL, 0, 5);
        fail_elsewhere_no_more();
        axon_command *command = NULL;
        axon_message *heard = NULL;
        while (axon_stream_server_next(server, 0, &command, NULL) == AXON_OK)
            axon_command_free(command);
        while (axon_stream_next(stream, NULL, 0, &heard, NULL) == AXON_OK)
            axon_message_free(heard);
    }
    axon_message *heard = NULL;
    axon_status status = AXON_ETIMEOUT;
    for (int i = 0; i < 200 && status != AXON_OK; i++) {
        assert_ok(axon_stream_server_publish(server, AXON_ROBOT_CONTROL, message, &err), &err);
        status = axon_stream_next(stream, NULL, 100, &heard, &err);
    }
    assert_int_equal(status, AXON_OK);
    axon_message_free(heard);
    axon_value_free(message);
    axon_stream_close(stream);
    axon_stream_server_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_read_or_memory_is_said_to_be_out),
        cmocka_unit_test(every_call_says_that_memory_is_out),
        cmocka_unit_test(what_is_lost_on_the_way_costs_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
