/* What each dialect puts on the wire, byte for byte, and what it makes of what comes back. */
#include "policy_dialect.h"

#include "checks.h"

/* ---- requests ------------------------------------------------------------------------------ */

static blob flattened(const axi_message *message)
{
    blob out = {malloc((size_t)message->length + 1), 0};
    for (size_t i = 0; i < message->count; out.length += message->parts[i++].iov_len)
        memcpy((uint8_t *)out.data + out.length, message->parts[i].iov_base, message->parts[i].iov_len);
    assert_int_equal(out.length, message->length);
    return out;
}

static void assert_packs(axon_dialect dialect, axi_ask ask, const axon_value *value, const char *hex)
{
    axon_error err;
    axi_message message = {0};
    blob wanted = from_hex(hex);
    for (int again = 0; again < 2; again++) { /* a message is used again and again */
        assert_ok(axi_dialect_pack(dialect, ask, value, AXON_IMAGE_UNKNOWN, &message, &err), &err);
        blob got = flattened(&message);
        assert_same_bytes(got, wanted, hex);
        free(got.data);
    }
    axi_message_free(&message);
    free(wanted.data);
}

static axon_value *one_key(const char *key, int64_t number)
{
    axon_value *map = axon_value_map();
    axon_value_set(map, key, axon_value_int(number));
    return map;
}

#define OP "b0 5f5f776562706f6c6963795f6f705f5f" /* "__webpolicy_op__" */
#define ENDPOINT "a8 656e64706f696e74"
#define INFER "a5 696e666572"
#define RESET "a5 7265736574"

static void a_step_is_what_its_dialect_says(void **state)
{
    (void)state;
    axon_value *observation = one_key("a", 1);
    assert_packs(AXON_OPENPI, AXI_ASK_STEP, observation, "81 a161 01");
    assert_packs(AXON_WEBPOLICY, AXI_ASK_STEP, observation, "82" OP "a4 73746570 a3 6f6273 81 a161 01");
    assert_packs(AXON_ROBOARENA, AXI_ASK_STEP, observation, "82" ENDPOINT INFER "a161 01");
    assert_packs(AXON_VLLM_OMNI, AXI_ASK_STEP, observation, "82" ENDPOINT INFER "a161 01");
    axon_value_free(observation);
}

static void a_reset_is_what_its_dialect_says(void **state)
{
    (void)state;
    axon_value *payload = one_key("a", 1), *empty = axon_value_map();
    assert_packs(AXON_WEBPOLICY, AXI_ASK_RESET, NULL, "81" OP RESET);
    assert_packs(AXON_WEBPOLICY, AXI_ASK_RESET, empty, "81" OP RESET);
    assert_packs(AXON_WEBPOLICY, AXI_ASK_RESET, payload, "82" OP RESET "a7 7061796c6f6164 81 a161 01");
    assert_packs(AXON_ROBOARENA, AXI_ASK_RESET, NULL, "81" ENDPOINT RESET);
    assert_packs(AXON_ROBOARENA, AXI_ASK_RESET, payload, "82" ENDPOINT RESET "a161 01");
    assert_packs(AXON_VLLM_OMNI, AXI_ASK_RESET, payload, "82" ENDPOINT RESET "a161 01");
    assert_false(axi_dialect_has(AXON_OPENPI, AXI_ASK_RESET));
    assert_true(axi_dialect_has(AXON_OPENPI, AXI_ASK_STEP));
    assert_true(axi_dialect_has(AXON_WEBPOLICY, AXI_ASK_RESET));
    axon_value_free(payload);
    axon_value_free(empty);
}

static void the_callers_endpoint_is_kept(void **state)
{
    (void)state;
    axon_value *observation = axon_value_map();
    axon_value_set(observation, "endpoint", axon_value_string("infer", -1));
    assert_packs(AXON_ROBOARENA, AXI_ASK_STEP, observation, "81" ENDPOINT INFER);
    axon_value_free(observation);
}

