/* See chunk_internal.h. A reply's arrays become one row of numbers per step. What a reply looks like is found out
 * from the first one; all others must look like it. */
#include "chunk_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void axi_chunk_free_layout(axi_chunk_layout *layout)
{
    if (!layout) return;
    free(layout->dimensions);
    free(layout->last);
    free(layout->scratch);
    free(layout);
}

/* ---- finding the arrays -------------------------------------------------------------------- */

/* The child whose key has these bytes. */
static const axon_value *child_of(const axon_value *map, const char *key, size_t length)
{
    char name[AXI_CHUNK_KEY];
    if (length >= sizeof name) return NULL;
    memcpy(name, key, length);
    name[length] = 0;
    return axon_value_get(map, name);
}

/* "arm.joints": a key that has a dot in it, or keys one below the other. */
static const axon_value *look_up(const axon_value *map, const char *path)
{
    const axon_value *whole = axon_value_get(map, path);
    for (const char *dot = strchr(path, '.'); !whole && dot; dot = strchr(dot + 1, '.'))
        whole = look_up(child_of(map, path, (size_t)(dot - path)), dot + 1);
    return whole;
}

static const axon_array *array_at(const axon_value *value)
{
    const axon_array *array;
    if (axon_value_type(value) != AXON_ARRAY || axon_value_as_array(value, &array) != AXON_OK) return NULL;
    return array->ndim > 0 && axon_dtype_size(array->dtype) > 0 ? array : NULL;
}

static bool is_action(const char *key)
{
    if (strncmp(key, "action", 6) != 0) return false;
    key += key[6] == 's' ? 7 : 6;
    return *key == 0 || *key == '.';
}

/* The numbers of one step, or 0 when they are too many, or none. */
static size_t count_numbers(const axon_array *array)
{
    uint64_t count = 1;
    for (int32_t i = 1; i < array->ndim; i++) {
        if (array->shape[i] <= 0 || array->shape[i] > AXON_CHUNK_MAX_WIDTH) return 0;
        count *= (uint64_t)array->shape[i];
        if (count > AXON_CHUNK_MAX_WIDTH) return 0;
    }
    return (size_t)count;
}

static axon_status add_field(axi_chunk_layout *layout, const char *key, const axon_array *array,
                             axon_error *err)
{
    size_t count = count_numbers(array);
    if (count == 0 || layout->width + count > AXON_CHUNK_MAX_WIDTH)
        return axi_fail(err, AXON_EPROTOCOL, "%s: a step has no numbers, or more than %d together", key,
                        AXON_CHUNK_MAX_WIDTH);
    if (layout->field_count == AXI_CHUNK_FIELDS)
        return axi_fail(err, AXON_EPROTOCOL, "%s: the reply has over %d chunks", key, AXI_CHUNK_FIELDS);
    char *name = layout->keys[layout->field_count];
    snprintf(name, AXI_CHUNK_KEY, "%s", key);
    axon_chunk_field *field = &layout->fields[layout->field_count++];
    *field = (axon_chunk_field){.key = name,
                                .dtype = array->dtype,
                                .offset = layout->width,
                                .count = count,
                                .ndim = array->ndim - 1};
    memcpy(field->shape, array->shape + 1, (size_t)field->ndim * sizeof *field->shape);
    layout->width += count;
    return AXON_OK;
}

/* What a walk over a reply looks for: actions first, then what is as long as they are. */
typedef struct {
    axi_chunk_layout *layout;
    int64_t steps; /* negative: actions are looked for */
    int64_t found; /* how many steps the first one has */
} search;

static axon_status consider(search *wanted, const char *key, const axon_array *array, axon_error *err)
{
    axi_chunk_layout *layout = wanted->layout;
    bool is_about_actions = wanted->steps < 0;
    if (is_action(key) != is_about_actions) return AXON_OK;
    if (is_about_actions) {
        if (layout->field_count == 0) wanted->found = array->shape[0];
        return add_field(layout, key, array, err);
    }
    size_t count = count_numbers(array);
    bool fits =
        array->shape[0] == wanted->steps && count > 0 && layout->width + count <= AXON_CHUNK_MAX_WIDTH;
    return fits ? add_field(layout, key, array, err) : AXON_OK;
}

