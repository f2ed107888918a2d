"""Finding coloured things in a picture, by their colour alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt  # which numpy 1.17 has not

    Pixels = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

__all__ = ["COLOR_NAMES", "Blob", "color_mask", "find_blobs"]


# Which of red, green and blue a colour must have, in like measure.
_STRONG = {"red": (0,), "green": (1,), "blue": (2,), "yellow": (0, 1)}
COLOR_NAMES = tuple(_STRONG)
_RATIO = 1.7  # how much stronger these must be than the rest, and may be than each other
_DARKEST = 50  # what is darker has no colour to speak of


class Blob(NamedTuple):
    """One patch of a colour: its box in pixels (x2 and y2 lie just outside), and how much of the box it fills."""

    x1: int
    y1: int
    x2: int
    y2: int
    fill: float
    color: str


def color_mask(rgb: Pixels, color: str) -> Mask:
    """Which pixels of rgb, uint8 (h, w, 3), have one of COLOR_NAMES: bool (h, w)."""
    has = _STRONG[color]
    channels = [rgb[..., channel].astype(np.float32) for channel in range(3)]
    those, others = ([channels[i] for i in range(3) if (i in has) is wanted] for wanted in (True, False))
    weakest = np.minimum.reduce(those)
    is_it = (weakest >= _DARKEST) & (weakest > _RATIO * np.maximum.reduce(others))
    return np.asarray(is_it & (np.maximum.reduce(those) <= _RATIO * weakest))


def find_blobs(rgb: Pixels, color: str, least: int = 12) -> list[Blob]:
    """The patches of a colour that have at least `least` pixels, the largest first."""
    mask = color_mask(rgb, color)
    found = []
    while True:
        blob = _take_one(mask)
        if blob is None:
            break
        rows, columns = blob
        if len(rows) >= least:
            x1, x2 = int(columns.min()), int(columns.max()) + 1
            y1, y2 = int(rows.min()), int(rows.max()) + 1
            found.append((len(rows), Blob(x1, y1, x2, y2, len(rows) / ((x2 - x1) * (y2 - y1)), color)))
    return [blob for _, blob in sorted(found, key=lambda item: -item[0])]


def _take_one(mask: Mask) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    """Clears the first connected patch of a mask and returns its rows and columns; None: it is empty."""
    first = int(mask.argmax())
    row, column = divmod(first, mask.shape[1])
    if not mask[row, column]:
        return None
    mask[row, column] = False
    pending, taken = [(row, column)], []
    while pending:
        row, column = pending.pop()
        taken.append((row, column))
        for near_row, near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= near_row < mask.shape[0] and 0 <= near < mask.shape[1] and mask[near_row, near]:
                mask[near_row, near] = False
                pending.append((near_row, near))
    rows, columns = np.array(taken, np.intp).T
    return rows, columns
