"""Pictures made ready for a policy: openpi_client's image_tools, bit for bit, in C and without Pillow."""

from __future__ import annotations

import functools
import operator
from typing import Any, Callable

import numpy as np

from service_clients._axon._ffi import check, ffi, lib, new_error
from service_clients._axon.errors import AxonTypeError, AxonValueError
from service_clients._axon.options import fill
from service_clients._axon.values import describe

__all__ = ["BILINEAR", "convert_to_uint8", "resize", "resize_with_pad"]

BILINEAR = 2  # PIL.Image.BILINEAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_FILTERS = {
    "nearest": lib.AXON_FILTER_NEAREST,
    "lanczos": lib.AXON_FILTER_LANCZOS,
    "bilinear": lib.AXON_FILTER_BILINEAR,
    "bicubic": lib.AXON_FILTER_BICUBIC,
    "box": lib.AXON_FILTER_BOX,
    "hamming": lib.AXON_FILTER_HAMMING,
    "mks2013": lib.AXON_FILTER_MKS2013,
    "mks2021": lib.AXON_FILTER_MKS2021,
}
_PILLOWS = dict(enumerate(_FILTERS))  # by PIL.Image.Resampling's numbers
_LAYOUTS = {"hwc": lib.AXON_LAYOUT_HWC, "chw": lib.AXON_LAYOUT_CHW, "hw": lib.AXON_LAYOUT_HW}
_MAX_PIXELS = 1 << 28  # as in axon/resize.h
_BYTES = ffi.typeof("uint8_t[]")


def convert_to_uint8(img: Array) -> Array:
    """A float picture, 0 to 1, as uint8, 0 to 255; a picture of any other dtype as it is.

    Args:
        img: any shape and strides.

    Returns:
        uint8 of the same shape, C order: `(255 * img).astype(numpy.uint8)`, which drops what is behind the point.
        Outside of 0 to 1 values wrap around (256 is 0, -1 is 255), as they do in the original on x86-64; NaN and
        what no int32 can hold give 0. There is no warning.
    """
    if not np.issubdtype(img.dtype, np.floating):
        return img
    if img.dtype.itemsize > 8:
        return (255 * img).astype(np.uint8)  # long double
    result, error, keep = np.empty(img.shape, np.uint8), new_error(), []  # type: ignore[var-annotated]
    pixels = describe(np.asarray(img), keep)
    check(lib.axon_convert_to_uint8(pixels, _memory(result), result.nbytes, error), error)
    return result


def resize_with_pad(
    images: Array, height: int, width: int, method: Any = BILINEAR, *, layout: str = "hwc"
) -> Array:
    """Resizes pictures as far as they fit, and centres them on black.

    Args:
        images: (..., height, width, channels): uint8, or floats; 1 to 4 channels, the last of 2 or 4 being alpha;
            any strides.
        height: of the result, pixels.
        width: likewise.
        method: one of PIL.Image's (or of PIL.Image.Resampling, or its number), or a name: "nearest", "box",
            "bilinear", "hamming", "bicubic", "lanczos", "mks2013", "mks2021".
        layout: "hwc"; "chw" for (..., channels, height, width), "hw" for (..., height, width).

    Returns:
        uint8, or float32, in the same layout, C order: the bits that Pillow 13 gives, for floats those of its mode
        F for each channel. `images` itself when it is of that size.

    Raises:
        ValueError: a shape, size, method or layout that cannot be, or a side would become 0 pixels long.
        TypeError: neither uint8 nor floats.
    """
    if images.shape[_height_and_width(layout)] == (height, width):
        return images
    return _call(lib.axon_resize_with_pad, images, height, width, method, layout)


def resize(images: Array, height: int, width: int, method: Any = BILINEAR, *, layout: str = "hwc") -> Array:
    """Resizes pictures to `height` x `width`, whatever that does to their shape: else as `resize_with_pad`.

    Returns:
        A new array, also when nothing changes.
    """
    return _call(lib.axon_resize, images, height, width, method, layout)


def _call(
    function: Callable[..., int], images: Array, height: int, width: int, method: Any, layout: str
) -> Array:
    kind = images.dtype.kind
    if images.dtype != np.uint8 and (kind != "f" or images.dtype.itemsize > 8):
        raise AxonTypeError(f"resize: images are {images.dtype}; only uint8 and floats can be resized")
    height, width = _side(height, "height"), _side(width, "width")
    shape = list(images.shape)
    shape[_height_and_width(layout)] = [height, width]
    if height * width > _MAX_PIXELS:
        shape = [0]  # C says why
    result = np.empty(shape, np.float32 if kind == "f" else np.uint8)
    error, keep = new_error(), []  # type: ignore[var-annotated]
    pictures = describe(np.asarray(images), keep)
    options = _options(_filter(method), _LAYOUTS[layout])
    check(function(pictures, height, width, options, _memory(result), result.nbytes, error), error)
    return result


def _height_and_width(layout: str) -> slice:
    """Where a layout has them in an array's shape."""
    if layout not in _LAYOUTS:
        raise AxonValueError(f"layout is {layout!r:.80}, not one of {', '.join(_LAYOUTS)}")
    return slice(-3, -1) if layout == "hwc" else slice(-2, None)


def _side(pixels: int, name: str) -> int:
    try:
        number = operator.index(pixels)
    except TypeError:
        raise AxonTypeError(f"resize: {name} is {pixels!r:.80}, not an int") from None
    if not 1 <= number <= _MAX_PIXELS:
        raise AxonValueError(f"resize: {name} is {number}, not 1 to {_MAX_PIXELS}")
    return number


def _filter(method: Any) -> int:
    try:
        name = method.lower() if isinstance(method, str) else _PILLOWS[operator.index(method)]
        return _FILTERS[name]  # type: ignore[no-any-return]
    except (KeyError, TypeError):
        known = ", ".join(f'"{name}" ({number})' for number, name in _PILLOWS.items())
        raise AxonValueError(f"resize: method is {method!r:.80}, not one of {known}") from None


@functools.lru_cache(maxsize=None)
def _options(method: int, layout: int) -> Any:
    return fill("axon_resize_options", filter=method, layout=layout)[0]


def _memory(result: Array) -> Any:
    return ffi.from_buffer(_BYTES, result, require_writable=True)
