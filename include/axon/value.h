/* axon/value.h - the tree that travels: observations, actions, requests, replies.
 *
 * Building  Constructors return NULL only when memory ran out, and adding a NULL child is reported by
 *           axon_value_set() and axon_value_append() as AXON_ENOMEM, so calls nest without checks:
 *
 *               axon_value *obs = axon_value_map();
 *               axon_array state = {.dtype = AXON_FLOAT32, .ndim = 1, .shape = {7}, .data = joints};
 *               axon_value_set(obs, "state", axon_value_array(&state));
 *               axon_value_set(obs, "prompt", axon_value_string("pick up the cup", AXON_ZSTRING));
 *
 * Ownership A leaf (string, bytes, array, image, JSON text) borrows the caller's memory until the tree
 *           is freed; map keys are copied. A child belongs to the tree it was added to, also when
 *           adding it failed; a whole reply may be added like any other value. What a reply's accessors
 *           return points into that reply.
 * Threads   A tree may be read by many threads at once while nobody changes it.
 */
#ifndef AXON_VALUE_H
#define AXON_VALUE_H

#include <axon/error.h>

AXON_BEGIN

#define AXON_MAX_NDIM 32  /* the most dimensions an array may have (numpy 1's own limit) */
#define AXON_MAX_DEPTH 32 /* the deepest nesting of lists and maps that is read or sent */

/** A length that means: up to the ending zero. */
#define AXON_ZSTRING (-1)

/** What a node of the tree is. */
typedef enum axon_type {
    AXON_NIL = 0,
    AXON_BOOL = 1,
    AXON_INT = 2,    /**< fits int64_t */
    AXON_UINT = 3,   /**< above INT64_MAX, fits uint64_t */
    AXON_FLOAT = 4,  /**< a double */
    AXON_STRING = 5, /**< UTF-8 */
    AXON_BYTES = 6,
    AXON_ARRAY = 7,  /**< an n-dimensional array (numpy.ndarray) */
    AXON_SCALAR = 8, /**< one typed number (numpy.generic): an axon_array of ndim 0 */
    AXON_IMAGE = 9,  /**< outgoing only: base64 text in JSON, pixels (height, width, 3) in msgpack */
    AXON_JSON = 10,  /**< JSON text that nobody has parsed; goes into a JSON body as it is */
    AXON_LIST = 11,
    AXON_MAP = 12
} axon_type;

/** The element type of an array. Names are numpy's; nothing else travels. */
typedef enum axon_dtype {
    AXON_BOOL8 = 1,
    AXON_INT8 = 2,
    AXON_INT16 = 3,
    AXON_INT32 = 4,
    AXON_INT64 = 5,
    AXON_UINT8 = 6,
    AXON_UINT16 = 7,
    AXON_UINT32 = 8,
    AXON_UINT64 = 9,
    AXON_FLOAT16 = 10,
    AXON_FLOAT32 = 11,
    AXON_FLOAT64 = 12,
    AXON_FIXED_TEXT = 13, /**< numpy "<U4": UTF-32, itemsize bytes each, padded with zeros */
    AXON_FIXED_BYTES = 14 /**< numpy "|S4": itemsize bytes each, padded with zeros */
} axon_dtype;

/** An array, described. The memory is whoever's it was.
 *  Arrays that were received are C-ordered (strides all 0), in this machine's byte order and aligned; their
 *  bools are 0 or 1, their text is Unicode. */
typedef struct axon_array {
    axon_dtype dtype;               /**< required */
    int32_t ndim;                   /**< 0 to AXON_MAX_NDIM; 0 is one element */
    uint32_t itemsize;              /**< bytes of one element; only the AXON_FIXED_ types need it */
    int32_t swapped;                /**< 1: elements are in the other byte order (numpy ">f4") */
    const void *data;               /**< the first element; may be NULL when there are none */
    int64_t shape[AXON_MAX_NDIM];   /**< each >= 0 */
    int64_t strides[AXON_MAX_NDIM]; /**< bytes from one element to the next; all 0: C order, so one
                                         element repeated along every dimension has no description */
} axon_array;

