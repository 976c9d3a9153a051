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
BAND = 45  # rows of the result that are made at once, so that they stay near the processor


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
    reduced = picture.reduce((across, down)) if isinstance(picture, Image.Image) else _reduced(picture, across, down)
    box = (0.0, 0.0, have_wh[0] / across, have_wh[1] / down)
    return np.array(reduced.resize(size_wh, Image.Resampling.BOX, box=box))


def _reduced(pixels: NDArray[np.uint8], across: int, down: int) -> Image.Image:
    """Shrink pixels (h, w, 3) by whole numbers: of so many rows the two at their quarters, of them so many columns."""
    height, width = pixels.shape[:2]
    lines = np.ascontiguousarray(pixels).reshape(height, -1)
    whole = height // down
    upper, lower = (lines[first : whole * down : down] for first in (down // 4, down - 1 - down // 4))
    reduced = Image.new("RGB", (-(-width // across), -(-height // down)))
    for top in range(0, whole, BAND):
        one, other = upper[top : top + BAND], lower[top : top + BAND]
        # The mean of bytes without leaving bytes: what they share, and half of what they do not.
        mean = ((one ^ other) >> 1) + (one & other)
        reduced.paste(Image.fromarray(mean.reshape(len(mean), width, 3)).reduce((across, 1)), (0, top))
    if whole < reduced.height:  # a last row stands for fewer
        last = pixels[(whole * down + height) // 2][None]
        reduced.paste(Image.fromarray(np.ascontiguousarray(last)).reduce((across, 1)), (0, whole))
    return reduced
