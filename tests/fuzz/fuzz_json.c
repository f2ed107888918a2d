/* Any bytes as JSON text: read, and when it was some, printed and read again; the first key's member found. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

static void check_round_trip(const axon_value *value)
{
    char *first, *second;
    size_t length;
    axon_value *again;
    axon_error err;
    if (axon_value_to_json(value, &first, &length, &err) != AXON_OK) abort();
    if (axon_value_from_json(first, length, &again, &err) != AXON_OK) abort();
    if (axon_value_to_json(again, &second, NULL, &err) != AXON_OK) abort();
    if (strcmp(first, second) != 0) abort();
    axon_value_free(again);
    axon_free(first);
    axon_free(second);
}

/* A member can be found exactly in what is an object, and is itself JSON. */
static void check_member(const char *text, size_t size, const axon_value *value)
{
    const char *member;
    size_t length;
    char key[65] = "a";
    size_t key_length = 0;
    const char *first = axon_value_key(value, 0, &key_length, NULL);
    if (first && key_length < sizeof key && !memchr(first, 0, key_length)) {
        memcpy(key, first, key_length);
        key[key_length] = 0;
    }
    axon_status status = axi_json_member(text, size, key, &member, &length, "text", NULL);
    if ((status == AXON_OK) != (axon_value_get(value, key) != NULL)) abort();
    if (status != AXON_OK) return;
    axon_value *read = NULL;
    if (axon_value_from_json(member, length, &read, NULL) != AXON_OK) abort();
    if (axon_value_type(read) != axon_value_type(axon_value_get(value, key))) abort();
    axon_value_free(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    axon_value *value = NULL;
    axon_error err;
    const char *text = (const char *)data;
    axon_status status = axon_value_from_json(text, size, &value, &err);
    if (status == AXON_OK) {
        check_round_trip(value);
        check_member(text, size, value);
        axon_value_free(value);
    } else if (status != AXON_EPROTOCOL || !err.message[0] || value) {
        abort();
    }
    return 0;
}