static axon_status find_arrays(search *wanted, const axon_value *map, const char *prefix, int depth,
                               axon_error *err)
{
    axon_status status = AXON_OK;
    for (size_t i = 0; i < axon_value_count(map) && status == AXON_OK; i++) {
        char key[AXI_CHUNK_KEY];
        size_t length;
        const char *name = axon_value_key(map, i, &length, NULL);
        int printed = snprintf(key, sizeof key, "%s%s%.*s", prefix, *prefix ? "." : "",
                               length < sizeof key ? (int)length : (int)sizeof key, name);
        if (printed < 0 || (size_t)printed >= sizeof key) continue;
        const axon_value *child = axon_value_at(map, i);
        if (axon_value_type(child) == AXON_MAP && depth > 0)
            status = find_arrays(wanted, child, key, depth - 1, err);
        else if (array_at(child))
            status = consider(wanted, key, array_at(child), err);
    }
    return status;
}

static axon_status infer_fields(axi_chunk_layout *layout, const axon_value *reply, axon_error *err)
{
    search actions = {.layout = layout, .steps = -1};
    axon_status status = find_arrays(&actions, reply, "", AXON_MAX_DEPTH, err);
    if (status != AXON_OK) return status;
    if (layout->field_count == 0)
        return axi_fail(
            err, AXON_EPROTOCOL,
            "the reply holds no array named actions or action; say which arrays are chunks (keys)");
    search others = {.layout = layout, .steps = actions.found};
    return find_arrays(&others, reply, "", AXON_MAX_DEPTH, err);
}

static axon_status take_fields(const axon_chunk_engine *engine, axi_chunk_layout *layout,
                               const axon_value *reply, axon_error *err)
{
    if (engine->key_count == 0) return infer_fields(layout, reply, err);
    axon_status status = AXON_OK;
    for (size_t i = 0; i < engine->key_count && status == AXON_OK; i++) {
        const axon_value *value = look_up(reply, engine->keys[i]);
        const axon_array *array = array_at(value);
        if (array)
            status = add_field(layout, engine->keys[i], array, err);
        else
            status = axi_fail(err, AXON_EPROTOCOL, "the reply's %s is %s (keys)", engine->keys[i],
                              value ? "no array of numbers that has steps" : "not there");
    }
    return status;
}

/* ---- the layout ---------------------------------------------------------------------------- */

/* Ends each of the keys that a path is made up of, as look_up() does; their number, 0 when there is no such path. */
static size_t split_path(const axon_value *map, char *path, const char **keys, size_t room)
{
    keys[0] = path;
    if (axon_value_get(map, path)) return 1;
    for (char *dot = strchr(path, '.'); dot && room > 1; dot = strchr(dot + 1, '.')) {
        *dot = 0;
        size_t rest = split_path(axon_value_get(map, path), dot + 1, keys + 1, room - 1);
        if (rest > 0) return rest + 1;
        *dot = '.';
    }
    return 0;
}

static void set_paths(axi_chunk_layout *layout, const axon_value *reply)
{
    for (size_t i = 0; i < layout->field_count; i++) {
        const char **path = layout->paths[i];
        memcpy(layout->names[i], layout->keys[i], sizeof layout->names[i]);
        size_t count = split_path(reply, layout->names[i], path, AXON_MAX_DEPTH);
        path[count > 0 ? count : 1] = NULL;
        layout->fields[i].path = path;
    }
}

static axon_status set_dimensions(const axon_chunk_engine *engine, axi_chunk_layout *layout,
                                  axon_error *err)
{
    size_t width = layout->width, given = engine->options.dimension_count;
    if (engine->dimensions && given != width)
        return axi_fail(err, AXON_EINVAL, "dimensions has %zu entries, an action has %zu numbers", given,
                        width);
    layout->dimensions = calloc(width, 1);
    layout->last = calloc(width, sizeof *layout->last);
    layout->scratch = calloc(width, sizeof *layout->scratch);
    if (!layout->dimensions || !layout->last || !layout->scratch) return axi_no_memory(err, width * 17);
    layout->is_linear = true;
    for (size_t i = 0; engine->dimensions && i < width; i++) {
        layout->dimensions[i] = engine->dimensions[i];
        if ((layout->dimensions[i] & ~AXON_DIM_VELOCITY) != AXON_DIM_LINEAR) layout->is_linear = false;
    }
    return AXON_OK;
}

