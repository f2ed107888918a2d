/* The robot backend's server: our own streams against it, and a bare WebSocket client for what no proper one does. */
#include "checks.h"
#include "ws.h"

#include <axon/service.h>
#include <axon/stream_server.h>

#include <poll.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SOON_MS = 20000 /* never to be reached */, LARGE = 100000 };

static axon_error err;

/* ---- what the tests are written with ------------------------------------------------------------- */

static axon_stream_server *serve(axon_stream_server_options options)
{
    axon_stream_server *server = NULL;
    options.size = sizeof options;
    options.port = AXON_ANY_PORT;
    options.stop_timeout_ms = 200;
    assert_ok(axon_stream_server_open(&server, &options, &err), &err);
    return server;
}

static axon_stream *hear(const axon_stream_server *server, axon_endpoint endpoint, uint32_t depth)
{
    axon_stream_options options = {.size = sizeof options, .depth = depth, .close_timeout_ms = 200};
    axon_stream *stream = NULL;
    assert_ok(axon_stream_open(&stream, axon_stream_server_url(server), endpoint, &options, &err), &err);
    return stream;
}

/* Only reads when it is asked to. */
static axi_ws *bare(const axon_stream_server *server, const char *path)
{
    axi_ws_options options = {.max_message_bytes = 1 << 20, .is_attended = true};
    char url[128];
    axi_ws *ws = NULL;
    snprintf(url, sizeof url, "%s%s", axon_stream_server_url(server), path);
    assert_ok(axi_ws_open(&ws, url, &options, axi_deadline(SOON_MS), &err), &err);
    return ws;
}

static void say(axi_ws *ws, const char *text)
{
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    assert_ok(axi_ws_send(ws, &part, 1, true, axi_deadline(SOON_MS), &err), &err);
}

static void wait_for_clients(axon_stream_server *server, uint64_t count)
{
    axon_stream_server_stats stats = {.connections = ~0ull};
    for (int i = 0; i < 2000 && stats.connections != count; i++) {
        assert_ok(axon_stream_server_get_stats(server, &stats, &err), &err);
        poll(NULL, 0, 10);
    }
    assert_int_equal(stats.connections, count);
}

static axon_stream_server_stats stats_of(axon_stream_server *server)
{
    axon_stream_server_stats stats;
    assert_ok(axon_stream_server_get_stats(server, &stats, &err), &err);
    return stats;
}

static axon_message *next(axon_stream *stream)
{
    axon_message *message = NULL;
    assert_ok(axon_stream_next(stream, NULL, SOON_MS, &message, &err), &err);
    return message;
}

static int64_t number_of(const axon_message *message)
{
    int64_t number = -1;
    axon_value_as_int(axon_value_get(message->fields, "n"), &number);
    return number;
}

static axon_value *numbered(int64_t number, size_t length)
{
    static char padding[LARGE];
    memset(padding, 'x', sizeof padding);
    axon_value *message = axon_value_map();
    axon_value_set(message, "type", axon_value_string("number", AXON_ZSTRING));
    axon_value_set(message, "n", axon_value_int(number));
    axon_value_set(message, "padding", axon_value_string(padding, (int64_t)length));
    return message;
}

static void publish(axon_stream_server *server, int64_t number, size_t length)
{
    axon_value *message = numbered(number, length);
    assert_ok(axon_stream_server_publish(server, AXON_SENSOR_DATA, message, &err), &err);
    axon_value_free(message);
}

/* ---- sending ------------------------------------------------------------------------------------- */

