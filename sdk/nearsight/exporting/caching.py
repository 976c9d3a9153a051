"""Examples to trace with; names of a decoder's keys and values, in the order in which hub exports have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

Pair = tuple["torch.Tensor", "torch.Tensor"]
PAST, PRESENT = "past_key_values", "present"
SELF, CROSS = ".decoder", ".encoder"


def names(prefix: str, layers: int, kind: str = "") -> list[str]:
    """Name keys and values of all layers: `present.0.key`, or `present.0.decoder.key` where there are two kinds."""
    return [f"{prefix}.{layer}{kind}.{part}" for layer in range(layers) for part in ("key", "value")]


def drawn(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Draw numbers, the same ones each time."""
    import torch

    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def pictures(count: int, high: int, wide: int) -> torch.Tensor:
    """Draw pictures (count, 3, high, wide) of coarse patches: they differ, and take little room in a golden set."""
    from torch.nn.functional import interpolate

    return interpolate(drawn((count, 3, 13, 13)), size=(high, wide))


def drawn_ids(shape: Sequence[int], vocabulary: int) -> torch.Tensor:
    """Draw ids other than 0, which pads, the same ones each time."""
    import torch

    return torch.randint(1, vocabulary, tuple(shape), generator=torch.Generator().manual_seed(0))


def examples(named: Sequence[str], shape: Sequence[int]) -> dict[str, torch.Tensor]:
    """Draw keys and values (batch, heads, length, deep) for each name."""
    return {name: drawn(shape, place) for place, name in enumerate(named, 1)}


def axes(named: Sequence[str], length: str) -> dict[str, dict[int, str]]:
    """Say which of their axes vary."""
    return {name: {0: "batch", 2: length} for name in named}


def paired(flat: Sequence[torch.Tensor]) -> list[Pair]:
    """Give (key, value) of each layer."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def flattened(layers: Sequence[object]) -> tuple[torch.Tensor, ...]:
    """Give the keys and values of a cache's layers in the order of `names`."""
    return tuple(tensor for layer in layers for tensor in (layer.keys, layer.values))  # type: ignore[attr-defined]
