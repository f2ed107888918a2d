/* Any bytes as a msgpack message: read, walked, and when it was one, written and read again. */
#include <axon/value.h>

#include <stdlib.h>
#include <string.h>

/* Touches all that a reader would, so that the sanitizers see it. */
static unsigned walk(const axon_value *value)
{
    const axon_array *array;
    const void *data = NULL;
    const char *text;
    size_t length = 0;
    unsigned sum = 0;
    if (axon_value_as_string(value, &text, &length) == AXON_OK)
        data = text;
    else if (axon_value_as_array(value, &array) == AXON_OK) {
        uint64_t bytes;
        if (axon_array_size(array, &bytes, NULL) != AXON_OK) abort();
        data = array->data;
        length = (size_t)bytes;
        if ((uintptr_t)data % (axon_dtype_size(array->dtype) ? axon_dtype_size(array->dtype) : 1)) abort();
    } else {
        axon_value_as_bytes(value, &data, &length);
    }
    for (size_t i = 0; i < length; i++)
        sum += ((const uint8_t *)data)[i];
    for (size_t i = 0; i < axon_value_count(value); i++) {
        const char *key = axon_value_key(value, i, &length, NULL);
        for (size_t j = 0; key && j < length; j++)
            sum += (uint8_t)key[j];
        sum += walk(axon_value_at(value, i));
    }
    return sum;
}

/* What was read can be written, and is then read as the same: the second writing makes the same bytes. */
static void check_round_trip(const axon_value *value, axon_marker marker)
{
    void *first, *second;
    size_t first_length, second_length;
    axon_value *again;
    if (axon_value_to_msgpack(value, marker, &first, &first_length, NULL) != AXON_OK) abort();
    if (axon_value_from_msgpack(first, first_length, &again, NULL) != AXON_OK) abort();
    if (axon_value_to_msgpack(again, marker, &second, &second_length, NULL) != AXON_OK) abort();
    if (first_length != second_length || memcmp(first, second, first_length) != 0) abort();
    axon_value_free(again);
    axon_free(first);
    axon_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    axon_value *value = NULL;
    axon_error err;
    char *text;
    axon_status status = axon_value_from_msgpack(data, size, &value, &err);
    if (status != AXON_OK) {
        if (status != AXON_EPROTOCOL && status != AXON_ETOOBIG) abort(); /* pictures may be too large */
        if (err.code != (int32_t)status || !err.message[0] || value) abort();
        return 0;
    }
    volatile unsigned sum = walk(value);
    (void)sum;
    check_round_trip(value, AXON_MARKER_OPENPI);
    check_round_trip(value, AXON_MARKER_SIMULATOR);
    if (axon_value_to_json(value, &text, NULL, NULL) == AXON_OK) axon_free(text);
    axon_value_free(value);
    return 0;
}