/** The bytes of one element; 0 for the AXON_FIXED_ types and for what is no dtype. */
AXON_API uint32_t axon_dtype_size(axon_dtype dtype);

/** The bytes that the elements take together, 0 also for an invalid description.
 *  @param bytes  written on AXON_OK
 *  @return AXON_EINVAL (the message names the member at fault) */
AXON_API axon_status axon_array_size(const axon_array *array, uint64_t *bytes, axon_error *err);

/** A tree, or a branch of one. */
typedef struct axon_value axon_value;
typedef struct axon_image axon_image;

/* ---- building ------------------------------------------------------------------------------ */

AXON_API axon_value *axon_value_nil(void);
AXON_API axon_value *axon_value_bool(int32_t truth);
AXON_API axon_value *axon_value_int(int64_t number);
AXON_API axon_value *axon_value_uint(uint64_t number);
AXON_API axon_value *axon_value_float(double number);

/** @param utf8    borrowed
 *  @param length  bytes, or AXON_ZSTRING */
AXON_API axon_value *axon_value_string(const char *utf8, int64_t length);

/** @param data  borrowed; may be NULL when length is 0 */
AXON_API axon_value *axon_value_bytes(const void *data, size_t length);

/** An array, checked when it is sent. @param array  copied; the data it points at is borrowed */
AXON_API axon_value *axon_value_array(const axon_array *array);

/** One typed number. @param dtype  a bool, integer or float type
 *  @param element  one element in this machine's byte order; copied */
AXON_API axon_value *axon_value_scalar(axon_dtype dtype, const void *element);

/** @param image  borrowed */
AXON_API axon_value *axon_value_image(const axon_image *image);

/** @param text  borrowed JSON text, for a JSON body only; @param length  bytes, or AXON_ZSTRING */
AXON_API axon_value *axon_value_json(const char *text, int64_t length);

AXON_API axon_value *axon_value_list(void);
AXON_API axon_value *axon_value_map(void);

/** Puts `child` under `key`; an earlier child of that key is freed.
 *  @param key    UTF-8, zero-terminated; copied
 *  @param child  the map's from now on, freed on failure; NULL is AXON_ENOMEM
 *  @return AXON_EINVAL when `map` is no map, or is `child`, which then stays the caller's; AXON_ENOMEM, also
 *          when `map` is NULL, being what a constructor gave */
AXON_API axon_status axon_value_set(axon_value *map, const char *key, axon_value *child);

/** Adds `child` at the end. @param child  as for axon_value_set() */
AXON_API axon_status axon_value_append(axon_value *list, axon_value *child);

/** Adds `count` floats at the end, in one call. On failure none is added. */
AXON_API axon_status axon_value_append_floats(axon_value *list, const double *numbers, size_t count);

/** Adds `count` integers at the end, in one call. On failure none is added. */
AXON_API axon_status axon_value_append_ints(axon_value *list, const int64_t *numbers, size_t count);

/* ---- reading ------------------------------------------------------------------------------- */

/** @param value  NULL counts as AXON_NIL, here and in every call below, so look-ups can be chained */
AXON_API axon_type axon_value_type(const axon_value *value);

/** The children of a list or map; 0 for every other type. */
AXON_API size_t axon_value_count(const axon_value *value);

/** The child at `index`, in order, of a list or map; NULL beyond the end. */
AXON_API const axon_value *axon_value_at(const axon_value *value, size_t index);

/** The key of the child at `index` of a map; NULL beyond the end or for another type.
 *  @param length    its bytes; may be NULL. The key is not zero-terminated in a received tree
 *  @param is_bytes  1 when the peer sent the key as bytes, else 0; may be NULL */
AXON_API const char *axon_value_key(const axon_value *map, size_t index, size_t *length, int32_t *is_bytes);

/** The child under `key` (zero-terminated), whether the peer sent that as text or as bytes; the last one when
 *  a peer sent several; NULL when there is none. */
AXON_API const axon_value *axon_value_get(const axon_value *map, const char *key);

