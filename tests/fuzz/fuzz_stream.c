/* Any bytes as a message of a robot backend: read or refused, and whatever it points at is there. */
#include <axon/stream.h>

#include <stdlib.h>
#include <string.h>

static size_t look_at(const axon_message *message)
{
    const char *const texts[] = {message->type,       message->robot_id, message->source_id,
                                 message->command_id, message->status,   message->orientation,
                                 message->action_id,  message->text,     message->fault};
    size_t seen = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        seen += strlen(texts[i]);
    const uint8_t *image = message->image;
    for (size_t i = 0; i < message->image_length; i++)
        seen += image[i];
    return seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    axon_message *message = NULL;
    axon_error err;
    char *text;
    axon_status status = axon_message_read((const char *)data, size, &message, &err);
    if (status == AXON_OK) {
        volatile size_t seen = look_at(message);
        (void)seen;
        if (!message->fields) abort();
        if (axon_value_to_json(message->fields, &text, NULL, &err) != AXON_OK) abort();
        axon_free(text);
        axon_message_free(message);
    } else if (status != AXON_EPROTOCOL || !err.message[0] || message) {
        abort();
    }
    return 0;
}
