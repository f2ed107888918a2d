/* Streams of a robot backend: what it says, and what becomes of it. */
#include "checks.h"
#include "fakes/ws_fake.c"
#include "iso_time.h"
#include "ws.h"

#include <axon/stream.h>

#include <stdatomic.h>
#include <sys/wait.h>

#define PNG                                                                                                \
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
#define CAMERA(id, picture)                                                                                \
    "{\"type\":\"camera_feed\",\"robot_id\":\"r1\",\"camera_id\":\"" id "\",\"image_data\":\"" picture     \
    "\",\"timestamp\":\"2026-11-21T15:04:05.5Z\"}"
#define PLAN(command, status)                                                                              \
    "{\"type\":\"action_plan_status\",\"command_id\":\"" command                                           \
    "\",\"action_id\":\"a\",\"status\":\"" status                                                          \
    "\",\"message\":\"so far\",\"timestamp\":\"2026-11-21T15:04:05Z\"}"
#define NUMBERED "{\"type\":\"number\",\"robot_id\":\"r%d\",\"n\":%d}"

enum { SOON_MS = 20000 /* never to be reached */ };

static axon_error err;

/* ---- what the tests are written with ------------------------------------------------------------- */

static const char *const *texts; /* what a backend says to each client, ending with NULL */

static bool say(ws_peer *peer, const char *text)
{
    return ws_send_frame(peer, 0x81, text, strlen(text));
}

static void say_all(ws_peer *peer)
{
    for (size_t i = 0; texts[i]; i++)
        say(peer, texts[i]);
    ws_wait_for_end(peer);
}

static ws_fake *serve(ws_script script)
{
    return ws_fake_begin((ws_fake){.script = script});
}

static axon_stream *open_with(const ws_fake *fake, axon_stream_options options)
{
    axon_stream *stream = NULL;
    options.size = sizeof options;
    if (!options.retry_min_ms) options.retry_min_ms = 10;
    if (!options.close_timeout_ms) options.close_timeout_ms = 100;
    assert_ok(axon_stream_open(&stream, fake->url, AXON_SENSOR_DATA, &options, &err), &err);
    return stream;
}

static void end(axon_stream *stream, ws_fake *fake)
{
    axon_stream_close(stream);
    ws_fake_stop(fake);
}

static axon_message *next(axon_stream *stream)
{
    axon_message *message = NULL;
    assert_ok(axon_stream_next(stream, NULL, SOON_MS, &message, &err), &err);
    return message;
}

static axon_stream_stats stats_of(axon_stream *stream)
{
    axon_stream_stats stats;
    assert_ok(axon_stream_get_stats(stream, &stats, &err), &err);
    return stats;
}

static void wait_for_received(axon_stream *stream, uint64_t count)
{
    for (int i = 0; i < 2000 && stats_of(stream).received < count; i++)
        ws_pause(10);
    assert_true(stats_of(stream).received >= count);
}

static int64_t number_of(const axon_message *message)
{
    int64_t number = -1;
    axon_value_as_int(axon_value_get(message->fields, "n"), &number);
    return number;
}

static axon_message *read_text(const char *text)
{
    axon_message *message = NULL;
    assert_ok(axon_message_read(text, strlen(text), &message, &err), &err);
    return message;
}

/* ---- messages ------------------------------------------------------------------------------------ */

static void every_message_of_the_document_is_read(void **state)
{
    (void)state;
    axon_message *m =
        read_text("{\"type\":\"robot_status\",\"robot_id\":\"r1\",\"status\":\"moving\",\"current_pose\":"
                  "{\"x\":1,\"y\":-2.5,\"z\":0.25,\"orientation\":\"0,0,0,1\"},\"timestamp\":\"2026-11-"
                  "21T15:04:05.5\"}");
    assert_int_equal(m->kind, AXON_MESSAGE_ROBOT_STATUS);
    assert_string_equal(m->type, "robot_status");
    assert_string_equal(m->robot_id, "r1");
    assert_string_equal(m->status, "moving");
    assert_string_equal(m->orientation, "0,0,0,1");
    assert_true(m->position[0] == 1 && m->position[1] == -2.5 && m->position[2] == 0.25);
    assert_int_equal(m->stamp_ns, 1795273445500000000);
    assert_true(isnan(m->accelerometer[0]) && !m->image && !*m->source_id && !*m->command_id);
    axon_message_free(m);

    m = read_text(PLAN("c7", "done"));
    assert_int_equal(m->kind, AXON_MESSAGE_ACTION_PLAN_STATUS);
    assert_string_equal(m->command_id, "c7");
    assert_string_equal(m->action_id, "a");
    assert_string_equal(m->status, "done");
    assert_string_equal(m->text, "so far");
    axon_message_free(m);

    m = read_text("{\"type\":\"imu_data\",\"robot_id\":\"r1\",\"imu_id\":\"i\",\"accelerometer\":"
                  "{\"x\":0.1,\"y\":0,\"z\":9.81},\"gyroscope\":{\"x\":1e-3,\"y\":0,\"z\":-1}}");
    assert_int_equal(m->kind, AXON_MESSAGE_IMU_DATA);
    assert_string_equal(m->source_id, "i");
    assert_true(m->accelerometer[2] == 9.81 && m->gyroscope[0] == 1e-3 && m->gyroscope[2] == -1);
    assert_true(m->stamp_ns == AXON_NO_TIME && m->latency_ns == AXON_NO_TIME);
    axon_message_free(m);
}