/* Maps of every length of header: what is read back has one key more. */
static void the_endpoint_joins_maps_of_any_size(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 14, 15, 16, 17, 65534, 65535, 65536};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        axon_error err;
        axi_message message = {0};
        axon_value *map = axon_value_map(), *back = NULL;
        assert_ok(axi_value_reserve(map, counts[i], &err), &err);
        for (unsigned k = 0; k < counts[i]; k++) { /* axon_value_set() would look for each key first */
            map->as.children.items[k] = (axon_value){.type = AXON_INT, .key = "k", .key_length = 1};
            map->as.children.count = k + 1;
        }
        assert_ok(axi_dialect_pack(AXON_ROBOARENA, AXI_ASK_STEP, map, AXON_IMAGE_UNKNOWN, &message, &err),
                  &err);
        blob flat = flattened(&message);
        assert_ok(axon_value_from_msgpack(flat.data, flat.length, &back, &err), &err);
        assert_int_equal(axon_value_count(back), counts[i] + 1);
        assert_non_null(axon_value_get(back, "endpoint"));
        axon_value_free(back);
        axon_value_free(map);
        free(flat.data);
        axi_message_free(&message);
    }
}

static void what_is_no_map_is_not_sent(void **state)
{
    (void)state;
    axon_error err;
    axi_message message = {0};
    axon_value *list = axon_value_list();
    for (axon_dialect dialect = AXON_OPENPI; dialect <= AXON_VLLM_OMNI; dialect++) {
        assert_fails(axi_dialect_pack(dialect, AXI_ASK_STEP, list, AXON_IMAGE_UNKNOWN, &message, &err),
                     AXON_EINVAL, &err, "observation: it is no map");
        assert_fails(axi_dialect_pack(dialect, AXI_ASK_RESET, list, AXON_IMAGE_UNKNOWN, &message, &err),
                     AXON_EINVAL, &err, "reset payload: it is no map");
    }
    axon_value_free(list);
    axi_message_free(&message);
}

/* ---- replies ------------------------------------------------------------------------------- */

/* The answer as the connection hands it over: a zero behind it. */
static axi_ws_message received(blob bytes, bool is_text)
{
    axi_ws_message message = {
        .data = calloc(bytes.length + 1, 1), .length = bytes.length, .is_text = is_text};
    memcpy(message.data, bytes.data, bytes.length);
    return message;
}

static axon_status read_hex(axon_dialect dialect, axi_ask ask, const char *hex, axon_value **reply,
                            char **text, axon_error *err)
{
    blob bytes = from_hex(hex);
    axi_ws_message message = received(bytes, false);
    free(bytes.data);
    *text = NULL;
    return axi_dialect_read(dialect, ask, &message, "ws://robot", reply, text, err);
}

static axon_status read_words(axon_dialect dialect, axi_ask ask, const char *words, axon_value **reply,
                              char **text, axon_error *err)
{
    axi_ws_message message = received((blob){(void *)(uintptr_t)words, strlen(words)}, true);
    *text = NULL;
    return axi_dialect_read(dialect, ask, &message, "ws://robot", reply, text, err);
}

static axon_value *reply_of(axon_dialect dialect, const char *hex)
{
    axon_error err;
    axon_value *reply = NULL;
    char *text;
    assert_ok(read_hex(dialect, AXI_ASK_STEP, hex, &reply, &text, &err), &err);
    assert_null(text);
    return reply;
}

#define ACTION "a6 616374696f6e"
#define ACTIONS "a7 616374696f6e73"
#define TIMING "ad 7365727665725f74696d696e67 81 a8 696e6665725f6d73 02"

static void webpolicys_envelope_is_taken_off(void **state)
{
    (void)state;
    axon_value *reply = reply_of(AXON_WEBPOLICY, "81" ACTION "81" ACTIONS "03");
    int64_t number = 0;
    assert_int_equal(axon_value_count(reply), 1);
    assert_int_equal(axon_value_as_int(axon_value_get(reply, "actions"), &number), AXON_OK);
    assert_int_equal(number, 3);
    axon_value_free(reply);
}