static void every_client_of_an_endpoint_gets_what_is_published(void **state)
{
    (void)state;
    static const uint8_t gif[] = "GIF89a and more";
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axon_stream *sensors[3], *control = hear(server, AXON_ROBOT_CONTROL, 0);
    for (int i = 0; i < 3; i++)
        sensors[i] = hear(server, AXON_SENSOR_DATA, 0);
    wait_for_clients(server, 4);
    axon_image *image;
    assert_ok(axon_image_open_bytes(gif, sizeof gif, &image, &err), &err);
    axon_value *camera = axon_value_map();
    axon_value_set(camera, "type", axon_value_string("camera_feed", AXON_ZSTRING));
    axon_value_set(camera, "camera_id", axon_value_string("wrist", AXON_ZSTRING));
    axon_value_set(camera, "image_data", axon_value_image(image));
    assert_ok(axon_stream_server_publish(server, AXON_SENSOR_DATA, camera, &err), &err);
    axon_value_set(camera, "timestamp", axon_value_string("2026-11-21T15:04:05Z", AXON_ZSTRING));
    assert_ok(axon_stream_server_publish(server, AXON_SENSOR_DATA, camera, &err), &err);
    axon_value_free(camera);
    axon_image_close(image);
    for (int i = 0; i < 3; i++) {
        axon_message *m = next(sensors[i]);
        assert_int_equal(m->kind, AXON_MESSAGE_CAMERA_FEED);
        assert_string_equal(m->source_id, "wrist");
        assert_same_bytes((blob){(void *)(uintptr_t)m->image, m->image_length},
                          (blob){(void *)(uintptr_t)gif, sizeof gif}, "picture");
        assert_in_range(m->latency_ns, 0, 10000000000); /* the time was added */
        axon_message_free(m);
        m = next(sensors[i]);
        assert_int_equal(m->stamp_ns, 1795273445000000000);
        axon_message_free(m);
        axon_stream_close(sensors[i]);
    }
    axon_message *m;
    assert_fails(axon_stream_next(control, NULL, 50, &m, &err), AXON_ETIMEOUT, &err, "no message");
    axon_stream_close(control);
    axon_stream_server_stats stats = stats_of(server);
    assert_int_equal(stats.published, 2);
    assert_int_equal(stats.sent, 6);
    assert_int_equal(stats.skipped, 0);
    assert_int_equal(stats.accepted, 4);
    axon_stream_server_close(server);
}

static void a_message_that_does_not_travel_is_refused(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axon_value *message = axon_value_map();
    axon_endpoint endpoint = AXON_SENSOR_DATA;
    assert_fails(axon_stream_server_publish(server, endpoint, message, &err), AXON_EINVAL, &err,
                 "message \"type\": it is missing");
    axon_value_set(message, "type", axon_value_string("imu_data", AXON_ZSTRING));
    assert_fails(axon_stream_server_publish(server, (axon_endpoint)0, message, &err), AXON_EINVAL, &err,
                 "endpoint is 0");
    axon_value_set(message, "x", axon_value_float(NAN));
    assert_fails(axon_stream_server_publish(server, endpoint, message, &err), AXON_EINVAL, &err,
                 "message \"x\": NaN");
    assert_fails(axon_stream_server_publish(server, endpoint, NULL, &err), AXON_EINVAL, &err, "no map");
    axon_value_free(message);
    assert_int_equal(stats_of(server).published, 0);
    axon_stream_server_close(server);
}

static void a_client_that_takes_nothing_costs_the_others_nothing(void **state)
{
    (void)state;
    enum { MESSAGES = 300 };
    axon_stream_server *server = serve((axon_stream_server_options){
        .client_depth = 8, .client_bytes = 5 * LARGE, .stuck_timeout_ms = 1000});
    axon_stream *good = hear(server, AXON_SENSOR_DATA, 2 * MESSAGES);
    axi_ws *stalled = bare(server, "/ws/sensor_data");
    wait_for_clients(server, 2);
    for (int n = 0; n < MESSAGES; n++) {
        publish(server, n, LARGE);
        axon_message *m = next(good);
        assert_int_equal(number_of(m), n);
        axon_message_free(m);
    }
    wait_for_clients(server, 1); /* the stalled one is disconnected */
    assert_int_equal(stats_of(server).stuck, 1);
    assert_true(stats_of(server).skipped > 0);
    assert_true(stats_of(server).sent < 2 * MESSAGES);
    axon_stream_close(good);
    axi_ws_close(stalled, 0);
    axon_stream_server_close(server);
}

static void a_slow_client_gets_the_newest(void **state)
{
    (void)state;
    enum { MESSAGES = 300 };
    axon_stream_server *server = serve((axon_stream_server_options){.client_depth = 4});
    axi_ws *slow = bare(server, "/ws/sensor_data?token=1");
    wait_for_clients(server, 1);
    for (int n = 0; n < MESSAGES; n++)
        publish(server, n, LARGE);
    uint64_t skipped = stats_of(server).skipped;
    assert_true(skipped > 0);
    long last = -1;
    for (uint64_t heard = 0; heard < MESSAGES - skipped; heard++) {
        axi_ws_message message;
        assert_ok(axi_ws_receive(slow, &message, axi_deadline(SOON_MS), &err), &err);
        const char *number = strstr((char *)message.data, "\"n\":");
        long now = strtol(number + 4, NULL, 10);
        assert_true(now > last);
        last = now;
        free(message.data);
    }
    assert_int_equal(last, MESSAGES - 1);
    axi_ws_close(slow, axi_deadline(500));
    axon_stream_server_close(server);
}

/* ---- commands ------------------------------------------------------------------------------------ */

