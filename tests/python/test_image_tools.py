"""Pictures made ready for a policy: the bits of Pillow, whatever the shape, the contents, the strides and the dtype."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service_clients._axon.image_tools import resize
from service_clients.openpi.image_tools import convert_to_uint8, resize_with_pad

METHODS = list(Image.Resampling)
PICTURES = 4000


def pillow_resize(picture: Any, height: int, width: int, method: Any) -> Any:
    """(height, width, channels) by Pillow; floats one channel at a time, because its mode F has one."""
    if picture.dtype != np.uint8:
        floats = [Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(picture, -1, 0)]
        return np.stack([np.asarray(one.resize((width, height), method)) for one in floats], -1)
    grey = picture.shape[2] == 1
    resized = np.asarray(
        Image.fromarray(picture[..., 0] if grey else picture).resize((width, height), method)
    )
    return resized[..., None] if grey else resized


def pillow_resize_with_pad(picture: Any, height: int, width: int, method: Any) -> Any:
    """What openpi_client does, with any dtype."""
    old_height, old_width, channels = picture.shape
    if (old_height, old_width) == (height, width):
        return picture
    ratio = max(old_width / width, old_height / height)
    inner = pillow_resize(picture, int(old_height / ratio), int(old_width / ratio), method)
    result = np.zeros((height, width, channels), inner.dtype)
    top, left = int((height - inner.shape[0]) / 2), int((width - inner.shape[1]) / 2)
    result[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return result


def any_side(random: Any) -> int:
    """1 to 400 pixels, small ones as often as large ones."""
    return int(np.exp(random.uniform(0, 6)))


def any_picture(random: Any) -> Any:
    """Noise, flat areas with hard edges, or floats of any size: what rounding errors show in."""
    shape = any_side(random), any_side(random), int(random.integers(1, 5))
    kind = random.integers(4)
    if kind == 0:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if kind == 1:
        return np.uint8(255) * random.integers(0, 2, shape, dtype=np.uint8)
    if kind == 2:
        return np.repeat(random.integers(0, 256, (shape[0], 1, shape[2]), dtype=np.uint8), shape[1], axis=1)
    return (random.normal(size=shape) * 10.0 ** random.integers(-3, 6)).astype(np.float32)


def with_any_strides(picture: Any, random: Any) -> Any:
    """The same pixels, lying otherwise: backwards, apart, channels first, transposed."""
    height, width, channels = picture.shape
    kind = random.integers(6)
    if kind == 0:
        return picture
    if kind == 1:
        return np.ascontiguousarray(picture[::-1, ::-1])[::-1, ::-1]
    if kind == 2:
        return np.ascontiguousarray(picture[..., ::-1])[..., ::-1]
    if kind == 3:
        wide = np.zeros((2 * height, 3 * width, channels + 1), picture.dtype)
        wide[::2, 1::3, :channels] = picture
        return wide[::2, 1::3, :channels]
    if kind == 4:
        return np.ascontiguousarray(picture.transpose(2, 0, 1)).transpose(1, 2, 0)
    return np.asfortranarray(picture)


def test_the_newest_pillow_gives_the_same_bits() -> None:
    random, compared = np.random.default_rng(20), 0
    for number in range(PICTURES):
        picture, method = any_picture(random), METHODS[number % len(METHODS)]
        height, width = any_side(random), any_side(random)
        strided = with_any_strides(picture, random)
        note = f"{picture.dtype} {picture.shape} to {height}x{width}, {method!r}, strides {strided.strides}"
        np.testing.assert_array_equal(
            resize(strided, height, width, method), pillow_resize(picture, height, width, method), note
        )
        ratio = max(picture.shape[1] / width, picture.shape[0] / height)
        if min(picture.shape[0] / ratio, picture.shape[1] / ratio) >= 1:
            wanted = pillow_resize_with_pad(picture, height, width, method)
            np.testing.assert_array_equal(resize_with_pad(strided, height, width, method), wanted, note)
            compared += 1
    assert compared > PICTURES / 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((480, 640, 3), (224, 224)),
        ((1, 1, 3), (300, 200)),
        ((300, 200, 3), (1, 1)),
        ((2, 5000, 3), (7, 3)),
        ((5000, 2, 4), (3, 7)),
        ((1, 3, 1), (2, 6000)),
        ((3, 1, 3), (6000, 1)),
    ],
    ids=str,
)
def test_huge_ratios_and_single_pixels_too(shape: Any, size: tuple[int, int], method: Any) -> None:
    picture, (height, width) = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8), size
    np.testing.assert_array_equal(
        resize(picture, height, width, method), pillow_resize(picture, height, width, method)
    )


def test_the_size_of_a_camera_is_the_same_in_all_ways_to_give_it() -> None:
    picture = np.random.default_rng(3).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    wanted = pillow_resize_with_pad(picture, 224, 224, Image.Resampling.BICUBIC)
    for method in (Image.Resampling.BICUBIC, 3, np.int64(3), "bicubic", "BICUBIC"):
        np.testing.assert_array_equal(resize_with_pad(picture, 224, 224, method), wanted)
    first = np.ascontiguousarray(picture.transpose(2, 0, 1))
    resized = resize_with_pad(first, height=224, width=224, method="bicubic", layout="chw")
    np.testing.assert_array_equal(resized.transpose(1, 2, 0), wanted)
    grey = resize_with_pad(picture[..., 1], 224, 224, 3, layout="hw")
    np.testing.assert_array_equal(grey, wanted[..., 1])
    np.testing.assert_array_equal(
        resize_with_pad(picture, 224, 224), pillow_resize_with_pad(picture, 224, 224, 2)
    )


@pytest.mark.parametrize("method", ["nearest", "lanczos"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_batches_of_either_layout_are_resized_picture_by_picture(channels: int, method: str) -> None:
    random = np.random.default_rng(channels)
    images = random.integers(0, 256, (2, 3, 48, 64, channels), dtype=np.uint8)[:, ::-1]
    resized = resize_with_pad(images, 22, 30, method)
    assert resized.shape == (2, 3, 22, 30, channels)
    assert resized.flags.c_contiguous
    for index in np.ndindex(2, 3):
        wanted = pillow_resize_with_pad(images[index], 22, 30, Image.Resampling[method.upper()])
        np.testing.assert_array_equal(resized[index], wanted)
    first = resize_with_pad(np.moveaxis(images, -1, -3), 22, 30, method, layout="chw")
    np.testing.assert_array_equal(first, np.moveaxis(resized, -1, -3))
    assert resize_with_pad(images[:0], 22, 30).shape == (0, 3, 22, 30, channels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8", ">f2"])
def test_floats_of_any_kind_give_what_pillow_s_mode_f_gives(dtype: Any) -> None:
    picture = np.random.default_rng(4).normal(size=(31, 47, 3)).astype(dtype)
    resized = resize(picture, 20, 60, "bicubic")
    assert resized.dtype == np.float32
    wanted = pillow_resize(picture.astype(np.float32), 20, 60, Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resized, wanted)


def test_floats_that_are_no_numbers_stay_where_pillow_leaves_them() -> None:
    picture = np.random.default_rng(4).normal(size=(31, 47, 1)).astype(np.float32)
    picture[3, 5], picture[20, 30], picture[25, 3] = np.nan, np.inf, -np.inf
    for method in METHODS:
        np.testing.assert_array_equal(resize(picture, 50, 20, method), pillow_resize(picture, 50, 20, method))


def test_a_picture_of_the_right_size_is_given_back_itself() -> None:
    image = np.zeros((4, 5, 3), np.int32)
    assert resize_with_pad(image, 4, 5) is image
    assert resize_with_pad(image, 5, 3, layout="chw") is image
    copied = resize(image.astype(np.uint8), 4, 5)
    assert copied.tolist() == image.tolist()


def test_one_pixel_that_is_broadcast_is_a_picture() -> None:
    grey = np.broadcast_to(np.uint8(7), (9, 12, 3))
    assert resize(grey, 3, 2).tolist() == [[[7, 7, 7]] * 2] * 3


def test_many_threads_resize_at_once() -> None:
    images = np.random.default_rng(6).integers(0, 256, (8, 200, 300, 3), dtype=np.uint8)
    found: list[Any] = [None] * 8

    def work(index: int) -> None:
        for size in range(30, 60):
            resize(images[index], size, 50)
        found[index] = resize(images[index], 77, 50)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image, resized in zip(images, found):
        np.testing.assert_array_equal(resized, pillow_resize(image, 77, 50, 2))


GOOD = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "height", "width", "keywords", "kind", "words"),
    [
        (GOOD.astype(object), 9, 9, {}, TypeError, "images are object; only uint8 and floats"),
        (GOOD.astype(np.uint16), 9, 9, {}, TypeError, "images are uint16; only uint8 and floats"),
        (GOOD.astype(bool), 9, 9, {}, TypeError, "images are bool"),
        (GOOD.astype(np.complex64), 9, 9, {}, TypeError, "images are complex64"),
        (GOOD[0], 9, 9, {}, ValueError, r"2 dimensions, not \(\.\.\., height, width, channels\)"),
        (GOOD[0], 9, 9, {"layout": "chw"}, ValueError, r"not \(\.\.\., channels, height, width\)"),
        (np.zeros((4, 5, 5), np.uint8), 9, 9, {}, ValueError, "5 channels, not 1 to 4"),
        (np.zeros((4, 5, 0), np.uint8), 9, 9, {}, ValueError, "0 channels, not 1 to 4"),
        (GOOD[:0], 9, 9, {}, ValueError, "pictures of height 0 and width 5"),
        (GOOD, 0, 9, {}, ValueError, "height is 0, not 1 to 268435456"),
        (GOOD, 9, -1, {}, ValueError, "width is -1, not 1 to 268435456"),
        (GOOD, 9, 1 << 70, {}, ValueError, "width is 1180591620717411303424, not"),
        (GOOD, 1 << 20, 1 << 20, {}, ValueError, "1048576 and width 1048576, more than 268435456 pixels"),
        (GOOD, 9.5, 9, {}, TypeError, "height is 9.5, not an int"),
        (GOOD, 9, 9, {"method": 8}, ValueError, r'method is 8, not one of "nearest" \(0\), "lanczos" \(1\)'),
        (GOOD, 9, 9, {"method": -1}, ValueError, "method is -1"),
        (GOOD, 9, 9, {"method": "cubic"}, ValueError, "method is 'cubic'"),
        (GOOD, 9, 9, {"method": None}, ValueError, "method is None"),
        (GOOD, 9, 9, {"layout": "nhwc"}, ValueError, "layout is 'nhwc', not one of hwc, chw, hw"),
        (np.zeros((1, 100, 3), np.uint8), 9, 9, {}, ValueError, "1x100 fits 9x9 as 0x9 pixels only"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_resized_is_refused(
    images: Any, height: Any, width: Any, keywords: Any, kind: Any, words: str
) -> None:
    with pytest.raises(kind, match=words):
        resize_with_pad(images, height, width, **keywords)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", np.longdouble])
def test_floats_become_uint8_as_numpy_makes_them(dtype: Any) -> None:
    random = np.random.default_rng(8)
    edges = np.concatenate([np.arange(-300, 600) / 255, [0.5, 1e4, -1e4]])
    values = np.concatenate([edges, np.nextafter(edges, -9), random.uniform(0, 1, 5000)]).astype(dtype)
    for floats in (values, values[::-3], np.broadcast_to(values[5], (3, 4)), values[:60].reshape(3, 4, 5).T):
        with np.errstate(all="ignore"):  # numpy warns of what is out of range
            converted, wanted = convert_to_uint8(floats), (255 * floats).astype(np.uint8)
        assert converted.dtype == np.uint8
        np.testing.assert_array_equal(converted, wanted)


def test_what_no_byte_can_be_made_of_becomes_0() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        assert convert_to_uint8(np.array([np.nan, np.inf, -np.inf], dtype)).tolist() == [0, 0, 0]
    assert convert_to_uint8(np.array([1e10, -1e10, 1e300])).tolist() == [0, 0, 0]


def test_pictures_of_whole_numbers_are_given_back_themselves() -> None:
    for dtype in (np.uint8, np.int32, bool):
        whole = np.zeros((2, 2, 3), dtype)
        assert convert_to_uint8(whole) is whole
    assert convert_to_uint8(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert convert_to_uint8(np.array(0.5)).tolist() == 127