static void a_picture_is_decoded_however_it_was_written(void **state)
{
    (void)state;
    static const char *const forms[] = {CAMERA("wrist", PNG), CAMERA("wrist", "data:image/png;base64," PNG),
                                        CAMERA("wrist", PNG "\\n"), NULL /* in lines */,
                                        NULL /* with escaped slashes */};
    axon_message *first = read_text(forms[0]);
    assert_int_equal(first->kind, AXON_MESSAGE_CAMERA_FEED);
    assert_int_equal(first->image_format, AXON_IMAGE_PNG);
    assert_int_equal(first->width, 1);
    assert_int_equal(first->height, 1);
    assert_int_equal(first->image_length, 70);
    assert_string_equal(first->source_id, "wrist");
    assert_memory_equal(first->image, "\x89PNG\r\n\x1a\n", 8);
    for (size_t i = 1; i < 5; i++) {
        char text[512], *out = text;
        if (forms[i]) {
            strcpy(text, forms[i]);
        } else {
            size_t column = 0;
            bool in_picture = false;
            for (const char *at = forms[0]; *at; at++) {
                if (strncmp(at, PNG, 8) == 0) in_picture = true;
                if (*at == '"') in_picture = false;
                if (in_picture && i == 3 && column++ % 40 == 39) out = stpcpy(out, "\\n");
                if (in_picture && i == 4 && *at == '/') *out++ = '\\';
                *out++ = *at;
            }
            *out = 0;
        }
        axon_message *m = read_text(text);
        assert_same_bytes((blob){(void *)(uintptr_t)m->image, m->image_length},
                          (blob){(void *)(uintptr_t)first->image, first->image_length}, text);
        axon_message_free(m);
    }
    axon_array pixels;
    assert_ok(axon_message_decode(first, AXON_RGB, &pixels, &err), &err);
    assert_int_equal(pixels.ndim, 3);
    assert_int_equal(pixels.shape[2], 3);
    axon_free((void *)(uintptr_t)pixels.data);

    const void *bytes;
    size_t length;
    assert_ok(axon_value_as_bytes(axon_value_get(first->fields, "image_data"), &bytes, &length), &err);
    assert_ptr_equal(bytes, first->image);
    axon_message_free(first);
}

static void unknown_types_and_fields_are_handed_through(void **state)
{
    (void)state;
    axon_message *m = read_text("{\"type\":\"lidar_scan\",\"robot_id\":\"r2\",\"ranges\":[1,2,3],"
                                "\"accelerometer\":\"none\",\"timestamp\":1795273445.5}");
    assert_int_equal(m->kind, AXON_MESSAGE_OTHER);
    assert_string_equal(m->type, "lidar_scan");
    assert_string_equal(m->robot_id, "r2");
    assert_int_equal(axon_value_count(axon_value_get(m->fields, "ranges")), 3);
    assert_int_equal(m->stamp_ns, 1795273445500000000);
    axon_message_free(m);
    m = read_text("{\"type\":\"robot_status\",\"robot_id\":\"r\",\"status\":\"idle\",\"battery\":0.5}");
    double battery = 0;
    assert_ok(axon_value_as_float(axon_value_get(m->fields, "battery"), &battery), &err);
    assert_true(battery == 0.5 && m->kind == AXON_MESSAGE_ROBOT_STATUS && isnan(m->position[0]));
    axon_message_free(m);
    m = read_text("{\"type\":\"other\",\"robot_id\":7}");
    assert_string_equal(m->robot_id, "");
    axon_message_free(m);
}

static const struct {
    const char *text, *words;
} faults[] = {
    {"hello", "message: 'h' at byte 0 of the JSON text"},
    {"", "the JSON text ends after 0 bytes"},
    {"{\"type\":\"imu_data\"", "the JSON text ends"},
    {"[1,2]", "message is a list, not an object"},
    {"3", "message is a number, not an object"},
    {"{\"robot_id\":\"r\"}", "message: type is missing"},
    {"{\"type\":5}", "message: type is a number, not text"},
    {"{\"type\":\"robot_status\",\"robot_id\":7}", "robot_status: robot_id is a number, not text"},
    {"{\"type\":\"robot_status\",\"status\":{}}", "robot_status: status is an object, not text"},
    {"{\"type\":\"robot_status\",\"current_pose\":[1,2,3]}", "current_pose is a list, not an object"},
    {"{\"type\":\"robot_status\",\"current_pose\":{\"x\":1,\"z\":1}}", "current_pose.y is missing"},
    {"{\"type\":\"robot_status\",\"timestamp\":[]}", "timestamp is a list, not text"},
    {"{\"type\":\"action_plan_status\",\"command_id\":1}", "command_id is a number, not text"},
    {"{\"type\":\"imu_data\",\"imu_id\":\"i\",\"gyroscope\":{\"x\":\"fast\",\"y\":0,\"z\":0}}",
     "imu_data of i: gyroscope.x is text, not a number"},
    {"{\"type\":\"imu_data\",\"accelerometer\":3}", "accelerometer is a number, not an object"},
    {"{\"type\":\"camera_feed\",\"camera_id\":\"c\"}", "camera_feed of c: image_data is missing"},
    {"{\"type\":\"camera_feed\",\"image_data\":[]}", "image_data is a list, not text"},
    {CAMERA("c", ""), "camera_feed of c: image_data is no picture"},
    {CAMERA("c", "aGVsbG8gd29ybGQ="),
     "image_data is no picture: image_data: not a picture: begins with 68"},
    {CAMERA("c", "not base64!"), "image_data is not base64"},
    {CAMERA("c", "iVBORw0KGgoAAAAN"), "PNG without its header"},
};

static void what_is_no_message_is_a_fault_that_names_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        axon_message *message = NULL;
        assert_fails(axon_message_read(faults[i].text, strlen(faults[i].text), &message, &err),
                     AXON_EPROTOCOL, &err, faults[i].words);
        assert_null(message);
    }
}

