/* Text of a robot backend to messages. See stream_internal.h. */
#include "stream_internal.h"

#include "base64.h"
#include "image_codecs.h"
#include "iso_time.h"
#include "json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---------------------------------------------------------------------------------- */

static axi_item *new_item(uint64_t bytes)
{
    axi_item *item = calloc(1, sizeof *item);
    if (!item) return NULL;
    atomic_init(&item->references, 1);
    item->is_open = true;
    item->bytes = sizeof *item + bytes;
    item->told = (axon_message){.type = "",
                                .robot_id = "",
                                .source_id = "",
                                .stamp_ns = AXON_NO_TIME,
                                .received_ns = axi_wall_time(),
                                .latency_ns = AXON_NO_TIME,
                                .status = "",
                                .position = {NAN, NAN, NAN},
                                .orientation = "",
                                .command_id = "",
                                .action_id = "",
                                .text = "",
                                .accelerometer = {NAN, NAN, NAN},
                                .gyroscope = {NAN, NAN, NAN},
                                .fault = "",
                                .gap_since_ns = AXON_NO_TIME};
    return item;
}

axi_item *axi_item_keep(axi_item *item)
{
    atomic_fetch_add(&item->references, 1);
    return item;
}

axi_item *axi_item_copy(axi_item *item)
{
    axi_item *copy = new_item(0);
    if (!copy) return NULL;
    copy->told = item->told;
    copy->original = axi_item_keep(item);
    return copy;
}

void axi_item_drop(axi_item *item)
{
    if (!item || atomic_fetch_sub(&item->references, 1) != 1) return;
    axon_value_free(item->tree);
    axi_item_drop(item->original);
    free(item->why);
    free(item);
}

void axon_message_free(axon_message *message)
{
    axi_item_drop((axi_item *)message); /* its first member */
}

static void set_reason(axi_item *item, const char *reason)
{
    free(item->why);
    item->why = strdup(reason);
    if (item->why) axi_make_printable(item->why);
    item->told.fault = item->why ? item->why : "out of memory";
}

static void make_fault(axi_item *item, const char *reason)
{
    item->told.kind = AXON_MESSAGE_FAULT;
    set_reason(item, reason);
}

axi_item *axi_item_fault(const char *reason)
{
    axi_item *item = new_item(0);
    if (item) make_fault(item, reason);
    return item;
}

axi_item *axi_item_gap(const char *reason, int64_t since_ns, int64_t gap_ns, uint32_t attempts)
{
    axi_item *item = new_item(0);
    if (!item) return NULL;
    item->told.kind = AXON_MESSAGE_GAP;
    item->told.gap_since_ns = since_ns;
    item->told.gap_ns = gap_ns;
    item->told.gap_attempts = attempts;
    set_reason(item, reason);
    return item;
}

/* ---- fields -------------------------------------------------------------------------------- */

/* One message's fields: the first that is wrong makes it a fault. */
typedef struct {
    axi_item *item;
    bool has_failed;
} reading;

static void refuse(reading *r, const char *field, const char *format, const char *detail)
{
    if (r->has_failed) return;
    r->has_failed = true;
    const axon_message *m = &r->item->told;
    char fact[AXON_ERROR_TEXT], reason[sizeof fact + 128];
    snprintf(fact, sizeof fact, format, detail);
    snprintf(reason, sizeof reason, "%.40s%s%.40s%s%s %s", *m->type ? m->type : "message",
             *m->source_id ? " of " : "", m->source_id, *field ? ": " : "", field, fact);
    make_fault(r->item, reason);
}

static const char *name_of(const axon_value *value)
{
    return axon_value_type(value) == AXON_MAP ? "an object" : axi_value_kind(value);
}

/* The text of a member, made to end with a zero where it stands: whatever followed it there has been read. */
static void read_text(reading *r, const axon_value *map, const char *key, const char *shown,
                      const char **to)
{
    const axon_value *member = axon_value_get(map, key);
    const char *text;
    size_t length;
    if (axon_value_type(member) == AXON_NIL) return;
    if (axon_value_as_string(member, &text, &length) != AXON_OK) {
        refuse(r, shown, "is %s, not text", name_of(member));
        return;
    }
    ((char *)(uintptr_t)text)[length] = 0;
    *to = text;
}