static void timings_beside_the_envelope_are_kept(void **state)
{
    (void)state;
    axon_value *reply = reply_of(AXON_WEBPOLICY, "82" ACTION "81" ACTIONS "03" TIMING);
    double ms = 0;
    assert_int_equal(axon_value_count(reply), 2);
    assert_non_null(axon_value_get(reply, "actions"));
    const axon_value *timing = axon_value_get(reply, "server_timing");
    assert_int_equal(axon_value_as_float(axon_value_get(timing, "infer_ms"), &ms), AXON_OK);
    assert_true(ms == 2);
    axon_value_free(reply);
}

static void an_old_servers_key_action_is_no_envelope(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "81" ACTION "01", /* {"action": 1} */
        "82" ACTION "81 a161 01"
        "a17a 02", /* {"action": {"a": 1}, "z": 2} */
        "82" ACTION "01" TIMING,
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        axon_value *reply = reply_of(AXON_WEBPOLICY, replies[i]);
        assert_non_null(axon_value_get(reply, "action"));
        axon_value_free(reply);
    }
    axon_value *reply = reply_of(AXON_OPENPI, "81" ACTION "81 a161 01"); /* no dialect of envelopes */
    assert_non_null(axon_value_get(reply, "action"));
    axon_value_free(reply);
}

static void a_bare_array_becomes_actions(void **state)
{
    (void)state;
    for (axon_dialect dialect = AXON_OPENPI; dialect <= AXON_VLLM_OMNI; dialect++) {
        const axon_array *array;
        axon_value *reply = reply_of(
            dialect, "84 c40b5f5f6e6461727261795f5f c3 c40464617461 c404 0000803f c4056474797065 a33c6634 "
                     "c4057368617065 9101");
        assert_int_equal(axon_value_as_array(axon_value_get(reply, "actions"), &array), AXON_OK);
        assert_true(*(const float *)array->data == 1);
        axon_value_free(reply);
    }
}

static void what_is_neither_map_nor_array_is_refused(void **state)
{
    (void)state;
    static const char *const replies[] = {"01", "a161", "90", "c0", "cb3ff0000000000000"};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        axon_error err;
        axon_value *reply = NULL;
        char *text;
        assert_fails(read_hex(AXON_ROBOARENA, AXI_ASK_STEP, replies[i], &reply, &text, &err),
                     AXON_EPROTOCOL, &err, "ws://robot: reply: it is neither a map nor an array");
        assert_null(reply);
        assert_null(text);
    }
}

static void errors_come_as_text_and_as_maps(void **state)
{
    (void)state;
    axon_error err;
    axon_value *reply = NULL;
    char *text;
    static const char *const maps[] = {
        "82 a474797065 a56572726f72 a76d657373616765 a4626f6f6d", /* {"type": "error", "message": "boom"} */
        "81 a56572726f72 a4626f6f6d",                             /* {"error": "boom"} */
    };
    for (axon_dialect dialect = AXON_OPENPI; dialect <= AXON_VLLM_OMNI; dialect++) {
        for (size_t i = 0; i < 2; i++) {
            assert_fails(read_hex(dialect, AXI_ASK_STEP, maps[i], &reply, &text, &err), AXON_ESERVER, &err,
                         "ws://robot: server error: boom");
            assert_string_equal(text, "boom");
            free(text);
        }
        assert_fails(
            read_words(dialect, AXI_ASK_STEP, "Traceback\n  File\nValueError: boom\n", &reply, &text, &err),
            AXON_ESERVER, &err, "ws://robot: server error: ValueError: boom");
        assert_string_equal(text, "Traceback\n  File\nValueError: boom\n");
        free(text);
    }
    assert_null(reply);
}

