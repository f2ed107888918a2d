/* The first of several msgpack messages: whole, not whole yet, broken. */
#include "c/checks.h"

#include <axon/value.h>

#include <stdlib.h>
#include <string.h>

/* {"a": [1, "xy", -2.5, b"z"], "n": null} and then 7 */
static const char MESSAGES[] =
    "\x82\xa1\x61\x94\x01\xa2xy\xcb\xc0\x04\x00\x00\x00\x00\x00\x00\xc4\x01z\xa1\x6e\xc0\x07";
enum { FIRST = sizeof MESSAGES - 2 };

/* Exactly `length` bytes on the heap, so that a sanitizer sees a look beyond them. */
static axon_status read_front(const char *bytes, size_t length, size_t *used, axon_value **value,
                              axon_error *err)
{
    char *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, length);
    axon_status status = axon_value_read_msgpack(copy, length, used, value, err);
    free(copy);
    return status;
}

static void messages_are_read_one_after_the_other(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value;
    size_t used;
    assert_ok(read_front(MESSAGES, FIRST + 1, &used, &value, &err), &err);
    assert_int_equal(used, FIRST);
    assert_int_equal(axon_value_count(axon_value_get(value, "a")), 4);
    axon_value_free(value);
    assert_ok(read_front(MESSAGES + used, 1, &used, &value, &err), &err);
    int64_t number;
    assert_int_equal(used, 1);
    assert_int_equal(axon_value_as_int(value, &number), AXON_OK);
    assert_int_equal(number, 7);
    axon_value_free(value);
}

static void a_message_that_is_cut_anywhere_is_not_whole_yet(void **state)
{
    (void)state;
    for (size_t length = 0; length < FIRST; length++) {
        axon_error err;
        axon_value *value = axon_value_nil(), *was = value;
        size_t used = 99;
        assert_ok(read_front(MESSAGES, length, &used, &value, &err), &err);
        assert_int_equal(used, 0);
        assert_null(value);
        axon_value_free(was);
    }
}

static void a_broken_message_is_told_from_one_that_is_not_whole(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value = NULL;
    size_t used = 99;
    assert_fails(read_front("\xc1", 1, &used, &value, &err), AXON_EPROTOCOL, &err, "0xc1");
    assert_fails(read_front("\x92\x01\xd4\x01\x02", 5, &used, &value, &err), AXON_EPROTOCOL, &err,
                 "extension type");
    assert_fails(read_front("\xa1\xff", 2, &used, &value, &err), AXON_EPROTOCOL, &err, "not UTF-8");
    assert_fails(read_front("\x81\x01\x02", 3, &used, &value, &err), AXON_EPROTOCOL, &err, "a key");
    assert_int_equal(used, 99);
    assert_null(value);
}

static void too_many_values_are_refused_before_they_are_there(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value = NULL;
    size_t used;
    assert_fails(read_front("\xdd\x00\x80\x00\x01", 5, &used, &value, &err), AXON_ETOOBIG, &err,
                 "more than 8388608 values");
    assert_fails(read_front("\xdf\xff\xff\xff\xff", 5, &used, &value, &err), AXON_ETOOBIG, &err,
                 "more than 8388608 values");
}

static void lists_that_never_end_do_not_exhaust_the_stack(void **state)
{
    (void)state;
    enum { DEEP = 1 << 20 };
    char *bytes = malloc(DEEP);
    assert_non_null(bytes);
    memset(bytes, '\x91', DEEP);
    axon_error err;
    axon_value *value = NULL;
    size_t used = 99;
    assert_ok(axon_value_read_msgpack(bytes, DEEP, &used, &value, &err), &err);
    assert_int_equal(used, 0);
    bytes[DEEP - 1] = '\x01';
    assert_fails(axon_value_read_msgpack(bytes, DEEP, &used, &value, &err), AXON_EPROTOCOL, &err,
                 "nested deeper");
    free(bytes);
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    axon_error err;
    axon_value *value;
    size_t used;
    assert_fails(axon_value_read_msgpack("\xc0", 1, &used, NULL, &err), AXON_EINVAL, &err, "value is NULL");
    assert_fails(axon_value_read_msgpack("\xc0", 1, NULL, &value, &err), AXON_EINVAL, &err, "used is NULL");
    assert_fails(axon_value_read_msgpack(NULL, 1, &used, &value, &err), AXON_EINVAL, &err, "data is NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_read_one_after_the_other),
        cmocka_unit_test(a_message_that_is_cut_anywhere_is_not_whole_yet),
        cmocka_unit_test(a_broken_message_is_told_from_one_that_is_not_whole),
        cmocka_unit_test(too_many_values_are_refused_before_they_are_there),
        cmocka_unit_test(lists_that_never_end_do_not_exhaust_the_stack),
        cmocka_unit_test(what_is_missing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
