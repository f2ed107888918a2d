"""Pictures made ready for a policy: openpi_client's image_tools, bit for bit, and without Pillow."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["BILINEAR", "convert_to_uint8", "resize_with_pad"]

BILINEAR = 2  # PIL.Image.BILINEAR
_BITS = 22  # of a weight behind the point: an 8-bit sample times a weight, and sums of them, fit 32 bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def convert_to_uint8(img: Array) -> Array:
    """A float picture, 0 to 1, as uint8, 0 to 255; a picture of any other dtype as it is."""
    if np.issubdtype(img.dtype, np.floating):
        return (255 * img).astype(np.uint8)
    return img


def resize_with_pad(images: Array, height: int, width: int, method: int = BILINEAR) -> Array:
    """Resizes pictures as far as they fit, and centres them on black.

    Args:
        images: uint8 (..., height, width, channels), RGB or grey; other numbers of channels need Pillow.
        height: of the result, pixels.
        width: likewise.
        method: one of PIL.Image's; any but BILINEAR needs Pillow.

    Returns:
        uint8 (..., height, width, channels), the bits that Pillow gives; `images` itself when it is of that size.

    Raises:
        ValueError: not (..., height, width, channels), or a side would become 0 pixels long.
        TypeError: not uint8.
        ImportError: Pillow is needed and not there.
    """
    if images.ndim < 3:
        raise ValueError(f"images is of shape {images.shape}, not (..., height, width, channels)")
    old_height, old_width, channels = images.shape[-3:]
    if (old_height, old_width) == (height, width):
        return images
    if images.dtype != np.uint8:
        raise TypeError(f"images is {images.dtype}, not uint8; see convert_to_uint8()")
    if min(old_height, old_width, height, width) < 1:
        raise ValueError(f"pictures of {old_height}x{old_width} cannot become {height}x{width}")
    ratio = max(old_width / width, old_height / height)
    new_height, new_width = int(old_height / ratio), int(old_width / ratio)
    if new_height < 1 or new_width < 1:
        raise ValueError(
            f"{old_height}x{old_width} fits {height}x{width} as {new_height}x{new_width} pixels only"
        )
    result = np.zeros((*images.shape[:-3], height, width, channels), np.uint8)
    top, left = max(0, int((height - new_height) / 2)), max(0, int((width - new_width) / 2))
    middle = result[..., top : top + new_height, left : left + new_width, :]
    resize = _resize if method == BILINEAR and channels in (1, 3) else _resize_by_pillow
    for index in np.ndindex(images.shape[:-3]):
        middle[index] = resize(images[index], new_height, new_width, method)
    return result


def _resize(image: Array, height: int, width: int, _method: int) -> Array:
    """Pillow's bilinear resizing: one direction after the other, each rounded to 8 bits.

    Pillow 13 begins with the height when that loses more than twice as many pixels as the width; Pillow before
    it always began with the width, which differs in the last bit here and there.
    """
    lost_height, lost_width = image.shape[0] - height, image.shape[1] - width
    if lost_height > max(0, 2 * lost_width):
        return _resize_width(_resample(image, height), width)
    return _resample(_resize_width(image, width), height)


def _resize_width(image: Array, width: int) -> Array:
    return _resample(image.transpose(1, 0, 2), width).transpose(1, 0, 2)


def _resample(image: Array, size: int) -> Array:
    """Makes the first dimension `size` long."""
    if size == image.shape[0]:
        return image
    taps = _taps(image.shape[0], size)
    result = np.full((size, *image.shape[1:]), 1 << (_BITS - 1), np.int32)  # one half, so that >> rounds
    for at, weights in taps:
        result += image[at] * weights[:, None, None]
    return (result >> _BITS).astype(np.uint8)  # weights are never negative, so neither below 0 nor above 255


@lru_cache(maxsize=64)
def _taps(old: int, new: int) -> tuple[tuple[Array, Array], ...]:
    """What the new samples are weighted sums of: for each tap, indices into the old ones, and weights, int32.

    The weights are those of a triangle, as wide as two new samples when there are fewer new ones than old, as two
    old ones else, around the new sample's centre, cut off at the edges, and made to sum up to 1.
    """
    scale = old / new
    reach = max(scale, 1.0)
    taps = 2 * int(np.ceil(reach)) + 1
    centre = (np.arange(new) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + reach + 0.5).astype(np.int64), old)
    at = first[:, None] + np.arange(taps)
    triangle = np.maximum(1.0 - np.abs((at - centre[:, None] + 0.5) * (1.0 / reach)), 0.0)
    weights = np.where(at < end[:, None], triangle, 0.0)
    total = np.zeros(new)
    for tap in range(taps):  # in this order: the last bit of a sum depends on it
        total += weights[:, tap]
    weights /= np.where(total == 0, 1, total)[:, None]
    fixed = (0.5 + weights * (1 << _BITS)).astype(np.int32)
    at = np.minimum(at, old - 1)
    return tuple((at[:, tap], fixed[:, tap]) for tap in range(taps) if fixed[:, tap].any())


def _resize_by_pillow(image: Array, height: int, width: int, method: int) -> Array:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"only bilinear resizing of RGB and grey pictures goes without Pillow (pip install pillow): {error}"
        ) from error
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    resized = np.asarray(picture.resize((width, height), resample=Image.Resampling(method)))
    return resized[..., None] if grey else resized