#define COMMAND                                                                                            \
    "{\"type\":\"direct_control\",\"robot_id\":\"r1\",\"command_type\":\"move\",\"command_id\":\"c1\","    \
    "\"payload\":{\"x\":1.5}}"

static void a_command_is_handed_out(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axon_stream *control = hear(server, AXON_ROBOT_CONTROL, 0);
    axon_value *payload = axon_value_map();
    axon_value_set(payload, "x", axon_value_float(1.5));
    assert_ok(axon_stream_send_control(control, "r1", "move", payload, NULL, &err), &err);
    assert_ok(axon_stream_send_control(control, "r2", "stop", NULL, "c2", &err), &err);
    axon_value_free(payload);
    axon_command *command = NULL;
    assert_ok(axon_stream_server_next(server, SOON_MS, &command, &err), &err);
    double x = 0;
    assert_ok(axon_value_as_float(axon_value_get(command->payload, "x"), &x), &err);
    assert_true(x == 1.5);
    assert_string_equal(command->robot_id, "r1");
    assert_string_equal(command->command_type, "move");
    assert_string_equal(command->command_id, "");
    assert_memory_equal(command->client, "127.0.0.1:", 10);
    axon_command_free(command);

    assert_ok(axon_stream_server_next(server, SOON_MS, &command, &err), &err);
    assert_string_equal(command->command_id, "c2");
    assert_ok(axon_command_refuse(command, "payload.speed", "it is too fast", &err), &err);
    axon_message *m = next(control);
    assert_string_equal(m->type, "error");
    assert_string_equal(m->command_id, "c2");
    assert_string_equal(m->text, "it is too fast");
    axon_message_free(m);
    assert_fails(axon_stream_server_next(server, 0, &command, &err), AXON_ETIMEOUT, &err, "no command");
    assert_int_equal(stats_of(server).commands, 2);
    axon_stream_close(control);
    axon_stream_server_close(server);
    axon_command_free(command); /* outlives its server */
}

static const struct {
    const char *text, *field, *words;
} wrong[] = {
    {"stop!", "", "the message: 's' at byte 0 of the JSON text"},
    {"[]", "", "the message is no object"},
    {"{\"robot_id\":\"r\"}", "type", "type is missing"},
    {"{\"type\":1}", "type", "type is no text"},
    {"{\"type\":\"reboot\"}", "type", "type is \\\"reboot\\\", not \\\"direct_control\\\""},
    {"{\"type\":\"direct_control\"}", "robot_id", "robot_id is missing"},
    {"{\"type\":\"direct_control\",\"robot_id\":\"\"}", "robot_id", "robot_id is empty"},
    {"{\"type\":\"direct_control\",\"robot_id\":[]}", "robot_id", "robot_id is no text"},
    {"{\"type\":\"direct_control\",\"robot_id\":\"r\",\"command_type\":7}", "command_type",
     "command_type is no text"},
    {"{\"type\":\"direct_control\",\"robot_id\":\"r\",\"command_type\":\"c\"}", "payload",
     "payload is missing"},
    {"{\"type\":\"direct_control\",\"robot_id\":\"r\",\"command_type\":\"c\",\"payload\":[]}", "payload",
     "payload is no object"},
    {"{\"type\":\"direct_control\",\"robot_id\":\"r\",\"command_type\":\"c\",\"payload\":{},\"command_id\":"
     "1}",
     "command_id", "command_id is no text"},
};

static void assert_error(axi_ws *ws, const char *field, const char *words)
{
    axi_ws_message message;
    char wanted[64];
    snprintf(wanted, sizeof wanted, "{\"type\":\"error\",\"field\":\"%s\",\"message\":\"", field);
    assert_ok(axi_ws_receive(ws, &message, axi_deadline(SOON_MS), &err), &err);
    const char *text = (char *)message.data;
    if (strncmp(text, wanted, strlen(wanted)) != 0 || !strstr(text, words))
        fail_msg("%s: not of %s: %s", text, field, words);
    free(message.data);
}

static void what_is_no_command_is_answered_with_the_field(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axi_ws *control = bare(server, "/ws/robot_control"), *sensors = bare(server, "/ws/sensor_data");
    size_t count = sizeof wrong / sizeof *wrong;
    for (size_t i = 0; i < count; i++) {
        say(control, wrong[i].text);
        assert_error(control, wrong[i].field, wrong[i].words);
    }
    struct iovec bytes = {"\x80", 1};
    assert_ok(axi_ws_send(control, &bytes, 1, false, axi_deadline(SOON_MS), &err), &err);
    assert_error(control, "", "binary, not text");
    say(control, COMMAND);
    axon_command *command;
    assert_ok(axon_stream_server_next(server, SOON_MS, &command, &err), &err);
    axon_command_free(command);
    say(sensors, COMMAND);
    assert_error(sensors, "", "this endpoint takes no messages");
    assert_int_equal(stats_of(server).bad_commands, count + 2);
    assert_int_equal(stats_of(server).commands, 1);
    axi_ws_close(control, axi_deadline(500));
    axi_ws_close(sensors, axi_deadline(500));
    axon_stream_server_close(server);
}