static void an_action_map_may_have_a_key_error(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "82 a56572726f72 a4626f6f6d" ACTIONS "01", /* beside actions */
        "81 a56572726f72 01",                      /* a number */
        "81 a474797065 a56572726f72",              /* {"type": "error"} without a message */
    };
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        axon_value_free(reply_of(AXON_OPENPI, replies[i]));
}

/* ---- acknowledgements ---------------------------------------------------------------------- */

#define STATUS_OK                                                                                          \
    "81 a6737461747573 b0 7265736574207375636365737366756c" /* {"status": "reset successful"} */
#define ACK "81 b7 5f5f776562706f6c6963795f72657365745f61636b5f5f c3"

static void resets_are_acknowledged_in_the_dialects_ways(void **state)
{
    (void)state;
    axon_error err;
    axon_value *reply = NULL;
    char *text;
    assert_ok(read_hex(AXON_WEBPOLICY, AXI_ASK_RESET, ACK, &reply, &text, &err), &err);
    for (axon_dialect dialect = AXON_ROBOARENA; dialect <= AXON_VLLM_OMNI; dialect++) {
        assert_ok(read_words(dialect, AXI_ASK_RESET, "reset successful", &reply, &text, &err), &err);
        assert_ok(read_hex(dialect, AXI_ASK_RESET, STATUS_OK, &reply, &text, &err), &err);
    }
    assert_null(reply);
}

static void other_answers_to_a_reset_are_none(void **state)
{
    (void)state;
    axon_error err;
    axon_value *reply = NULL;
    char *text;
    assert_fails(read_hex(AXON_WEBPOLICY, AXI_ASK_RESET, "81" ACTIONS "01", &reply, &text, &err),
                 AXON_EPROTOCOL, &err, "it does not acknowledge the reset");
    assert_fails(read_hex(AXON_ROBOARENA, AXI_ASK_RESET, "80", &reply, &text, &err), AXON_EPROTOCOL, &err,
                 "it does not acknowledge the reset");
    assert_fails(read_words(AXON_ROBOARENA, AXI_ASK_RESET, "reset failed", &reply, &text, &err),
                 AXON_ESERVER, &err, "server error: reset failed");
    free(text);
    /* the words are an acknowledgement of a reset alone */
    assert_fails(read_words(AXON_ROBOARENA, AXI_ASK_STEP, "reset successful", &reply, &text, &err),
                 AXON_ESERVER, &err, "server error: reset successful");
    free(text);
    assert_null(reply);
}

static void damaged_answers_are_refused(void **state)
{
    (void)state;
    static const char *const replies[] = {"", "81", "c1", "81 a7", "df ffffffff", "80 80"};
    for (axon_dialect dialect = AXON_OPENPI; dialect <= AXON_VLLM_OMNI; dialect++)
        for (axi_ask ask = AXI_ASK_STEP; ask <= AXI_ASK_RESET; ask++)
            for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
                axon_error err;
                axon_value *reply = NULL;
                char *text;
                assert_fails(read_hex(dialect, ask, replies[i], &reply, &text, &err), AXON_EPROTOCOL, &err,
                             "ws://robot: reply");
                assert_null(reply);
                assert_null(text);
            }
}

/* ---- which --------------------------------------------------------------------------------- */

static void a_server_is_known_by_its_path_and_its_metadata(void **state)
{
    (void)state;
    axon_value *plain = axon_value_map(), *arena = one_key("n_external_cameras", 2);
    axon_value_set(arena, "needs_session_id", axon_value_bool(1));
    assert_int_equal(axi_dialect_of("ws://robot:8000", plain), AXON_OPENPI);
    assert_int_equal(axi_dialect_of("ws://robot:8000", arena), AXON_ROBOARENA);
    assert_int_equal(axi_dialect_of("ws://robot:8000/v1/realtime/robot/openpi", arena), AXON_VLLM_OMNI);
    assert_int_equal(axi_dialect_of("ws://robot:8000/v1/realtime/robot/openpi", plain), AXON_VLLM_OMNI);
    axon_value_free(plain);
    axon_value_free(arena);
}

