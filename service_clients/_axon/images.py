"""Pictures, in whatever form the caller has them, as what C sends."""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Union

from service_clients._axon._ffi import check, failure, ffi, lib, new_error
from service_clients._axon.errors import (
    AxonError,
    AxonFileNotFound,
    AxonProtocolError,
    AxonTypeError,
    AxonValueError,
)
from service_clients._axon.values import Refused, array_of, as_numpy, describe

if TYPE_CHECKING:
    import numpy

    # The bytes of a JPEG, PNG or other picture file; a path (str or PathLike); base64 (str, also as a data
    # URI); pixels as an array, uint8 (H, W) or (H, W, 1 | 3 | 4), uint16 (H, W), float32 or float64 (H, W);
    # a PIL image, or what else numpy can see as such an array.
    Image = Union[bytes, bytearray, memoryview, str, os.PathLike[str], numpy.ndarray[Any, Any], Any]

__all__ = ["decode_image", "deliver_picture", "encode_image", "open_handle", "open_image"]

_IMAGE_OUT = ffi.typeof("axon_image **")
_COLORS = {None: lib.AXON_COLOR_DEFAULT, "rgb": lib.AXON_RGB, "bgr": lib.AXON_BGR}

# PIL's modes whose bytes are pixels as C takes them: dtype, channels (0: no such dimension).
_PIL_MODES = {
    "L": (lib.AXON_UINT8, 0),
    "RGB": (lib.AXON_UINT8, 3),
    "RGBA": (lib.AXON_UINT8, 4),
    "I;16": (lib.AXON_UINT16, 0),
    "F": (lib.AXON_FLOAT32, 0),
}


@contextmanager
def open_image(image: Image, subject: str = "image", color: str | None = None) -> Iterator[Any]:
    """An `axon_image *` for the length of a `with` block.

    Args:
        image: see `Image`.
        subject: begins the error texts: `left_image: object dtype`.
        color: "rgb" or "bgr", the channel order of an array; None leaves it to the service. A PIL image is
            RGB whatever this says, and picture files say it themselves.

    Raises:
        AxonFileNotFound: a path that leads nowhere, a str that is neither a path nor base64 of a picture.
        AxonFileError: a file that cannot be read.
        AxonTypeError, AxonValueError: what is no picture, naming its type, dtype or shape.
        AxonTooBig: a file of more than 256 MiB.
    """
    keep: list[Any] = []
    handle = open_handle(image, subject, color, keep)
    try:
        yield handle
    finally:
        lib.axon_image_close(handle)


def open_handle(image: Image, subject: str, color: str | None, keep: list[Any]) -> Any:
    """As `open_image`, without the `with`: an `axon_image *` that the caller closes.

    It looks at what `keep` is given to hold, until then. Raises as `open_image`.
    """
    if color not in _COLORS:
        raise AxonValueError(f'color is {color!r}, not "rgb" or "bgr"')
    out, error = ffi.new(_IMAGE_OUT), new_error()
    try:
        status = _open(image, _COLORS[color], keep, out, error)
    except Refused as refused:
        raise refused.error(subject) from refused.__cause__
    if status:
        raise _named(failure(status, error), image, subject)
    return out[0]


def encode_image(image: Image, color: str | None = None) -> bytes:
    """The picture as file bytes: those of a file as they are, pixels as PNG (float pixels as .npy).

    Raises:
        As `open_image`.
    """
    data, length, error = ffi.new("void **"), ffi.new("size_t *"), new_error()
    with open_image(image, color=color) as handle:
        check(lib.axon_image_encode(handle, ffi.NULL, data, length, error), error)
    try:
        return bytes(ffi.buffer(data[0], length[0]))
    finally:
        lib.axon_free(data[0])


def decode_image(image: Image, color: str | None = None) -> numpy.ndarray[Any, Any]:
    """The pixels of a JPEG or PNG: uint8 (height, width, 3), RGB unless `color` is "bgr"; 16-bit grey as uint16 (height, width).

    Raises:
        As `open_image`; AxonProtocolError: a damaged picture.
    """
    pixels, error = ffi.new("axon_array *"), new_error()
    with open_image(image) as handle:
        check(lib.axon_image_decode(handle, _COLORS[color], pixels, error), error)
    try:
        return array_of(pixels)
    finally:
        lib.axon_free(ffi.cast("void *", pixels.data))