static void say_all_faults(ws_peer *peer)
{
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        say(peer, faults[i].text);
    ws_send_frame(peer, 0x82, "\x00\x01", 2);
    say(peer, PLAN("c", "done"));
    ws_wait_for_end(peer);
}

static void after_faults_the_stream_goes_on(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_all_faults);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    size_t count = sizeof faults / sizeof *faults;
    for (size_t i = 0; i <= count; i++) {
        axon_message *m = next(stream);
        assert_int_equal(m->kind, AXON_MESSAGE_FAULT);
        assert_non_null(strstr(m->fault, i < count ? faults[i].words : "2 bytes of binary data"));
        axon_message_free(m);
    }
    axon_message *m = next(stream);
    assert_int_equal(m->kind, AXON_MESSAGE_ACTION_PLAN_STATUS);
    axon_message_free(m);
    assert_int_equal(stats_of(stream).faults, count + 1);
    assert_int_equal(stats_of(stream).gaps, 0);
    end(stream, fake);
}

/* ---- TLS ----------------------------------------------------------------------------------------- */

static ws_fake *serve_tls(const char *name, const ws_identity *authority)
{
    ws_identity identity = ws_certify(name, 3600, authority);
    ws_fake *fake = ws_fake_begin((ws_fake){.script = say_all, .tls = ws_tls_of(&identity)});
    ws_forget_identity(&identity);
    return fake;
}

static void a_trusted_backend_is_heard_over_tls_and_no_other(void **state)
{
    (void)state;
    static const char *const said[] = {CAMERA("c", PNG), NULL};
    texts = said;
    char ca_path[] = "/tmp/axon-ca-XXXXXX";
    ws_identity authority = ws_certify(NULL, 3600, NULL);
    close(mkstemp(ca_path));
    ws_write_pem(&authority, ca_path);
    ws_fake *trusted = serve_tls("IP:127.0.0.1", &authority),
            *elsewhere = serve_tls("DNS:robot.example", &authority);
    axon_stream *stream = open_with(trusted, (axon_stream_options){.ca_file = ca_path});
    assert_memory_equal(axon_stream_url(stream), "wss://", 6);
    axon_message *m = next(stream);
    assert_int_equal(m->kind, AXON_MESSAGE_CAMERA_FEED);
    axon_message_free(m);
    axon_stream_close(stream);

    axon_stream_options o = {.size = sizeof o, .close_timeout_ms = 100};
    assert_fails(axon_stream_open(&stream, trusted->url, AXON_SENSOR_DATA, &o, &err), AXON_ECONNECT, &err,
                 "not trusted");
    o.ca_file = ca_path;
    assert_fails(axon_stream_open(&stream, elsewhere->url, AXON_SENSOR_DATA, &o, &err), AXON_ECONNECT, &err,
                 "not for 127.0.0.1");
    o.tls_insecure = 1;
    assert_ok(axon_stream_open(&stream, elsewhere->url, AXON_SENSOR_DATA, &o, &err), &err);
    axon_message_free(next(stream));
    end(stream, elsewhere);
    ws_fake_stop(trusted);
    ws_forget_identity(&authority);
    unlink(ca_path);
}

/* ---- time ---------------------------------------------------------------------------------------- */

static void say_times(ws_peer *peer)
{
    static const int64_t offsets_ms[] = {-20, 60000, -3600000, -500, -100000000};
    for (size_t i = 0; i < sizeof offsets_ms / sizeof *offsets_ms; i++) {
        char text[256], stamp[AXI_ISO_TIME_ROOM];
        axi_iso_time_print(stamp, axi_wall_time() + offsets_ms[i] * 1000000);
        snprintf(text, sizeof text, "{\"type\":\"imu_data\",\"timestamp\":\"%s\"}", stamp);
        say(peer, text);
    }
    say(peer, "{\"type\":\"imu_data\",\"timestamp\":\"half past nine\"}");
    ws_wait_for_end(peer);
}

static void a_clock_that_jumps_makes_no_latency(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_times);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    for (int i = 0; i < 6; i++) {
        axon_message *m = next(stream);
        assert_int_equal(m->kind, AXON_MESSAGE_IMU_DATA);
        assert_int_equal(m->stamp_ns == AXON_NO_TIME, i == 5);
        bool is_plausible = i == 0 || i == 3;
        if (is_plausible)
            assert_in_range(m->latency_ns, i == 0 ? 20000000 : 500000000, 10000000000);
        else
            assert_true(m->latency_ns == AXON_NO_TIME);
        assert_true(m->received_ns > 1700000000000000000);
        axon_message_free(m);
    }
    assert_int_equal(stats_of(stream).odd_time, 3);
    assert_int_equal(stats_of(stream).unknown_time, 1);
    end(stream, fake);
}

/* ---- buffers ------------------------------------------------------------------------------------- */

static void say_thirty(ws_peer *peer)
{
    for (int n = 0; n < 30; n++) {
        char text[96];
        snprintf(text, sizeof text, NUMBERED, n % 3, n);
        say(peer, text);
    }
    ws_wait_for_end(peer);
}