static void read_numbers(reading *r, const axon_value *tree, const char *key, double numbers[3])
{
    static const char *const axes[] = {"x", "y", "z"};
    const axon_value *map = axon_value_get(tree, key);
    if (axon_value_type(map) == AXON_NIL) return;
    if (axon_value_type(map) != AXON_MAP) {
        refuse(r, key, "is %s, not an object", name_of(map));
        return;
    }
    for (int i = 0; i < 3; i++) {
        char place[48];
        const axon_value *number = axon_value_get(map, axes[i]);
        snprintf(place, sizeof place, "%s.%s", key, axes[i]);
        if (!number)
            refuse(r, place, "%s", "is missing");
        else if (axon_value_type(number) != AXON_NIL && axon_value_as_float(number, &numbers[i]) != AXON_OK)
            refuse(r, place, "is %s, not a number", name_of(number));
    }
}

/* A time that cannot be read is unknown; one that cannot be one is a fault. */
static void read_stamp(reading *r, const axon_value *tree)
{
    const axon_value *member = axon_value_get(tree, "timestamp");
    const char *text;
    size_t length;
    double seconds;
    int64_t ns;
    switch (axon_value_type(member)) {
    case AXON_NIL:
        break;
    case AXON_STRING:
        if (axon_value_as_string(member, &text, &length) == AXON_OK && axi_iso_time_read(text, length, &ns))
            r->item->told.stamp_ns = ns;
        break;
    case AXON_INT:
    case AXON_FLOAT: /* as time.time() has it */
        if (axon_value_as_float(member, &seconds) == AXON_OK && fabs(seconds) < 9e9)
            r->item->told.stamp_ns = (int64_t)(seconds * 1e9);
        break;
    default:
        refuse(r, "timestamp", "is %s, not text", name_of(member));
    }
}

static void read_status(reading *r, const axon_value *tree)
{
    axon_message *m = &r->item->told;
    const axon_value *pose = axon_value_get(tree, "current_pose");
    read_text(r, tree, "status", "status", &m->status);
    read_numbers(r, tree, "current_pose", m->position);
    if (axon_value_type(pose) == AXON_MAP)
        read_text(r, pose, "orientation", "current_pose.orientation", &m->orientation);
}

static void read_plan_status(reading *r, const axon_value *tree)
{
    axon_message *m = &r->item->told;
    read_text(r, tree, "command_id", "command_id", &m->command_id);
    read_text(r, tree, "action_id", "action_id", &m->action_id);
    read_text(r, tree, "status", "status", &m->status);
    read_text(r, tree, "message", "message", &m->text);
}

/* The picture itself is looked at when somebody takes the message. */
static void read_camera(reading *r, const axon_value *tree)
{
    const axon_value *picture = axon_value_get(tree, "image_data");
    read_text(r, tree, "camera_id", "camera_id", &r->item->told.source_id);
    if (axon_value_type(picture) == AXON_NIL)
        refuse(r, "image_data", "%s", "is missing");
    else if (axon_value_type(picture) != AXON_STRING)
        refuse(r, "image_data", "is %s, not text", name_of(picture));
}

static void read_imu(reading *r, const axon_value *tree)
{
    read_text(r, tree, "imu_id", "imu_id", &r->item->told.source_id);
    read_numbers(r, tree, "accelerometer", r->item->told.accelerometer);
    read_numbers(r, tree, "gyroscope", r->item->told.gyroscope);
}

static axon_message_kind kind_of(const char *type)
{
    static const char *const types[] = {[AXON_MESSAGE_ROBOT_STATUS] = "robot_status",
                                        [AXON_MESSAGE_ACTION_PLAN_STATUS] = "action_plan_status",
                                        [AXON_MESSAGE_CAMERA_FEED] = "camera_feed",
                                        [AXON_MESSAGE_IMU_DATA] = "imu_data"};
    for (size_t i = 1; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i]) == 0) return (axon_message_kind)i;
    return AXON_MESSAGE_OTHER;
}