static axon_value *declared(axon_value *codecs)
{
    axon_value *map = axon_value_map(), *own = axon_value_map();
    axon_value_set(own, "codecs", codecs);
    axon_value_set(map, "__axon__", own);
    return map;
}

static void pictures_go_only_as_what_the_server_declared(void **state)
{
    (void)state;
    axon_value *list = axon_value_list();
    axon_value_append(list, axon_value_int(1));
    axon_value_append(list, axon_value_string("png", -1));
    axon_value *png = declared(list), *text = declared(axon_value_string("jpeg", -1)),
               *none = axon_value_map(), *odd = one_key("__axon__", 1);
    assert_int_equal(axi_dialect_pictures(png, AXON_COMPRESS_PNG), AXON_IMAGE_PNG);
    assert_int_equal(axi_dialect_pictures(png, AXON_COMPRESS_JPEG), AXON_IMAGE_UNKNOWN);
    assert_int_equal(axi_dialect_pictures(png, AXON_COMPRESS_NONE), AXON_IMAGE_UNKNOWN);
    assert_int_equal(axi_dialect_pictures(text, AXON_COMPRESS_JPEG), AXON_IMAGE_UNKNOWN);
    assert_int_equal(axi_dialect_pictures(none, AXON_COMPRESS_JPEG), AXON_IMAGE_UNKNOWN);
    assert_int_equal(axi_dialect_pictures(odd, AXON_COMPRESS_JPEG), AXON_IMAGE_UNKNOWN);
    axon_value_free(png);
    axon_value_free(text);
    axon_value_free(none);
    axon_value_free(odd);
}

static void a_connection_is_kept_only_by_a_server_that_says_so(void **state)
{
    (void)state;
    axon_value *yes = axon_value_map(), *no = axon_value_map(), *odd = one_key("__axon__", 1);
    for (int32_t keeps = 0; keeps < 2; keeps++) {
        axon_value *own = axon_value_map();
        axon_value_set(own, "keeps_connection", axon_value_bool(keeps));
        axon_value_set(keeps ? yes : no, "__axon__", own);
    }
    assert_true(axi_dialect_keeps_connection(yes));
    assert_false(axi_dialect_keeps_connection(no));
    assert_false(axi_dialect_keeps_connection(odd));
    assert_false(axi_dialect_keeps_connection(NULL));
    axon_value_free(yes);
    axon_value_free(no);
    axon_value_free(odd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_what_its_dialect_says),
        cmocka_unit_test(a_reset_is_what_its_dialect_says),
        cmocka_unit_test(the_callers_endpoint_is_kept),
        cmocka_unit_test(the_endpoint_joins_maps_of_any_size),
        cmocka_unit_test(what_is_no_map_is_not_sent),
        cmocka_unit_test(webpolicys_envelope_is_taken_off),
        cmocka_unit_test(timings_beside_the_envelope_are_kept),
        cmocka_unit_test(an_old_servers_key_action_is_no_envelope),
        cmocka_unit_test(a_bare_array_becomes_actions),
        cmocka_unit_test(what_is_neither_map_nor_array_is_refused),
        cmocka_unit_test(errors_come_as_text_and_as_maps),
        cmocka_unit_test(an_action_map_may_have_a_key_error),
        cmocka_unit_test(resets_are_acknowledged_in_the_dialects_ways),
        cmocka_unit_test(other_answers_to_a_reset_are_none),
        cmocka_unit_test(damaged_answers_are_refused),
        cmocka_unit_test(a_server_is_known_by_its_path_and_its_metadata),
        cmocka_unit_test(pictures_go_only_as_what_the_server_declared),
        cmocka_unit_test(a_connection_is_kept_only_by_a_server_that_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