static void the_oldest_give_way_and_are_counted(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_thirty);
    axon_stream *stream = open_with(fake, (axon_stream_options){.depth = 4});
    wait_for_received(stream, 30);
    for (int i = 0; i < 12; i++) {
        axon_message *m = next(stream);
        assert_int_equal(number_of(m), 18 + i);
        assert_int_equal(m->dropped, i < 3 ? 6 : 0);
        axon_message_free(m);
    }
    assert_int_equal(stats_of(stream).dropped, 18);
    assert_int_equal(stats_of(stream).waiting, 0);
    assert_int_equal(stats_of(stream).waiting_bytes, 0);
    axon_channel_stats channel;
    assert_ok(axon_stream_get_channel(stream, 2, &channel, &err), &err);
    assert_string_equal(channel.robot_id, "r2");
    assert_int_equal(channel.received, 10);
    assert_int_equal(channel.dropped, 6);
    assert_fails(axon_stream_get_channel(stream, 3, &channel, &err), AXON_EINVAL, &err, "there are 3");
    end(stream, fake);
}

static void of_the_latest_there_is_one_per_channel(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_thirty);
    axon_stream *stream = open_with(fake, (axon_stream_options){.overflow = AXON_LATEST_ONLY, .depth = 9});
    wait_for_received(stream, 30);
    assert_int_equal(stats_of(stream).waiting, 3);
    axon_message_filter one = {.size = sizeof one, .robot_id = "r1"};
    axon_message *m;
    assert_ok(axon_stream_next(stream, &one, 0, &m, &err), &err);
    assert_int_equal(number_of(m), 28);
    assert_int_equal(m->dropped, 9);
    axon_message_free(m);
    assert_fails(axon_stream_next(stream, &one, 0, &m, &err), AXON_ETIMEOUT, &err,
                 "no message (timeout_ms)");
    axon_message_filter none = {.size = sizeof none, .type = "number", .source_id = "c"};
    assert_fails(axon_stream_next(stream, &none, 10, &m, &err), AXON_ETIMEOUT, &err, "no message");
    assert_int_equal(stats_of(stream).waiting, 2);
    end(stream, fake);
}

static void say_three_thousand(ws_peer *peer)
{
    char text[4096];
    memset(text, ' ', sizeof text);
    for (int n = 0; n < 3000; n++) {
        int used = snprintf(text, sizeof text, NUMBERED, 0, n);
        text[used] = ' ';
        ws_send_frame(peer, 0x81, text, sizeof text);
        ws_note(peer, 0, n);
    }
    ws_wait_for_end(peer);
}

static void blocking_loses_nothing(void **state)
{
    (void)state;
    ws_fake *fake = ws_fake_begin((ws_fake){.script = say_three_thousand, .buffer_bytes = 65536});
    axon_stream *stream = open_with(fake, (axon_stream_options){.overflow = AXON_BLOCK, .depth = 8});
    for (int i = 0; i < 2000 && stats_of(stream).waiting < 8; i++)
        ws_pause(10);
    ws_pause(200);
    assert_int_equal(stats_of(stream).waiting, 8);
    assert_true(ws_noted(fake, 0) < 2999); /* the backend has to wait */
    for (int n = 0; n < 3000; n++) {
        axon_message *m = next(stream);
        assert_int_equal(number_of(m), n);
        axon_message_free(m);
    }
    assert_int_equal(stats_of(stream).dropped, 0);
    end(stream, fake);
}

static void memory_has_a_limit(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_three_thousand);
    axon_stream *stream = open_with(fake, (axon_stream_options){.depth = 5000, .max_buffer_bytes = 100000});
    wait_for_received(stream, 3000);
    axon_stream_stats stats = stats_of(stream);
    assert_in_range(stats.waiting, 10, 24);
    assert_in_range(stats.waiting_bytes, 40000, 100000);
    assert_int_equal(stats.dropped + stats.waiting, 3000);
    end(stream, fake);
}

static void say_many_channels(ws_peer *peer)
{
    for (int n = 0; n < 100; n++) {
        char text[96];
        snprintf(text, sizeof text, NUMBERED, n, n);
        say(peer, text);
    }
    ws_wait_for_end(peer);
}

static void beyond_the_most_channels_the_rest_share_one(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_many_channels);
    axon_stream *stream = open_with(fake, (axon_stream_options){.max_channels = 10, .depth = 5});
    wait_for_received(stream, 100);
    assert_int_equal(stats_of(stream).channels, 11);
    for (int i = 0; i < 15; i++) {
        axon_message *m = next(stream);
        assert_int_equal(number_of(m), i < 10 ? i : 85 + i);
        axon_message_free(m);
    }
    assert_int_equal(stats_of(stream).dropped, 85);
    end(stream, fake);
}

static void say_many_numbers(ws_peer *peer)
{
    static const char begin[] = "{\"type\":\"number\",\"n\":[0";
    char text[20000];
    size_t used = sizeof begin - 1;
    memcpy(text, begin, used);
    while (used < 10000)
        used += (size_t)snprintf(text + used, sizeof text - used, ",0");
    snprintf(text + used, sizeof text - used, "]}");
    for (int n = 0; n < 20; n++)
        say(peer, text);
    ws_wait_for_end(peer);
}

static void what_a_message_takes_is_counted_not_its_text_alone(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_many_numbers);
    axon_stream *stream = open_with(fake, (axon_stream_options){.max_buffer_bytes = 1000000});
    wait_for_received(stream, 20);
    assert_in_range(stats_of(stream).waiting, 2, 6);
    assert_in_range(stats_of(stream).waiting_bytes, 400000, 1000000);
    end(stream, fake);
}

/* ---- connections --------------------------------------------------------------------------------- */

static void hang_up_twice(ws_peer *peer)
{
    char text[96];
    snprintf(text, sizeof text, NUMBERED, 0, peer->number);
    say(peer, text);
    if (peer->number == 1) ws_reset(peer);
    if (peer->number == 2) ws_send_close(peer, 1012, "new firmware");
    if (peer->number > 2) ws_wait_for_end(peer);
}