static void read_fields(reading *r, const axon_value *tree)
{
    static void (*const readers[])(reading *, const axon_value *) = {
        [AXON_MESSAGE_ROBOT_STATUS] = read_status,
        [AXON_MESSAGE_ACTION_PLAN_STATUS] = read_plan_status,
        [AXON_MESSAGE_CAMERA_FEED] = read_camera,
        [AXON_MESSAGE_IMU_DATA] = read_imu};
    axon_message *m = &r->item->told;
    if (axon_value_type(tree) != AXON_MAP) {
        refuse(r, "", "is %s, not an object", name_of(tree));
        return;
    }
    if (!axon_value_get(tree, "type")) refuse(r, "type", "%s", "is missing");
    read_text(r, tree, "type", "type", &m->type);
    axon_message_kind kind = kind_of(m->type);
    if (kind == AXON_MESSAGE_OTHER) return; /* what its fields are is not ours to say */
    read_text(r, tree, "robot_id", "robot_id", &m->robot_id);
    read_stamp(r, tree);
    readers[kind](r, tree);
    if (!r->has_failed) m->kind = kind;
}

/* Of a message that axon does not know: what has the usual names is taken for the usual, if it is. */
static void guess_fields(axi_item *item, const axon_value *tree)
{
    static const struct {
        const char *key;
        size_t offset;
    } texts[] = {
        {"robot_id", offsetof(axon_message, robot_id)}, {"camera_id", offsetof(axon_message, source_id)},
        {"imu_id", offsetof(axon_message, source_id)},  {"command_id", offsetof(axon_message, command_id)},
        {"status", offsetof(axon_message, status)},     {"message", offsetof(axon_message, text)}};
    reading guess = {.item = item, .has_failed = true}; /* nothing is refused */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        read_text(&guess, tree, texts[i].key, "",
                  (const char **)(void *)((char *)&item->told + texts[i].offset));
    read_stamp(&guess, tree);
}

static uint64_t count_nodes(const axon_value *value)
{
    uint64_t count = 1;
    if (axi_is_container(value))
        for (uint32_t i = 0; i < value->as.children.count; i++)
            count += count_nodes(&value->as.children.items[i]);
    return count;
}

axi_item *axi_item_read(char *text, size_t length)
{
    axi_item *item = new_item(length);
    if (!item) {
        free(text);
        return NULL;
    }
    axon_error failure;
    axon_status status = axi_json_read(text, length, "message", &item->tree, &failure);
    if (status == AXON_ENOMEM) {
        axi_item_drop(item);
        return NULL;
    }
    if (status != AXON_OK) {
        make_fault(item, failure.message);
        return item;
    }
    item->told.fields = item->tree;
    item->bytes += count_nodes(item->tree) * sizeof(axon_value);
    reading r = {.item = item};
    read_fields(&r, item->tree);
    if (item->told.kind == AXON_MESSAGE_OTHER) guess_fields(item, item->tree);
    item->is_open = item->told.kind != AXON_MESSAGE_CAMERA_FEED;
    return item;
}

bool axi_item_measure(axi_item *item, int64_t max_latency_ns)
{
    axon_message *m = &item->told;
    int64_t latency;
    if (m->stamp_ns == AXON_NO_TIME) return true;
    if (__builtin_sub_overflow(m->received_ns, m->stamp_ns, &latency)) return false;
    if (latency < 0 || latency > max_latency_ns) return false;
    m->latency_ns = latency;
    return true;
}

/* ---- pictures ------------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Cuts off what may stand around base64: "data:image/jpeg;base64,", and white space. */
static void trim(char **text, size_t *length)
{
    char *comma = *length >= 5 && memcmp(*text, "data:", 5) == 0
                      ? memchr(*text, ',', *length < 128 ? *length : 128)
                      : NULL;
    if (comma) {
        *length -= (size_t)(comma + 1 - *text);
        *text = comma + 1;
    }
    while (*length > 0 && is_space((*text)[*length - 1]))
        --*length;
}

