"""An episode as a film strip: what the skill looked at, with what it found there, on numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Frame", "draw_box", "film_strip"]


_FILM, _HOLE, _TEXT = (24, 24, 28), (238, 236, 228), (232, 228, 214)
_GAP, _BAND, _SCALE = 10, 26, 3  # between pictures, above and below them, and the size of a font's dot

# A font of 3x5 dots for times: each glyph is its rows, of three bits each.
_GLYPHS = {
    "0": (7, 5, 5, 5, 7),
    "1": (2, 6, 2, 2, 7),
    "2": (7, 1, 7, 4, 7),
    "3": (7, 1, 7, 1, 7),
    "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7),
    "6": (7, 4, 7, 5, 7),
    "7": (7, 1, 1, 2, 2),
    "8": (7, 5, 7, 5, 7),
    "9": (7, 5, 7, 1, 7),
    ".": (0, 0, 0, 0, 2),
    "s": (7, 4, 7, 1, 7),
    " ": (0, 0, 0, 0, 0),
}


class Frame(NamedTuple):
    """One picture: uint8 (h, w, 3) RGB, when it was taken, and the boxes {x1, y1, x2, y2} in it with their colours."""

    rgb: Pixels
    seconds: float
    boxes: Sequence[tuple[Mapping[str, float], tuple[int, int, int]]]


def film_strip(frames: Sequence[Frame], columns: int = 6) -> Pixels:
    """The frames in rows of `columns`, each row a strip with its holes: uint8 RGB. All frames have one size."""
    if not frames:
        raise ValueError("a film strip needs a frame")
    columns = min(columns, len(frames))
    rows = [frames[at : at + columns] for at in range(0, len(frames), columns)]
    gap = np.full((_GAP, 1, 3), 255, np.uint8)
    strips: list[Pixels] = []
    for row in rows:
        strip = _strip(row, columns)
        strips += [np.broadcast_to(gap, (_GAP, strip.shape[1], 3))] if strips else []
        strips.append(strip)
    return np.concatenate(strips)


def draw_box(rgb: Pixels, box: Mapping[str, float], color: tuple[int, int, int]) -> None:
    """Draws the edges of a box, two pixels wide, just outside of it."""
    height, width = rgb.shape[:2]
    left, top = max(int(box["x1"]) - 3, 0), max(int(box["y1"]) - 3, 0)
    right, bottom = min(int(box["x2"]) + 3, width), min(int(box["y2"]) + 3, height)
    for rows, across in (
        (slice(top, top + 2), slice(left, right)),
        (slice(bottom - 2, bottom), slice(left, right)),
        (slice(top, bottom), slice(left, left + 2)),
        (slice(top, bottom), slice(right - 2, right)),
    ):
        rgb[rows, across] = color


def _strip(frames: Sequence[Frame], columns: int) -> Pixels:
    height, width = frames[0].rgb.shape[:2]
    film: Pixels = np.empty((height + 2 * _BAND, columns * (width + _GAP) + _GAP, 3), np.uint8)
    film[:] = _FILM
    for left in range(_GAP, film.shape[1] - _GAP, 2 * _GAP):
        for top in (7, height + 2 * _BAND - 19):
            film[top : top + 12, left : left + 9] = _HOLE
    for column, frame in enumerate(frames):
        left = _GAP + column * (width + _GAP)
        picture = frame.rgb.copy()
        for box, color in frame.boxes:
            draw_box(picture, box, color)
        _write(picture, f"{frame.seconds:.2f} s", 8, 8)
        film[_BAND : _BAND + height, left : left + width] = picture
    return film


def _write(rgb: Pixels, text: str, x: int, y: int) -> None:
    """Writes a text on a dark ground, its upper left corner at x, y."""
    step = 4 * _SCALE
    ground: Any = rgb[y - 5 : y + 5 * _SCALE + 5, x - 5 : x + len(text) * step + 3]
    ground[:] = _FILM
    for place, letter in enumerate(text):
        for row, bits in enumerate(_GLYPHS[letter]):
            for column in range(3):
                if bits >> (2 - column) & 1:
                    top, left = y + row * _SCALE, x + place * step + column * _SCALE
                    rgb[top : top + _SCALE, left : left + _SCALE] = _TEXT