static void a_gap_is_told_in_its_place(void **state)
{
    (void)state;
    ws_fake *fake = serve(hang_up_twice);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    for (int i = 0; i < 5; i++) {
        axon_message *m = next(stream);
        if (i % 2 == 0) {
            assert_int_equal(number_of(m), i / 2 + 1);
        } else {
            assert_int_equal(m->kind, AXON_MESSAGE_GAP);
            assert_true(m->gap_attempts >= 1 && m->gap_ns > 0 && m->gap_since_ns > 1700000000000000000);
            if (i == 3) assert_non_null(strstr(m->fault, "1012 (service restart): new firmware"));
            assert_null(m->fields);
        }
        axon_message_free(m);
    }
    assert_int_equal(stats_of(stream).gaps, 2);
    end(stream, fake);
}

static void a_backend_that_is_away_is_tried_until_it_is_back(void **state)
{
    (void)state;
    static const char *const hello[] = {"{\"type\":\"hello\"}", NULL};
    texts = hello;
    ws_fake *fake = serve(say_all);
    axon_stream *stream = open_with(fake, (axon_stream_options){.retry_max_ms = 50});
    axon_message_free(next(stream));
    int port = fake->port;
    ws_fake_stop(fake);
    for (int i = 0; i < 2000 && stats_of(stream).is_connected; i++)
        ws_pause(10);
    axon_message *m;
    assert_fails(axon_stream_next(stream, NULL, 300, &m, &err), AXON_ETIMEOUT, &err,
                 "there has been no connection for");
    assert_fails(axon_stream_send_control(stream, "r", "stop", NULL, NULL, &err), AXON_ECONNECT, &err,
                 "/ws/sensor_data: there is no connection: ");
    assert_null(strstr(strstr(err.message, "ws://") + 1, "ws://")); /* the URL stands there once */
    assert_int_equal(stats_of(stream).is_connected, 0);
    fake = ws_fake_begin((ws_fake){.script = say_all, .port = port});
    m = next(stream);
    assert_int_equal(m->kind, AXON_MESSAGE_GAP);
    assert_true(m->gap_attempts >= 1 && m->gap_ns >= 250000000);
    axon_message_free(m);
    m = next(stream);
    assert_string_equal(m->type, "hello");
    axon_message_free(m);
    end(stream, fake);
}

static void a_lost_connection_may_stay_lost(void **state)
{
    (void)state;
    ws_fake *fake = serve(hang_up_twice);
    axon_stream *stream = open_with(fake, (axon_stream_options){.no_reconnect = 1});
    axon_message *m = next(stream);
    axon_message_free(m);
    assert_fails(axon_stream_next(stream, NULL, SOON_MS, &m, &err), AXON_ECONNECT, &err,
                 "connection reset");
    assert_fails(axon_stream_send_control(stream, "r", "stop", NULL, NULL, &err), AXON_ECONNECT, &err,
                 "connection reset");
    assert_int_equal(ws_accepted(fake), 1);
    end(stream, fake);
}

static void send_much(ws_peer *peer)
{
    static char text[70000];
    memset(text, ' ', sizeof text);
    if (peer->number == 1) ws_send_frame(peer, 0x81, text, sizeof text);
    say(peer, PLAN("c", "done"));
    ws_wait_for_end(peer);
}

static void a_message_that_is_too_long_is_a_fault(void **state)
{
    (void)state;
    ws_fake *fake = serve(send_much);
    axon_stream *stream = open_with(fake, (axon_stream_options){.max_message_bytes = 65536});
    axon_message *m = next(stream);
    assert_int_equal(m->kind, AXON_MESSAGE_FAULT);
    assert_non_null(strstr(m->fault, "(max_message_bytes)"));
    axon_message_free(m);
    m = next(stream);
    assert_int_equal(m->kind, AXON_MESSAGE_GAP);
    axon_message_free(m);
    m = next(stream);
    assert_string_equal(m->status, "done");
    axon_message_free(m);
    end(stream, fake);
}

static void ping_and_note(ws_peer *peer)
{
    ws_frame frame;
    ws_send_frame(peer, 0x89, "there?", 6);
    if (!ws_expect(peer, 10, &frame)) return;
    ws_note(peer, 0, (long)frame.length);
    free(frame.payload);
    if (!ws_expect(peer, 10, &frame)) return;
    ws_note(peer, 1, 1 + (long)frame.length);
    free(frame.payload);
    ws_wait_for_end(peer);
}

static void pings_are_answered_and_a_silent_backend_is_sent_signs_of_life(void **state)
{
    (void)state;
    ws_fake *fake = serve(ping_and_note);
    axon_stream *stream = open_with(fake, (axon_stream_options){.alive_interval_ms = 50});
    for (int i = 0; i < 1000 && !ws_noted(fake, 1); i++)
        ws_pause(10);
    assert_int_equal(ws_noted(fake, 0), 6);
    assert_int_equal(ws_noted(fake, 1), 1);
    end(stream, fake);
}

static void the_url_may_be_short(void **state)
{
    (void)state;
    static const char *const nothing[] = {NULL};
    texts = nothing;
    ws_fake *fake = serve(say_all);
    axon_stream_options options = {.size = sizeof options, .close_timeout_ms = 100};
    char url[128], requested[WS_FAKE_HEAD];
    static const char *const forms[] = {"127.0.0.1:%d", "http://127.0.0.1:%d/",
                                        "ws://127.0.0.1:%d/ws/sensor_data"};
    for (int i = 0; i < 3; i++) {
        axon_stream *stream = NULL;
        snprintf(url, sizeof url, forms[i], fake->port);
        assert_ok(
            axon_stream_open(&stream, url, i == 1 ? AXON_ROBOT_CONTROL : AXON_SENSOR_DATA, &options, &err),
            &err);
        const char *path = i == 1 ? "/ws/robot_control" : "/ws/sensor_data";
        assert_non_null(strstr(axon_stream_url(stream), path));
        ws_requested(fake, requested);
        assert_non_null(strstr(requested, path));
        axon_stream_close(stream);
    }
    ws_fake_stop(fake);
}