/* Each of these writes its outputs and returns AXON_OK, or returns AXON_EINVAL and writes nothing when
 * the value is of another type or does not fit. Integers, floats and scalars convert when it is exact
 * (an integer to float: when no digit is lost). */
AXON_API axon_status axon_value_as_bool(const axon_value *value, int32_t *truth);
AXON_API axon_status axon_value_as_int(const axon_value *value, int64_t *number);
AXON_API axon_status axon_value_as_uint(const axon_value *value, uint64_t *number);
AXON_API axon_status axon_value_as_float(const axon_value *value, double *number);
/** Of a string or JSON text. Not zero-terminated in a received tree. */
AXON_API axon_status axon_value_as_string(const axon_value *value, const char **utf8, size_t *length);
AXON_API axon_status axon_value_as_bytes(const axon_value *value, const void **data, size_t *length);
/** Of an array or a scalar. */
AXON_API axon_status axon_value_as_array(const axon_value *value, const axon_array **array);
/** Of a list of numbers, each of which converts: all of them in one call.
 *  @param numbers  room for axon_value_count() of them */
AXON_API axon_status axon_value_as_floats(const axon_value *list, double *numbers);
AXON_API axon_status axon_value_as_ints(const axon_value *list, int64_t *numbers);

/** Frees a tree, whole. @param value  the root, as a constructor or a call handed it over; or NULL */
AXON_API void axon_value_free(axon_value *value);

/* ---- as bytes ------------------------------------------------------------------------------ */

/** How arrays are marked in msgpack. Reading understands every one of them. */
typedef enum axon_marker {
    AXON_MARKER_OPENPI = 0,   /**< bin keys b"__ndarray__", b"data", b"dtype", b"shape" */
    AXON_MARKER_SIMULATOR = 1 /**< str keys "__type__": "ndarray", "shape", "dtype", "data" */
} axon_marker;

/** Writes a tree as msgpack.
 *  @param data  the bytes, the caller's; free them with axon_free()
 *  @return AXON_EINVAL; the message names the place in the tree and the reason */
AXON_API axon_status axon_value_to_msgpack(const axon_value *value, axon_marker marker, void **data,
                                           size_t *length, axon_error *err);

/** Reads one msgpack message. Every byte is taken for hostile: lengths, counts, depth, UTF-8, dtype and
 *  shape are checked against what is there, and nothing may follow the message.
 *  @param data   read during the call only
 *  @param value  the tree, the caller's; free it with axon_value_free()
 *  @return AXON_EPROTOCOL; the message names the place in the tree and the reason.
 *          AXON_ETOOBIG (over 8 388 608 values) */
AXON_API axon_status axon_value_from_msgpack(const void *data, size_t length, axon_value **value,
                                             axon_error *err);

/** Reads the first of several msgpack messages that lie or arrive one after the other, as
 *  axon_value_from_msgpack() reads one.
 *  @param used   how many bytes the message has; 0 when it is not whole yet
 *  @param value  the tree, the caller's; NULL when the message is not whole yet
 *  @return AXON_EPROTOCOL, AXON_ETOOBIG (over 8 388 608 values), both also before the message is whole */
AXON_API axon_status axon_value_read_msgpack(const void *data, size_t length, size_t *used,
                                             axon_value **value, axon_error *err);

/** Writes a tree as JSON. Arrays become nested lists, bytes and images base64 text, numbers that JSON
 *  does not know become null.
 *  @param text    zero-terminated, the caller's; free it with axon_free()
 *  @param length  its bytes without the zero; may be NULL
 *  @return AXON_EINVAL; the message names the place in the tree and the reason */
AXON_API axon_status axon_value_to_json(const axon_value *value, char **text, size_t *length,
                                        axon_error *err);

/** Reads JSON text, as hostile as msgpack is.
 *  @param text   read during the call only
 *  @param value  the tree, the caller's; free it with axon_value_free()
 *  @return AXON_EPROTOCOL; the message names the offset. AXON_ETOOBIG (over 8 388 608 values) */
AXON_API axon_status axon_value_from_json(const char *text, size_t length, axon_value **value,
                                          axon_error *err);

AXON_END

#endif