def deliver_picture(picture: Any, save_path: Any, as_numpy: bool, as_pil: bool) -> Any:
    """A picture that a service answered with, in the form that the caller asked for.

    Args:
        picture: the reply: bytes of a JPEG or PNG.
        save_path: a file that the bytes are written to as well; None writes none.
        as_numpy: give a uint8 array (height, width, 3), RGB.
        as_pil: give a PIL image; Pillow must be installed.

    Raises:
        AxonProtocolError: the reply is no picture.
    """
    if not isinstance(picture, bytes):
        raise AxonProtocolError(f"the reply is no picture but {type(picture).__name__}")
    if save_path is not None:
        with open(save_path, "wb") as file:
            file.write(picture)
    if as_numpy:
        return decode_image(picture)
    if as_pil:
        from PIL import Image as PilImage

        return PilImage.open(io.BytesIO(picture))
    return picture


def _open(image: Any, color: int, keep: list[Any], out: Any, error: Any) -> int:
    if isinstance(image, (bytes, bytearray, memoryview)):
        data = _borrow(image, keep)
        return lib.axon_image_open_bytes(data, len(data), out, error)  # type: ignore[no-any-return]
    if isinstance(image, str):
        text = _borrow(image.encode("utf-8", "surrogateescape"), keep)
        return lib.axon_image_open_text(text, len(text), out, error)  # type: ignore[no-any-return]
    if isinstance(image, os.PathLike):
        return lib.axon_image_open_path(_path(image), out, error)  # type: ignore[no-any-return]
    if hasattr(image, "mode") and hasattr(image, "size") and hasattr(image, "tobytes"):
        return lib.axon_image_open_pixels(_pil_pixels(image, keep), lib.AXON_RGB, out, error)  # type: ignore[no-any-return]
    kind = type(image)
    if hasattr(kind, "__array_interface__") or hasattr(kind, "__array__"):
        pixels = describe(as_numpy(image), keep)
        return lib.axon_image_open_pixels(pixels, color, out, error)  # type: ignore[no-any-return]
    accepted = "file bytes, a path, base64 text, an array or a PIL image"
    raise Refused(f"{kind.__name__} is no picture; give {accepted}", AxonTypeError)


def _borrow(data: Any, keep: list[Any]) -> Any:
    if isinstance(data, memoryview) and not data.c_contiguous:
        data = data.tobytes()
    buffer = ffi.from_buffer(data)
    keep.append(buffer)
    return buffer


def _path(image: os.PathLike[Any]) -> bytes:
    path = os.fsencode(image)
    if b"\0" in path:
        raise Refused("path holds a zero character")
    return path


def _pil_pixels(image: Any, keep: list[Any]) -> Any:
    if image.mode not in _PIL_MODES:
        image = image.convert("RGB")
    dtype, channels = _PIL_MODES[image.mode]
    width, height = image.size
    shape = (height, width, channels) if channels else (height, width)
    data = _borrow(image.tobytes(), keep)
    return ffi.new("axon_array *", {"dtype": dtype, "ndim": len(shape), "data": data, "shape": shape})


def _named(exception: Exception, image: Any, subject: str) -> Exception:
    """The exception with the argument's own name in it, and as FileNotFoundError where that is what happened."""
    text = str(exception)
    if text.startswith("image") and subject != "image":
        exception.args = (subject + text[len("image") :],)
    if isinstance(exception, AxonError) and _names_no_file(image):
        missing = AxonFileNotFound(*exception.args)
        missing.status = exception.status
        return missing
    return exception


def _names_no_file(image: Any) -> bool:
    if not isinstance(image, (str, os.PathLike)) or str(image).startswith("data:"):
        return False
    try:
        os.stat(image)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):  # no permission; too long for a path; a zero character in it
        return False
    return False