static void credentials_go_along(void **state)
{
    (void)state;
    static const char *const nothing[] = {NULL};
    texts = nothing;
    ws_fake *fake = serve(say_all);
    char requested[WS_FAKE_HEAD];
    axon_stream_close(open_with(fake, (axon_stream_options){.depth = 1}));
    ws_requested(fake, requested);
    assert_null(strcasestr(requested, "authorization"));
    axon_stream_close(open_with(fake, (axon_stream_options){.api_key = "a key"}));
    ws_requested(fake, requested);
    assert_non_null(strcasestr(requested, "\r\nAuthorization: Api-Key a key\r\n"));
    end(open_with(fake, (axon_stream_options){.authorization = "Bearer token"}), fake);
}

static void nobody_there_is_told_within_the_deadline(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_all);
    char url[64];
    strcpy(url, fake->url);
    ws_fake_stop(fake);
    axon_stream *stream = NULL;
    axon_stream_options options = {.size = sizeof options, .connect_timeout_ms = 200};
    assert_fails(axon_stream_open(&stream, url, AXON_SENSOR_DATA, &options, &err), AXON_ECONNECT, &err,
                 url);
    options.connect_once = 1;
    assert_fails(axon_stream_open(&stream, url, AXON_SENSOR_DATA, &options, &err), AXON_ECONNECT, &err,
                 "refused");
    assert_fails(axon_stream_open(&stream, "ftp://x", AXON_SENSOR_DATA, NULL, &err), AXON_EINVAL, &err,
                 "ftp");
    assert_fails(axon_stream_open(&stream, "", AXON_SENSOR_DATA, NULL, &err), AXON_EINVAL, &err, "empty");
    assert_fails(axon_stream_open(&stream, url, (axon_endpoint)3, NULL, &err), AXON_EINVAL, &err,
                 "endpoint is 3");
    options.overflow = (axon_overflow)9;
    assert_fails(axon_stream_open(&stream, url, AXON_SENSOR_DATA, &options, &err), AXON_EINVAL, &err,
                 "overflow is 9");
    assert_null(stream);
}

/* ---- the subscriber ------------------------------------------------------------------------------ */

typedef struct {
    axon_stream *stream;
    atomic_int calls;
    int64_t last;
    bool ends_itself, is_in_order;
} hearer;

static void hear(void *user, const axon_message *message)
{
    hearer *self = user;
    int64_t number = number_of(message);
    if (number <= self->last) self->is_in_order = false;
    self->last = number;
    if (self->ends_itself && number == 4)
        assert_int_equal(axon_stream_subscribe(self->stream, NULL, NULL, NULL), AXON_OK);
    atomic_fetch_add(&self->calls, 1);
}

static void a_subscriber_hears_everything_in_order(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_thirty);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    hearer self = {.stream = stream, .last = -1, .is_in_order = true};
    assert_ok(axon_stream_subscribe(stream, hear, &self, &err), &err);
    axon_message *m;
    assert_fails(axon_stream_subscribe(stream, hear, &self, &err), AXON_EINVAL, &err, "subscriber already");
    assert_fails(axon_stream_next(stream, NULL, 0, &m, &err), AXON_EINVAL, &err, "it has a subscriber");
    for (int i = 0; i < 1000 && atomic_load(&self.calls) < 30; i++)
        ws_pause(10);
    assert_ok(axon_stream_subscribe(stream, NULL, NULL, &err), &err);
    assert_int_equal(atomic_load(&self.calls), 30);
    assert_true(self.is_in_order);
    assert_fails(axon_stream_next(stream, NULL, 0, &m, &err), AXON_ETIMEOUT, &err, "no message");
    end(stream, fake);
}

static void a_subscriber_may_end_itself(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_thirty);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    hearer self = {.stream = stream, .last = -1, .is_in_order = true, .ends_itself = true};
    wait_for_received(stream, 30);
    assert_ok(axon_stream_subscribe(stream, hear, &self, &err), &err);
    for (int i = 0; i < 1000 && atomic_load(&self.calls) < 5; i++)
        ws_pause(10);
    axon_message *m = next(stream);
    assert_int_equal(number_of(m), 5);
    axon_message_free(m);
    self.ends_itself = false;
    assert_ok(axon_stream_subscribe(stream, hear, &self, &err), &err);
    for (int i = 0; i < 1000 && atomic_load(&self.calls) < 29; i++)
        ws_pause(10);
    assert_int_equal(atomic_load(&self.calls), 29);
    end(stream, fake);
}

/* ---- commands ------------------------------------------------------------------------------------ */

/* Says each command back, as a status whose message is the command. */
static void echo(ws_peer *peer)
{
    for (ws_frame frame; ws_expect(peer, 1, &frame); free(frame.payload))
        ws_send_frame(peer, 0x81, frame.payload, frame.length);
}