static axon_status find_layout(const axon_chunk_engine *engine, const axon_value *reply,
                               axi_chunk_layout **layout, axon_error *err)
{
    axi_chunk_layout *made = calloc(1, sizeof *made);
    if (!made) return axi_no_memory(err, sizeof *made);
    axon_status status = take_fields(engine, made, reply, err);
    if (status == AXON_OK) set_paths(made, reply);
    if (status == AXON_OK) status = set_dimensions(engine, made, err);
    if (status == AXON_OK)
        *layout = made;
    else
        axi_chunk_free_layout(made);
    return status;
}

/* ---- numbers ------------------------------------------------------------------------------- */

static axon_status refuse_number(const axon_chunk_field *field, size_t row, size_t column, double number,
                                 axon_error *err)
{
    char place[64];
    size_t length = (size_t)snprintf(place, sizeof place, "[%zu", row), rest = field->count;
    for (int32_t i = 0; i < field->ndim && length < sizeof place - 24; i++) {
        rest /= (size_t)field->shape[i];
        length += (size_t)snprintf(place + length, sizeof place - length, ", %zu",
                                   column / rest % (size_t)field->shape[i]);
    }
    return axi_fail(err, AXON_EPROTOCOL, "the reply's %s%s] is %s (allow_nan)", field->key, place,
                    isnan(number)  ? "NaN"
                    : number > 0.0 ? "infinity"
                                   : "-infinity");
}

static double number_at(const uint8_t *elements, const axon_array *array, size_t size, size_t index)
{
    float real;
    double precise;
    if (array->dtype == AXON_FLOAT32 && !array->swapped) {
        memcpy(&real, elements + 4 * index, sizeof real);
        return (double)real;
    }
    if (array->dtype == AXON_FLOAT64 && !array->swapped) {
        memcpy(&precise, elements + 8 * index, sizeof precise);
        return precise;
    }
    axon_value element;
    axi_element_read(elements + size * index, array->dtype, array->swapped, &element);
    if (element.type == AXON_FLOAT) return element.as.real;
    return element.type == AXON_UINT ? (double)element.as.natural : (double)element.as.integer;
}

/* Writes a field's columns of all rows. */
static axon_status copy_elements(const axon_chunk_engine *engine, const axon_chunk_field *field,
                                 const axon_array *array, const uint8_t *elements, size_t width,
                                 axi_chunk *chunk, axon_error *err)
{
    size_t size = axon_dtype_size(array->dtype);
    for (size_t row = 0; row < chunk->rows; row++) {
        double *out = chunk->numbers + row * width + field->offset;
        for (size_t i = 0; i < field->count; i++) {
            out[i] = number_at(elements, array, size, row * field->count + i);
            if (!isfinite(out[i]) && !engine->options.allow_nan)
                return refuse_number(field, row, i, out[i], err);
        }
    }
    return AXON_OK;
}

static axon_status copy_field(const axon_chunk_engine *engine, const axon_chunk_field *field,
                              const axon_array *array, size_t width, axi_chunk *chunk, axon_error *err)
{
    axi_layout place;
    axon_status status = axi_array_layout(array, &place, field->key, NULL, err);
    if (status != AXON_OK) return axi_fail(err, AXON_EPROTOCOL, "the reply's %s", err->message);
    void *gathered = NULL;
    if (!place.is_contiguous) {
        gathered = malloc(place.bytes);
        if (!gathered) return axi_no_memory(err, place.bytes);
        axi_array_gather(gathered, array, &place);
    }
    status = copy_elements(engine, field, array, gathered ? gathered : array->data, width, chunk, err);
    free(gathered);
    return status;
}

/* ---- reading a reply ----------------------------------------------------------------------- */

static void print_shape(char *text, size_t size, const int64_t *shape, int32_t ndim)
{
    size_t length = 0;
    text[0] = 0;
    for (int32_t i = 0; i < ndim && length + 24 < size; i++)
        length +=
            (size_t)snprintf(text + length, size - length, "%s%lld", i ? ", " : "", (long long)shape[i]);
}