/* Text in lines, as base64.encodebytes() makes them: of 76 characters at most. */
static size_t join_lines(char *text, size_t length)
{
    size_t shown = length < 80 ? length : 80, joined = 0;
    for (size_t i = 0; i < shown; i++) {
        if (!is_space(text[i])) continue;
        for (size_t at = 0; at < length; at++)
            if (!is_space(text[at])) text[joined++] = text[at];
        return joined;
    }
    return length;
}

static axon_status decode(char *text, size_t length, size_t *bytes, axi_header *header, axon_error *err)
{
    size_t wrong = 0;
    length = join_lines(text, length);
    if (!axi_base64_decode(text, bytes, text, length, &wrong))
        return wrong < length
                   ? axi_fail(err, AXON_EPROTOCOL, "is not base64: byte 0x%02x at offset %zu",
                              (unsigned)(uint8_t)text[wrong], wrong)
                   : axi_fail(err, AXON_EPROTOCOL, "is not base64: it is cut off at offset %zu", wrong);
    axi_source source = {.data = text, .length = *bytes};
    axon_error failure;
    axon_status status = axi_header_read(&source, header, "image_data", &failure);
    if (status == AXON_OK) return AXON_OK;
    return axi_fail(err, AXON_EPROTOCOL, "is no picture: %s", failure.message);
}

void axi_item_open(axi_item *item)
{
    if (item->is_open) return;
    item->is_open = true;
    axon_message *m = &item->told;
    axon_value *node = (axon_value *)(uintptr_t)axon_value_get(item->tree, "image_data");
    char *text = (char *)(uintptr_t)node->as.bytes.data;
    size_t length = node->as.bytes.length, bytes = 0;
    axi_header header;
    axon_error failure;
    trim(&text, &length);
    axon_status status = decode(text, length, &bytes, &header, &failure);
    if (status != AXON_OK) {
        reading r = {.item = item};
        refuse(&r, "image_data", "%s", failure.message);
        node->type = AXON_NIL; /* the text is garbage now */
        return;
    }
    node->type = AXON_BYTES;
    node->as.bytes.data = text;
    node->as.bytes.length = bytes;
    m->image = text;
    m->image_length = bytes;
    m->image_format = header.format;
    m->width = (int32_t)header.width;
    m->height = (int32_t)header.height;
}

axon_status axon_message_decode(const axon_message *message, axon_color color, axon_array *pixels,
                                axon_error *err)
{
    if (!message || !pixels)
        return axi_fail(err, AXON_EINVAL, "%s: it is NULL", message ? "pixels" : "message");
    if (!message->image) return axi_fail(err, AXON_EINVAL, "message: it has no picture");
    axon_image *image;
    axon_status status = axon_image_open_bytes(message->image, message->image_length, &image, err);
    if (status != AXON_OK) return status;
    status = axon_image_decode(image, color, pixels, err);
    axon_image_close(image);
    return status;
}

/* ---- text ---------------------------------------------------------------------------------- */

axon_status axon_message_read(const char *text, size_t length, axon_message **message, axon_error *err)
{
    if (!message || (!text && length))
        return axi_fail(err, AXON_EINVAL, "message: %s is NULL", message ? "text" : "message");
    if (length > SIZE_MAX / 2) return axi_no_memory(err, length);
    char *copy = malloc(length + 1);
    if (!copy) return axi_no_memory(err, length);
    if (length) memcpy(copy, text, length);
    copy[length] = 0;
    axi_item *item = axi_item_read(copy, length);
    if (!item) return axi_no_memory(err, length);
    axi_item_open(item);
    if (item->told.kind != AXON_MESSAGE_FAULT) {
        *message = &item->told;
        return AXON_OK;
    }
    axon_status status = axi_fail(err, AXON_EPROTOCOL, "%s", item->told.fault);
    axi_item_drop(item);
    return status;
}

axon_status axi_stream_write(const axon_value *tree, const char *subject, char **text, size_t *length,
                             axon_error *err)
{
    axi_body body = {0};
    axon_status status = axi_json_write(&body, tree, subject, err);
    if (status != AXON_OK) return status;
    *text = axi_body_join(&body);
    *length = (size_t)body.length;
    if (!*text) status = axi_no_memory(err, body.length);
    axi_body_free(&body);
    return status;
}