static void a_command_arrives_as_it_was_meant(void **state)
{
    (void)state;
    ws_fake *fake = serve(echo);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    axon_value *payload = axon_value_map();
    axon_value_set(payload, "speed", axon_value_float(0.5));
    assert_ok(axon_stream_send_control(stream, "r1", "move", payload, "c1", &err), &err);
    assert_ok(axon_stream_send_control(stream, "r\"1\"", "stop", NULL, NULL, &err), &err);
    assert_ok(axon_stream_send(stream, payload, &err), &err);
    static const char *const wanted[] = {
        "{\"type\":\"direct_control\",\"robot_id\":\"r1\",\"command_type\":\"move\",\"command_id\":\"c1\","
        "\"payload\":{\"speed\":0.5}}",
        "{\"type\":\"direct_control\",\"robot_id\":\"r\\\"1\\\"\",\"command_type\":\"stop\",\"payload\":{}"
        "}"};
    for (int i = 0; i < 2; i++) {
        axon_message *m = next(stream);
        char *text;
        assert_ok(axon_value_to_json(m->fields, &text, NULL, &err), &err);
        assert_string_equal(text, wanted[i]);
        axon_free(text);
        axon_message_free(m);
    }
    assert_fails(axon_stream_send_control(stream, "", "move", payload, NULL, &err), AXON_EINVAL, &err,
                 "\"robot_id\": it is empty");
    assert_fails(axon_stream_send_control(stream, "r", NULL, payload, NULL, &err), AXON_EINVAL, &err,
                 "\"command_type\"");
    axon_value *number = axon_value_int(1);
    assert_fails(axon_stream_send_control(stream, "r", "c", number, NULL, &err), AXON_EINVAL, &err,
                 "\"payload\": it is no map");
    assert_fails(axon_stream_send(stream, number, &err), AXON_EINVAL, &err, "no map");
    axon_value_free(number);
    axon_value_set(payload, "speed", axon_value_float(NAN));
    assert_fails(axon_stream_send_control(stream, "r", "c", payload, NULL, &err), AXON_EINVAL, &err,
                 "\"payload.speed\": NaN");
    axon_value_free(payload);
    assert_int_equal(stats_of(stream).sent, 3);
    end(stream, fake);
}

static void *send_hundred(void *argument)
{
    axon_error error;
    for (int i = 0; i < 100; i++)
        if (axon_stream_send_control(argument, "r", "c", NULL, NULL, &error) != AXON_OK) return argument;
    return NULL;
}

static void many_threads_may_send_while_messages_come(void **state)
{
    (void)state;
    ws_fake *fake = serve(echo);
    axon_stream *stream = open_with(fake, (axon_stream_options){.depth = 1000});
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_hundred, stream), 0);
    for (int i = 0; i < 400; i++)
        axon_message_free(next(stream));
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    end(stream, fake);
}

static void while_it_blocks_commands_are_sent_all_the_same(void **state)
{
    (void)state;
    ws_fake *fake = serve(echo);
    axon_stream *stream = open_with(fake, (axon_stream_options){.overflow = AXON_BLOCK, .depth = 1});
    for (int i = 0; i < 20; i++)
        assert_ok(axon_stream_send_control(stream, "r", "c", NULL, NULL, &err), &err);
    for (int i = 0; i < 20; i++)
        axon_message_free(next(stream));
    end(stream, fake);
}

static void the_status_of_a_command_is_found(void **state)
{
    (void)state;
    static const char *const plans[] = {PLAN("c1", "accepted"), PLAN("c2", "failed"), PLAN("c1", "running"),
                                        NULL};
    texts = plans;
    ws_fake *fake = serve(say_all);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    axon_message *m;
    static const char *const ends[] = {"done", "failed", NULL}, *const begins[] = {"accepted", NULL};
    assert_ok(axon_stream_wait_status(stream, "c2", ends, SOON_MS, &m, &err), &err);
    assert_string_equal(m->status, "failed");
    axon_message_free(m);
    wait_for_received(stream, 3);
    assert_ok(axon_stream_wait_status(stream, "c1", NULL, 0, &m, &err), &err);
    assert_string_equal(m->status, "running");
    axon_message_free(m);
    assert_ok(axon_stream_wait_status(stream, "c1", begins, 0, &m, &err), &err);
    assert_string_equal(m->text, "so far");
    axon_message_free(m);
    assert_fails(axon_stream_wait_status(stream, "c1", ends, 50, &m, &err), AXON_ETIMEOUT, &err,
                 "command \"c1\": no such status came, the last one is running");
    assert_fails(axon_stream_wait_status(stream, "c9", NULL, 0, &m, &err), AXON_ETIMEOUT, &err,
                 "nor any other");
    assert_ok(axon_stream_wait_status(stream, "c2", NULL, 0, &m, &err), &err);
    for (int i = 0; i < 3; i++) /* and those who take messages get them */
        axon_message_free(next(stream));
    end(stream, fake);
    assert_string_equal(m->status, "failed");
    assert_non_null(axon_value_get(m->fields, "timestamp"));
    axon_message_free(m);
}

/* ---- ending -------------------------------------------------------------------------------------- */

static void *wait_for_ever(void *argument)
{
    axon_message *message;
    axon_error error;
    axon_status status = axon_stream_next(argument, NULL, AXON_FOREVER, &message, &error);
    return status == AXON_ECANCELED ? NULL : argument;
}

static void cancelling_ends_every_wait(void **state)
{
    (void)state;
    static const char *const nothing[] = {NULL};
    texts = nothing;
    ws_fake *fake = serve(say_all);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_ever, stream);
    ws_pause(50);
    axon_stream_cancel(stream);
    void *failed;
    pthread_join(thread, &failed);
    assert_null(failed);
    axon_message *m;
    assert_fails(axon_stream_next(stream, NULL, AXON_FOREVER, &m, &err), AXON_ECANCELED, &err, "cancelled");
    assert_fails(axon_stream_wait_status(stream, "c", NULL, AXON_FOREVER, &m, &err), AXON_ECANCELED, &err,
                 "cancelled");
    end(stream, fake);
}