static void too_many_commands_are_refused(void **state)
{
    (void)state;
    axon_stream_server *server =
        serve((axon_stream_server_options){.max_commands = 3, .max_message_bytes = 1000});
    axi_ws *control = bare(server, "/ws/robot_control");
    for (int i = 0; i < 4; i++)
        say(control, COMMAND);
    assert_error(control, "", "too many commands wait (max_commands)");
    axon_command *command;
    for (int i = 0; i < 3; i++) {
        assert_ok(axon_stream_server_next(server, 0, &command, &err), &err);
        axon_command_free(command);
    }
    char long_one[1200];
    memset(long_one, ' ', sizeof long_one);
    long_one[sizeof long_one - 1] = 0;
    say(control, long_one);
    axi_ws_message message;
    assert_fails(axi_ws_receive(control, &message, axi_deadline(SOON_MS), &err), AXON_ECONNECT, &err,
                 "1009");
    axi_ws_close(control, 0);
    axon_stream_server_close(server);
}

static void who_sends_nonsense_and_reads_nothing_fills_no_memory(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axi_ws *control = bare(server, "/ws/robot_control");
    for (int i = 0; i < 20000; i++)
        say(control, "nonsense");
    for (int i = 0; i < 2000 && stats_of(server).bad_commands < 20000; i++)
        poll(NULL, 0, 10);
    assert_int_equal(stats_of(server).bad_commands, 20000);
    assert_error(control, "", "'n' at byte 0");
    axi_ws_close(control, 0);
    axon_stream_server_close(server);
}

/* ---- HTTP, ending --------------------------------------------------------------------------------- */

static void http_is_told_what_this_is(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){.max_connections = 1});
    const char *url = axon_stream_server_url(server);
    char http[64], elsewhere[96];
    snprintf(http, sizeof http, "http%s", url + 2);
    snprintf(elsewhere, sizeof elsewhere, "%s/ws/other", url);
    axon_service *service;
    axon_value *reply = NULL;
    assert_ok(axon_service_open(&service, http, NULL, &err), &err);
    assert_ok(axon_service_get(service, "/healthz", &reply, &err), &err);
    axon_value_free(reply);
    assert_fails(axon_service_get(service, "/ws/sensor_data", &reply, &err), AXON_ESERVER, &err,
                 "HTTP 426");
    assert_fails(axon_service_get(service, "/", &reply, &err), AXON_ESERVER, &err, "HTTP 404");
    axon_service_close(service);
    axi_ws_options options = {.max_message_bytes = 1000};
    axi_ws *ws = NULL;
    assert_fails(axi_ws_open(&ws, elsewhere, &options, axi_deadline(SOON_MS), &err), AXON_ESERVER, &err,
                 "404");
    axon_stream *one = hear(server, AXON_SENSOR_DATA, 0), *two = NULL;
    axon_stream_options once = {.size = sizeof once, .connect_once = 1};
    assert_fails(axon_stream_open(&two, url, AXON_SENSOR_DATA, &once, &err), AXON_ESERVER, &err, "503");
    axon_stream_close(one);
    assert_int_equal(stats_of(server).refused, 4);
    axon_stream_server_close(server);
}

static void a_key_is_asked_for_on_both_endpoints(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){.api_key = "secret"});
    const char *url = axon_stream_server_url(server);
    axon_stream *stream = NULL;
    for (int endpoint = AXON_ROBOT_CONTROL; endpoint <= AXON_SENSOR_DATA; endpoint++) {
        axon_stream_options o = {.size = sizeof o, .close_timeout_ms = 200};
        assert_fails(axon_stream_open(&stream, url, (axon_endpoint)endpoint, &o, &err), AXON_EAUTH, &err,
                     "An API key is needed");
        o.api_key = "secreT";
        assert_fails(axon_stream_open(&stream, url, (axon_endpoint)endpoint, &o, &err), AXON_EAUTH, &err,
                     "The API key is wrong");
        assert_int_equal(err.http_status, 401);
        o.api_key = "secret";
        assert_ok(axon_stream_open(&stream, url, (axon_endpoint)endpoint, &o, &err), &err);
        axon_stream_close(stream);
    }
    assert_int_equal(stats_of(server).refused, 4);
    assert_int_equal(stats_of(server).accepted, 2);
    char http[64];
    snprintf(http, sizeof http, "http%s", url + 2);
    axon_service *service;
    axon_value *reply = NULL;
    assert_ok(axon_service_open(&service, http, NULL, &err), &err);
    assert_ok(axon_service_get(service, "/healthz", &reply, &err), &err); /* without one */
    axon_value_free(reply);
    axon_service_close(service);
    axon_stream_server_close(server);
}

