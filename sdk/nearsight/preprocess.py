"""From an upright picture to the pixels a model takes; pure and thread-safe."""

from __future__ import annotations

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


def fit_picture(
    picture: Image.Image, size_wh: tuple[int, int], mode: FitMode = "stretch", reducing_gap: float = REDUCING_GAP
) -> NDArray[np.uint8]:
    """Resample a picture to a model's input size with an antialiased bicubic filter.

    Args:
        picture: upright picture; other modes than RGB are converted.
        size_wh: width and height wanted, in pixels.
        mode: "stretch" squeezes the whole picture into the size; "crop" takes the largest centred part of the
            size's shape.
        reducing_gap: how many times the wanted size the box filter may leave, from 1: with 1 a full-HD picture is
            fitted in a third of the time, a little less finely.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        InputError: for a size below one pixel, an empty picture or an unknown mode.
    """
    width, height = size_wh
    if width < 1 or height < 1:
        raise InputError(f"cannot fit a picture to {width} x {height} pixels; both must be at least 1")
    have_width, have_height = picture.size
    if have_width < 1 or have_height < 1:
        raise InputError(f"cannot fit a picture of {have_width} x {have_height} pixels; it is empty")
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
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
