"""Lays pictures on a detector's canvas as its own processor does, and brings boxes back from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Source: Pillow's number of the filter, which `resample` in a preprocessor_config.json states.
BILINEAR = 2
# Source: IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD of transformers.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FAR = 60.0  # a logit beyond this is as good as certain; minus infinity marks what is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What values of 0 to 255 become: times `scale`, less `mean`, divided by `std`, the last two a channel each."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def of(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise (h, w, 3) to float32 (3, h, w)."""
        normal = (pixels * np.float32(self.scale) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1), np.float32)


def normalisation(page: Mapping[str, Any], mean: tuple[float, ...], std: tuple[float, ...]) -> Normalisation:
    """Read what a `preprocessor_config.json` says of values; mean and std stand where it says nothing."""
    normalise = page.get("do_normalize", True)
    return Normalisation(
        scale=float(page.get("rescale_factor", 1 / 255)) if page.get("do_rescale", True) else 1.0,
        mean=tuple(page.get("image_mean") or mean) if normalise else (0.0, 0.0, 0.0),
        std=tuple(page.get("image_std") or std) if normalise else (1.0, 1.0, 1.0),
    )


def sides(page: Mapping[str, Any]) -> dict[str, int]:
    """Read which sides a `preprocessor_config.json` asks for; one number, as older files have it, is the shorter."""
    size = page.get("size") or {}
    return {
        str(name): int(length) for name, length in (size if isinstance(size, dict) else {"shortest_edge": size}).items()
    }


def corners(boxes: NDArray[Any]) -> NDArray[np.float32]:
    """Turn (..., 4) of centre x, centre y, width, height into left, top, right, bottom."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    turned: NDArray[np.float32] = np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)
    return turned


def logistic(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Give the chance, 0 to 1, of which each number is the logit."""
    chances: NDArray[np.float32] = (1 / (1 + np.exp(-np.clip(logits, -FAR, FAR)))).astype(np.float32)
    return chances


def kept_ratio(size_wh: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """Give the size of a picture whose shorter side is brought to `shortest`, but its longer one to `longest` at most.

    Source: get_size_with_aspect_ratio of transformers' image_transforms, whose rounding this follows.

    Args:
        size_wh: Width and height of the picture, in pixels.
        shortest: Wanted length of the shorter side, in pixels.
        longest: Most of the longer side.

    Returns:
        Width and height, at least one pixel each.
    """
    short, long = min(size_wh), max(size_wh)
    raw = float(shortest)
    if long / short * shortest > longest:
        raw = longest * short / long
    # The side that is not rounded grows with the unrounded other one.
    low, high = max(1, round(raw)), max(1, int(raw * long / short))
    if short == low:
        return size_wh
    return (low, high) if size_wh[0] <= size_wh[1] else (high, low)


def sampled(
    pixels: NDArray[np.uint8], whole_wh: tuple[int, int], size_wh: tuple[int, int], *, blurred: bool
) -> NDArray[np.float32]:
    """Resample a picture bilinearly between pixels, and not over areas, as OpenCV and torch do.

    Args:
        pixels: (h, w, 3).
        whole_wh: Width and height of what is resampled: the picture in the left upper corner, and black beside it.
        size_wh: Width and height wanted.
        blurred: Whether it is blurred before it is made smaller, so that fine patterns do not turn into coarse ones.

    Returns:
        float32 (height, width, 3), in the range of `pixels`.
    """
    rows = _along(pixels, whole_wh[1], size_wh[1], blurred=blurred)
    columns = _along(rows.swapaxes(0, 1), whole_wh[0], size_wh[0], blurred=blurred)
    return np.ascontiguousarray(columns.swapaxes(0, 1))


def _along(pixels: NDArray[Any], whole: int, size: int, *, blurred: bool) -> NDArray[np.float32]:
    """Resample the first axis, of which all beyond the array is black: (n, m, 3) to (size, m, 3)."""
    places, weights = _taps(whole, size, blurred=blurred)
    weights = np.where(places < len(pixels), weights, 0).astype(np.float32)
    places = np.minimum(places, len(pixels) - 1)
    made = np.zeros((size, *pixels.shape[1:]), np.float32)
    for place, weight in zip(places.T, weights.T, strict=True):
        if weight.any():
            made += pixels[place] * weight[:, None, None]
    return made


def _taps(whole: int, size: int, *, blurred: bool) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Say which of `whole` values each of `size` values is made of: places and weights (size, taps).

    Source: Owlv2ImageProcessor of transformers: a Gaussian of sigma (factor - 1) / 2, cut at 3 sigma, the edge
    mirrored, then torch's bilinear interpolation without antialiasing.
    """
    factor = whole / size
    sigma = max(0.0, (factor - 1) / 2) if blurred else 0.0
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (sigma or 1)) ** 2)
    kernel /= kernel.sum()
    where = np.clip((np.arange(size) + 0.5) * factor - 0.5, 0, whole - 1)
    first = np.floor(where).astype(np.intp)
    part = (where - first)[:, None]
    places = first[:, None] + np.arange(-reach, reach + 2)
    weights = (1 - part) * np.append(kernel, 0) + part * np.insert(kernel, 0, 0)
    return _mirrored(places, whole), weights


def _mirrored(places: NDArray[np.intp], whole: int) -> NDArray[np.intp]:
    """Fold places that lie beyond the first and last value back, the edge itself not repeated."""
    if whole == 1:
        return np.zeros_like(places)
    period = 2 * (whole - 1)
    folded = np.abs(places) % period
    mirrored: NDArray[np.intp] = np.minimum(folded, period - folded)
    return mirrored