/* Whether the steps of an array have the shape that those of the first chunk had. */
static axon_status check_steps(const axon_chunk_field *field, const axon_array *array, axon_error *err)
{
    if (!array)
        return axi_fail(err, AXON_EPROTOCOL, "the reply's %s is not there, or no array of numbers",
                        field->key);
    bool is_same = array->ndim - 1 == field->ndim &&
                   memcmp(array->shape + 1, field->shape, (size_t)field->ndim * sizeof *field->shape) == 0;
    if (is_same) return AXON_OK;
    char now[128], before[128];
    print_shape(now, sizeof now, array->shape + 1, array->ndim - 1);
    print_shape(before, sizeof before, field->shape, field->ndim);
    return axi_fail(err, AXON_EPROTOCOL,
                    "the reply's %s: a step has the shape (%s), in the first chunk (%s)", field->key, now,
                    before);
}

static axon_status count_rows(const axon_chunk_engine *engine, const axi_chunk_layout *layout,
                              const axon_value *reply, uint32_t *rows, axon_error *err)
{
    int64_t count = -1;
    for (size_t i = 0; i < layout->field_count; i++) {
        const axon_chunk_field *field = &layout->fields[i];
        const axon_array *array = array_at(look_up(reply, field->key));
        axon_status status = check_steps(field, array, err);
        if (status != AXON_OK) return status;
        if (count < 0) count = array->shape[0];
        if (array->shape[0] != count)
            return axi_fail(err, AXON_EPROTOCOL, "the reply's %s has %lld steps, its %s has %lld",
                            field->key, (long long)array->shape[0], layout->fields[0].key,
                            (long long)count);
    }
    if (count < 1 || count > AXON_CHUNK_MAX_STEPS)
        return axi_fail(err, AXON_EPROTOCOL, "the reply's %s has %lld steps, not 1 to %d",
                        layout->fields[0].key, (long long)count, AXON_CHUNK_MAX_STEPS);
    if (count < engine->options.action_horizon)
        return axi_fail(err, AXON_EPROTOCOL,
                        "the reply's %s has %lld steps, fewer than %u (action_horizon)",
                        layout->fields[0].key, (long long)count, engine->options.action_horizon);
    *rows = (uint32_t)count;
    return AXON_OK;
}

static axon_status read_rows(const axon_chunk_engine *engine, const axi_chunk_layout *layout,
                             const axon_value *reply, axi_chunk **chunk, axon_error *err)
{
    uint32_t rows;
    axon_status status = count_rows(engine, layout, reply, &rows, err);
    if (status != AXON_OK) return status;
    size_t bytes = sizeof **chunk + (size_t)rows * layout->width * sizeof(double);
    axi_chunk *made = calloc(1, bytes);
    if (!made) return axi_no_memory(err, bytes);
    made->rows = rows;
    made->steps = engine->options.action_horizon ? engine->options.action_horizon : rows;
    for (size_t i = 0; i < layout->field_count && status == AXON_OK; i++) {
        const axon_chunk_field *field = &layout->fields[i];
        status = copy_field(engine, field, array_at(look_up(reply, field->key)), layout->width, made, err);
    }
    if (status == AXON_OK)
        *chunk = made;
    else
        free(made);
    return status;
}

axon_status axi_chunk_read(axon_chunk_engine *engine, const axon_value *reply, axi_chunk **chunk,
                           axon_error *err)
{
    axi_chunk_layout *layout = engine->layout;
    if (axon_value_type(reply) != AXON_MAP)
        return axi_fail(err, AXON_EPROTOCOL, "the policy's reply is no map");
    axon_status status = layout ? AXON_OK : find_layout(engine, reply, &layout, err);
    if (status != AXON_OK) return status;
    status = read_rows(engine, layout, reply, chunk, err);
    if (status == AXON_OK && !engine->layout) {
        engine->layout = layout;
        atomic_store(&engine->width, layout->width);
    } else if (layout != engine->layout) {
        axi_chunk_free_layout(layout);
    }
    return status;
}
