/* axon/image.h - one picture, in whatever form the caller has it.
 *
 * An image is opened from file bytes, a path, pixels or base64 text, checked then and there, and handed to
 * calls that send it. What it holds is found out from its first bytes, never from a file's name.
 *
 * Ownership The memory that an image was opened from is borrowed until axon_image_close(), except that a
 *           path is read whole during the call.
 * Threads   An image never changes: any number of threads may read it.
 */
#ifndef AXON_IMAGE_H
#define AXON_IMAGE_H

#include <axon/value.h>

AXON_BEGIN

/** The form that a picture is stored in. */
typedef enum axon_image_format {
    AXON_IMAGE_UNKNOWN = 0, /**< none; in options: the default */
    AXON_IMAGE_PIXELS = 1,  /**< an array */
    AXON_IMAGE_JPEG = 2,
    AXON_IMAGE_PNG = 3,
    AXON_IMAGE_NPY = 4, /**< numpy's .npy file, for depth */
    AXON_IMAGE_WEBP = 5,
    AXON_IMAGE_BMP = 6,
    AXON_IMAGE_TIFF = 7,
    AXON_IMAGE_GIF = 8
} axon_image_format;

/** The order of the channels in pixels of 3 or 4 channels. */
typedef enum axon_color {
    AXON_COLOR_DEFAULT = 0, /**< AXON_BGR, OpenCV's order, unless the call's comment says otherwise */
    AXON_RGB = 1,
    AXON_BGR = 2
} axon_color;

/** Opens file bytes: a whole JPEG, PNG, or any other picture file that axon_image_format names, which
 *  travels as it is. Of a JPEG, PNG or .npy the header is read too; whether the rest is sound shows when
 *  it is decoded.
 *  @param data   borrowed, not empty
 *  @param image  the caller's; free it with axon_image_close()
 *  @return AXON_EINVAL when it is no picture, or cut off in its header */
AXON_API axon_status axon_image_open_bytes(const void *data, size_t length, axon_image **image,
                                           axon_error *err);

/** Opens a picture file; it is read now.
 *  @param path  zero-terminated
 *  @return AXON_EIO (no such file, a directory, no permission), AXON_EINVAL (not a picture),
 *          AXON_ETOOBIG (over 256 MiB) */
AXON_API axon_status axon_image_open_path(const char *path, axon_image **image, axon_error *err);

/** Opens pixels: uint8 (height, width), (height, width, 1 | 3 | 4); uint16 (height, width), perhaps with
 *  a last dimension of 1; float32 or float64 likewise, which travel as .npy. Any strides, either byte order,
 *  up to 2^28 pixels.
 *  @param pixels  copied; the data it points at is borrowed
 *  @return AXON_EINVAL naming the shape or dtype that cannot be a picture */
AXON_API axon_status axon_image_open_pixels(const axon_array *pixels, axon_color color, axon_image **image,
                                            axon_error *err);

/** Opens base64 text of picture file bytes, bare or as a data URI ("data:image/png;base64,..."). White space
 *  and a missing padding are put right in a copy; else the text travels as it is.
 *  @param text    borrowed
 *  @param length  bytes, or AXON_ZSTRING
 *  @return AXON_EINVAL when it is not base64, or not of a picture */
AXON_API axon_status axon_image_open_base64(const char *text, int64_t length, axon_image **image,
                                            axon_error *err);

/** Opens text that is either a path or base64, as people pass it: an existing file is read; otherwise the
 *  text must be base64 of a picture.
 *  @return AXON_EIO, AXON_EINVAL (neither; the message quotes the text's beginning), AXON_ETOOBIG */
AXON_API axon_status axon_image_open_text(const char *text, int64_t length, axon_image **image,
                                          axon_error *err);

/** What is known of an image without decoding it. */
typedef struct axon_image_info {
    size_t size;              /**< sizeof(axon_image_info), set by the caller; 0 is AXON_EINVAL */
    axon_image_format format; /**< how it is held */
    int32_t width;            /**< pixels; 0 when the format is not one that axon reads */
    int32_t height;           /**< pixels; likewise */
    int32_t channels;         /**< 1, 3 or 4, and 2 for a PNG of grey and alpha; likewise */
    int32_t bits;             /**< of one channel, when decoded: 8, 16, 32 or 64; likewise */
} axon_image_info;

AXON_API axon_status axon_image_inspect(const axon_image *image, axon_image_info *info, axon_error *err);

/** Options of axon_image_encode(). Zero means the default. */
typedef struct axon_image_encode_options {
    size_t size;              /**< sizeof(axon_image_encode_options); 0 is AXON_EINVAL */
    axon_image_format format; /**< PNG, JPEG or NPY; default: file bytes stay as they are, uint8 and
                                   uint16 pixels become PNG, float pixels NPY */
    int32_t quality;          /**< of a JPEG, 1 to 100; default 90 */
} axon_image_encode_options;

/** Gives the picture as file bytes; bytes already of the format asked for are copied as they are, a JPEG or
 *  PNG is decoded first. Colour in PNG and JPEG is stored in their own order; NPY has the pixels as they were
 *  given, in C order.
 *  @param opts  may be NULL
 *  @param data  the caller's; free it with axon_free()
 *  @return AXON_EINVAL when the pixels do not fit the format (float as PNG, uint16 as JPEG), and as
 *          axon_image_decode() */
AXON_API axon_status axon_image_encode(const axon_image *image, const axon_image_encode_options *opts,
                                       void **data, size_t *length, axon_error *err);

/** Decodes a JPEG or PNG, or copies pixels, into a fresh array: uint8 (height, width, 3) for pictures in
 *  colour and 8-bit grey, with alpha dropped; uint16 (height, width) for 16-bit grey. Other pixels keep
 *  their dtype and shape.
 *  @param color   the channel order wanted; AXON_COLOR_DEFAULT is AXON_RGB here
 *  @param pixels  its data is the caller's; free it with axon_free((void *)pixels.data)
 *  @return AXON_EINVAL (a format that axon does not decode), AXON_EPROTOCOL (damaged),
 *          AXON_ETOOBIG (over 2^28 pixels) */
AXON_API axon_status axon_image_decode(const axon_image *image, axon_color color, axon_array *pixels,
                                       axon_error *err);

/** @param image  may be NULL */
AXON_API void axon_image_close(axon_image *image);

AXON_END

#endif