static void messages_outlive_their_stream(void **state)
{
    (void)state;
    static const char *const one[] = {CAMERA("c", PNG), PLAN("c", "done"), NULL};
    texts = one;
    ws_fake *fake = serve(say_all);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    axon_message *camera = next(stream), *plan = next(stream);
    end(stream, fake);
    assert_memory_equal(camera->image, "\x89PNG", 4);
    assert_string_equal(plan->status, "done");
    axon_message_free(camera);
    axon_message_free(plan);
}

static void a_stream_is_closed_while_it_is_away_or_blocked(void **state)
{
    (void)state;
    ws_fake *fake = serve(say_three_thousand);
    axon_stream *blocked = open_with(fake, (axon_stream_options){.overflow = AXON_BLOCK, .depth = 1});
    axon_stream *away =
        open_with(fake, (axon_stream_options){.retry_min_ms = 10000, .retry_max_ms = 10000});
    axon_message_free(next(blocked));
    axon_stream_close(blocked);
    ws_fake_stop(fake);
    ws_pause(50);
    axon_stream_close(away);
    axon_stream_close(NULL);
    axon_message_free(NULL);
    axon_stream_cancel(NULL);
}

static void a_fork_has_no_stream(void **state)
{
    (void)state;
    static const char *const one[] = {PLAN("c", "done"), NULL};
    texts = one;
    ws_fake *fake = serve(say_all);
    axon_stream *stream = open_with(fake, (axon_stream_options){0});
    wait_for_received(stream, 1);
    pid_t child = fork();
    if (child == 0) {
        axon_message *m;
        bool is_right = axon_stream_next(stream, NULL, 0, &m, &err) == AXON_EINVAL;
        axon_stream_cancel(stream);
        axon_stream_close(stream);
        _exit(is_right ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    axon_message_free(next(stream));
    end(stream, fake);
}

static void misuse_is_named(void **state)
{
    (void)state;
    axon_message *m;
    axon_stream_stats stats;
    assert_fails(axon_stream_open(NULL, "x", AXON_SENSOR_DATA, NULL, &err), AXON_EINVAL, &err, "stream");
    assert_fails(axon_stream_next(NULL, NULL, 0, &m, &err), AXON_EINVAL, &err, "stream: it is NULL");
    assert_fails(axon_stream_get_stats(NULL, &stats, &err), AXON_EINVAL, &err, "stream");
    assert_fails(axon_message_read(NULL, 1, &m, &err), AXON_EINVAL, &err, "text is NULL");
    axon_array pixels;
    m = read_text(PLAN("c", "done"));
    assert_fails(axon_message_decode(m, AXON_RGB, &pixels, &err), AXON_EINVAL, &err, "no picture");
    axon_message_free(m);
    assert_null(axon_stream_url(NULL));
    axon_stream *stream;
    axon_stream_options o = {.size = sizeof o, .api_key = "a\r\nX-Evil: 1"};
    assert_fails(axon_stream_open(&stream, "x", AXON_SENSOR_DATA, &o, &err), AXON_EINVAL, &err, "api_key");
    o.api_key = "key";
    o.authorization = "Bearer token";
    assert_fails(axon_stream_open(&stream, "x", AXON_SENSOR_DATA, &o, &err), AXON_EINVAL, &err,
                 "authorization and api_key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_of_the_document_is_read),
        cmocka_unit_test(a_picture_is_decoded_however_it_was_written),
        cmocka_unit_test(unknown_types_and_fields_are_handed_through),
        cmocka_unit_test(what_is_no_message_is_a_fault_that_names_it),
        cmocka_unit_test(after_faults_the_stream_goes_on),
        cmocka_unit_test(a_trusted_backend_is_heard_over_tls_and_no_other),
        cmocka_unit_test(a_clock_that_jumps_makes_no_latency),
        cmocka_unit_test(the_oldest_give_way_and_are_counted),
        cmocka_unit_test(of_the_latest_there_is_one_per_channel),
        cmocka_unit_test(blocking_loses_nothing),
        cmocka_unit_test(memory_has_a_limit),
        cmocka_unit_test(what_a_message_takes_is_counted_not_its_text_alone),
        cmocka_unit_test(beyond_the_most_channels_the_rest_share_one),
        cmocka_unit_test(a_gap_is_told_in_its_place),
        cmocka_unit_test(a_backend_that_is_away_is_tried_until_it_is_back),
        cmocka_unit_test(a_lost_connection_may_stay_lost),
        cmocka_unit_test(a_message_that_is_too_long_is_a_fault),
        cmocka_unit_test(pings_are_answered_and_a_silent_backend_is_sent_signs_of_life),
        cmocka_unit_test(the_url_may_be_short),
        cmocka_unit_test(credentials_go_along),
        cmocka_unit_test(nobody_there_is_told_within_the_deadline),
        cmocka_unit_test(a_subscriber_hears_everything_in_order),
        cmocka_unit_test(a_subscriber_may_end_itself),
        cmocka_unit_test(a_command_arrives_as_it_was_meant),
        cmocka_unit_test(many_threads_may_send_while_messages_come),
        cmocka_unit_test(while_it_blocks_commands_are_sent_all_the_same),
        cmocka_unit_test(the_status_of_a_command_is_found),
        cmocka_unit_test(cancelling_ends_every_wait),
        cmocka_unit_test(messages_outlive_their_stream),
        cmocka_unit_test(a_stream_is_closed_while_it_is_away_or_blocked),
        cmocka_unit_test(a_fork_has_no_stream),
        cmocka_unit_test(misuse_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
