"""Bring any picture or array into 8-bit RGB: palettes, transparency, 16 bit, CMYK, grey; pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

from nearsight.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS_PER_SAMPLE = 258  # TIFF tag
_WHITE = (255, 255, 255)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a loaded picture to RGB; transparent parts become white.

    16-bit grey is scaled to 8 bit over its whole range (12-bit TIFF over its 12 bits). Of floating point pictures,
    those within 0 to 1 or 0 to 255 keep that range; others, and 32-bit integers beyond 16 bit, are stretched from
    their least to their greatest value.

    Returns:
        An RGB picture; the same object if it was RGB without transparency.
    """
    mode = picture.mode
    if mode.startswith("I;16"):
        bits = _bits_per_sample(picture)
        wide = np.asarray(picture).astype(np.uint16, copy=False)
        return _grey(wide.astype(np.float32) * (255.0 / (2**bits - 1)))
    if mode in ("I", "F"):
        return _grey(_stretched(np.asarray(picture).astype(np.float32)))
    if mode == "LAB":
        return _from_lab(picture)
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or picture.has_transparency_data:
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, (*_WHITE, 255))
        return Image.alpha_composite(ground, layer).convert("RGB")
    return picture if mode == "RGB" else picture.convert("RGB")


def array_to_rgb(array: NDArray[Any]) -> Image.Image:
    """Make a picture of an array.

    Args:
        array: uint8 or uint16 or float (0 to 1) of shape (h, w), (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA; or
            bool (h, w).

    Raises:
        InputError: for another shape or type, or floats out of range.
    """
    shape = "x".join(map(str, array.shape))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InputError(
            f"an array of shape {shape} is no picture; give (height, width), (h, w, 3) RGB or (h, w, 4) RGBA"
        )
    if array.dtype == np.uint8:
        pixels = array
    elif array.dtype == np.uint16:
        pixels = np.rint(array.astype(np.float32) / 257.0).astype(np.uint8)
    elif array.dtype == np.bool_:
        pixels = array.astype(np.uint8) * np.uint8(255)
    elif np.issubdtype(array.dtype, np.floating):
        # Written so that a NaN is found, too.
        if not (array.min() >= 0.0 and array.max() <= 1.0):
            raise InputError(
                f"an array of {array.dtype} must lie within 0 to 1, this one runs from {array.min():.4g} to "
                f"{array.max():.4g}; divide by the greatest value, or give uint8"
            )
        pixels = np.rint(array.astype(np.float32) * 255.0).astype(np.uint8)
    else:
        raise InputError(f"an array of {array.dtype} is no picture; give uint8, uint16, bool, or float in 0 to 1")
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))


def _bits_per_sample(picture: Image.Image) -> int:
    tags = getattr(picture, "tag_v2", None)
    bits = tags.get(_BITS_PER_SAMPLE) if tags is not None else None
    first = bits[0] if isinstance(bits, tuple) and bits else bits
    return first if isinstance(first, int) and 8 < first <= 16 else 16


def _stretched(values: NDArray[np.float32]) -> NDArray[np.float32]:
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(finite.min()), float(finite.max())
    if low >= 0.0 and high <= 1.0:
        return finite * np.float32(255.0)
    if low >= 0.0 and high <= 255.0:
        return finite
    if low >= 0.0 and high <= 65535.0:
        return finite / np.float32(257.0)
    return (finite - np.float32(low)) * np.float32(255.0 / (high - low))


def _grey(values: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8)).convert("RGB")


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _from_lab(picture: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(picture, _lab_to_srgb())
    if converted is None:
        raise ValueError("the LAB picture could not be converted")
    return converted