static void stopping_says_goodbye_to_everyone(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axi_ws *client = bare(server, "/ws/sensor_data");
    wait_for_clients(server, 1);
    axon_stream_server_stop(server);
    axi_ws_message message;
    assert_fails(axi_ws_receive(client, &message, axi_deadline(SOON_MS), &err), AXON_ECONNECT, &err,
                 "1001 (going away): the server is stopping");
    axon_command *command;
    assert_fails(axon_stream_server_next(server, AXON_FOREVER, &command, &err), AXON_ECANCELED, &err,
                 "stopped");
    axi_ws_close(client, 0);
    axon_stream_server_close(server);
    axon_stream_server_close(NULL);
    axon_stream_server_stop(NULL);
    axon_command_free(NULL);
}

static void commands_that_nobody_took_are_freed(void **state)
{
    (void)state;
    axon_stream_server *server = serve((axon_stream_server_options){0});
    axi_ws *client = bare(server, "/ws/robot_control");
    say(client, COMMAND);
    say(client, COMMAND);
    for (int i = 0; i < 2000 && stats_of(server).commands < 2; i++)
        poll(NULL, 0, 10);
    axon_command *command;
    assert_ok(axon_stream_server_next(server, 0, &command, &err), &err);
    axon_stream_server_close(server);
    assert_ok(axon_command_refuse(command, NULL, "too late", &err), &err);
    axon_command_free(command);
    axi_ws_close(client, 0);
}

static void misuse_is_named(void **state)
{
    (void)state;
    axon_stream_server *server = NULL;
    axon_stream_server_options options = {.size = sizeof options, .api_key = ""};
    assert_fails(axon_stream_server_open(&server, &options, &err), AXON_EINVAL, &err,
                 "api_key: it is empty");
    options = (axon_stream_server_options){.size = sizeof options, .port = 70000};
    assert_fails(axon_stream_server_open(&server, &options, &err), AXON_EINVAL, &err, "port: 70000");
    options.port = AXON_ANY_PORT;
    options.client_depth = 1 << 20;
    assert_fails(axon_stream_server_open(&server, &options, &err), AXON_EINVAL, &err,
                 "client_depth: 1048576, limit");
    options.client_depth = 0;
    options.host = "192.0.2.1";
    assert_fails(axon_stream_server_open(&server, &options, &err), AXON_EIO, &err, "192.0.2.1");
    assert_null(server);
    assert_fails(axon_stream_server_open(NULL, &options, &err), AXON_EINVAL, &err, "server");
    axon_command *command;
    assert_fails(axon_stream_server_next(NULL, 0, &command, &err), AXON_EINVAL, &err, "server");
    assert_fails(axon_command_refuse(NULL, NULL, "x", &err), AXON_EINVAL, &err, "command");
    assert_null(axon_stream_server_url(NULL));

    server = serve((axon_stream_server_options){0});
    pid_t child = fork();
    if (child == 0) {
        bool is_right = axon_stream_server_next(server, 0, &command, &err) == AXON_EINVAL;
        axon_stream_server_stop(server);
        axon_stream_server_close(server);
        _exit(is_right ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    axon_stream_close(hear(server, AXON_SENSOR_DATA, 0));
    axon_stream_server_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_client_of_an_endpoint_gets_what_is_published),
        cmocka_unit_test(a_message_that_does_not_travel_is_refused),
        cmocka_unit_test(a_client_that_takes_nothing_costs_the_others_nothing),
        cmocka_unit_test(a_slow_client_gets_the_newest),
        cmocka_unit_test(a_command_is_handed_out),
        cmocka_unit_test(what_is_no_command_is_answered_with_the_field),
        cmocka_unit_test(too_many_commands_are_refused),
        cmocka_unit_test(who_sends_nonsense_and_reads_nothing_fills_no_memory),
        cmocka_unit_test(http_is_told_what_this_is),
        cmocka_unit_test(a_key_is_asked_for_on_both_endpoints),
        cmocka_unit_test(stopping_says_goodbye_to_everyone),
        cmocka_unit_test(commands_that_nobody_took_are_freed),
        cmocka_unit_test(misuse_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
