"""From an upright picture to the pixels a model takes; pure and thread-safe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from nearsight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FitMode = Literal["stretch", "crop"]

# A box filter may shrink a picture to this many times the wanted size before the bicubic pass. Pillow's documentation
# calls 3.0 indistinguishable from a plain resampling.
REDUCING_GAP = 3.0
BAND = 16  # rows of the result that are summed at once, so that they stay near the processor


def fit_picture(
    picture: Image.Image | NDArray[np.uint8],
    size_wh: tuple[int, int],
    mode: FitMode = "stretch",
    reducing_gap: float = REDUCING_GAP,
    averaged_from: float = math.inf,
) -> NDArray[np.uint8]:
    """Resample a picture to a model's input size with an antialiased bicubic filter.

    Args:
        picture: upright picture, other modes than RGB are converted; or its pixels, uint8 (h, w, 3), RGB.
        size_wh: width and height wanted, in pixels.
        mode: "stretch" squeezes the whole picture into the size; "crop" takes the largest centred part of the
            size's shape.
        reducing_gap: how many times the wanted size the box filter may leave, from 1: with 1 a full-HD picture is
            fitted in a third of the time, a little less finely.
        averaged_from: a picture that is squeezed so many times or more, on both sides, is averaged instead, which is
            faster still.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        InputError: for a size below one pixel, an empty picture or an unknown mode.
    """
    width, height = size_wh
    if width < 1 or height < 1:
        raise InputError(f"cannot fit a picture to {width} x {height} pixels; both must be at least 1")
    have_width, have_height = size_of(picture)
    if have_width < 1 or have_height < 1:
        raise InputError(f"cannot fit a picture of {have_width} x {have_height} pixels; it is empty")
    if isinstance(picture, Image.Image) and picture.mode != "RGB":
        picture = picture.convert("RGB")
    if mode == "stretch" and squeeze((have_width, have_height), size_wh) >= averaged_from:
        return _averaged(np.asarray(picture), size_wh)
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(picture)
    if mode == "stretch":
        box = (0.0, 0.0, float(have_width), float(have_height))
    elif mode == "crop":
        scale = min(have_width / width, have_height / height)
        left = (have_width - width * scale) / 2
        top = (have_height - height * scale) / 2
        # Rounding must not push the box over the edge.
        box = (
            max(left, 0.0),
            max(top, 0.0),
            min(left + width * scale, float(have_width)),
            min(top + height * scale, float(have_height)),
        )
    else:
        raise InputError(f'cannot fit a picture in mode "{mode}"; there are "stretch" and "crop"')
    if (have_width, have_height) == (width, height) and mode == "stretch":
        fitted = picture
    else:
        fitted = picture.resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=reducing_gap)
    return np.array(fitted, dtype=np.uint8)


def size_of(picture: Image.Image | NDArray[np.uint8]) -> tuple[int, int]:
    """Give width and height of a picture, or of its pixels (h, w, 3)."""
    return picture.size if isinstance(picture, Image.Image) else (picture.shape[1], picture.shape[0])


def squeeze(have_wh: tuple[int, int], size_wh: tuple[int, int]) -> float:
    """Say how many times a picture is squeezed to a size, on the side where that is less."""
    return min(have_wh[0] / size_wh[0], have_wh[1] / size_wh[1])


def _averaged(picture: Image.Image | NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Shrink a picture by the mean of its pixels; of an array two rows in each place are read, which is faster."""
    have_wh = size_of(picture)
    across, down = (have // wanted for have, wanted in zip(have_wh, size_wh, strict=True))
    if isinstance(picture, Image.Image):
        small = picture.reduce((across, down))
    else:
        small = Image.fromarray(_fewer_rows(picture, down)).reduce((across, 1))
    box = (0.0, 0.0, have_wh[0] / across, have_wh[1] / down)
    return np.array(small.resize(size_wh, Image.Resampling.BOX, box=box))


def _fewer_rows(pixels: NDArray[np.uint8], many: int) -> NDArray[np.uint8]:
    """Make one row of every so many, the mean of the two that lie at its quarters: uint8 (h, w, 3) to (h / many, w, 3).

    The last row may stand for fewer.
    """
    lines = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    whole, quarter = len(lines) // many, many // 4
    upper, lower = (lines[first : whole * many : many] for first in (quarter, many - 1 - quarter))
    means = np.empty((-(-len(lines) // many), lines.shape[1]), np.uint8)
    for top in range(0, whole, BAND):
        band = slice(top, min(top + BAND, whole))
        total = np.add(upper[band], lower[band], dtype=np.uint16)
        total += np.uint16(1)
        total >>= np.uint16(1)
        means[band] = total
    means[whole:] = lines[(whole * many + len(lines)) // 2 :][:1]
    return means.reshape(len(means), *pixels.shape[1:])
