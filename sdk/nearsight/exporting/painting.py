"""Pictures for golden sets of detectors: unlike one another, and small when packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nearsight_npu.golden import Golden

# A detector that ranks its queries may rank two that are nearly alike the other way round elsewhere; their rows then
# change places, and the cosine falls though nothing is wrong.
RANKED = {"fp32": (0.98, 0.95), "fp16": (0.97, 0.93), "int8": (0.9, 0.8)}
_BLOCKS, _LARGEST = 12, 0.4


def few(batch: int | None, more: int) -> int:
    """Give how many pictures an example has: one where a graph takes any number, since the proof runs all at once.

    Args:
        batch: How many a run takes; None where that varies.
        more: 0 for the trace, 1 for the golden set.
    """
    return (batch or 1) * (1 + more)


def painted(size_wh: tuple[int, int], samples: int) -> torch.Tensor:
    """Paint rectangles of random places and colours: float32 (samples, 3, h, w), about -2 to 2.

    Args:
        size_wh: Width and height, in pixels.
        samples: How many pictures.
    """
    drawn = torch.Generator().manual_seed(samples)
    width, height = size_wh
    made = torch.empty((samples, 3, height, width))
    for picture in made:
        picture[:] = torch.randn((3, 1, 1), generator=drawn)
        for _ in range(_BLOCKS):
            x, y, w, h = torch.rand((4,), generator=drawn).tolist()
            left, top = int(x * width), int(y * height)
            right, bottom = left + 1 + int(w * _LARGEST * width), top + 1 + int(h * _LARGEST * height)
            picture[:, top:bottom, left:right] = torch.randn((3, 1, 1), generator=drawn)
    return made


def ranked(golden: Mapping[str, Golden]) -> dict[str, Golden]:
    """Lower the floors of golden sets of a graph that ranks its queries."""
    from dataclasses import replace

    from nearsight_npu.golden import Floor

    floors = {name: Floor(cosine=cosine, centred=centred, order=0.5) for name, (cosine, centred) in RANKED.items()}
    return {role: replace(made, floors=floors) for role, made in golden.items()}
