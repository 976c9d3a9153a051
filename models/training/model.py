"""The two towers as they are trained: tuned upper layers over cached states, one space `[learned ; named]`."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.utils.parametrize
from torch import Tensor, nn

from training import e5, lite0

LEARNED, NAMED = 256, 256
NAMED_WEIGHT = 0.9
TOP_CLASSES = 10
SPREAD = 8.0  # e5's centred vectors are short; this brings them to the scale an MLP expects
unit = nn.functional.normalize


def fake_quantized(weight: Tensor) -> Tensor:
    """Round to 4 bits in blocks of 32, as the file will; gradients pass straight through."""
    codes, scales = quantized(weight)
    rounded = ((codes - 8) * scales[..., None]).reshape(weight.shape)
    return weight + (rounded - weight).detach()


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes 0 to 15 (rows, columns / 32, 32) with zero point 8, and scales (rows, columns / 32)."""
    blocks = weight.detach().reshape(weight.shape[0], -1, e5.BLOCK)
    extreme = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))[..., 0]
    scales = (extreme / -8).half().to(weight.dtype)  # the file keeps them in FP16
    safe = torch.where(scales == 0, torch.ones_like(scales), scales)
    return (torch.round(blocks / safe[..., None]) + 8).clamp(0, 15), safe


class Rounded(nn.Module):
    """A parametrization that trains through the 4-bit rounding."""

    def forward(self, weight: Tensor) -> Tensor:
        return fake_quantized(weight)


class TextTower(nn.Module):
    """Tuned layers of e5 over cached states, then `[unit(MLP) ; NAMED_WEIGHT * unit(projection)]`."""

    def __init__(self, layers: nn.ModuleList, mean: Tensor, basis: Tensor, names_mean: Tensor) -> None:
        super().__init__()
        self.layers = copy.deepcopy(layers)
        for layer in self.layers:
            for part in ("q", "k", "v", "ao", "fi", "fo"):
                nn.utils.parametrize.register_parametrization(getattr(layer, part), "weight", Rounded())
        self.mean = nn.Parameter(mean.clone(), requires_grad=False)
        self.first, self.second = nn.Linear(len(mean), 1024), nn.Linear(1024, LEARNED)
        for linear in (self.first, self.second):
            nn.utils.parametrize.register_parametrization(linear, "weight", Rounded())
        # Names lie about a centre of their own, "a photo of a ..."; taken away, they stand further apart.
        self.projection = nn.Linear(len(mean), NAMED)
        self.projection.weight, self.projection.bias = (
            nn.Parameter(basis.clone()),
            nn.Parameter(basis @ (mean - names_mean)),
        )
        self.dropout = nn.Dropout(0.1)

    def centred(self, states: Tensor, mask: Tensor) -> Tensor:
        """Mean-free sentence vectors (n, 384)."""
        with torch.autocast("cpu", torch.bfloat16):
            for layer in self.layers:
                states = layer(states, mask)
        return e5.pooled(states.float(), mask) - self.mean

    def heads(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        """The learned and the named part, each of unit length."""
        hidden = self.dropout(nn.functional.gelu(self.first(centred * SPREAD)))
        return unit(self.second(hidden), dim=-1), unit(self.projection(centred), dim=-1)


class PictureTower(nn.Module):
    """Tuned upper trunk over cached grids, then `[unit(linear) ; NAMED_WEIGHT * unit(top classes' names)]`."""

    def __init__(self, trunk: lite0.Trunk) -> None:
        super().__init__()
        self.upper, self.head, self.classifier = (copy.deepcopy(m) for m in (trunk.upper, trunk.head, trunk.classifier))
        self.linear = nn.Linear(lite0.WIDTH, LEARNED)
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("names", torch.zeros(1000, NAMED))

    def features(self, lower: Tensor) -> Tensor:
        """Pooled features (n, 1280) of cached grids (n, 112, 14, 14)."""
        x = lower.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            grid = self.head(self.upper(x))
        return grid.float().mean((2, 3))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The learned part, the named part (each unit) and the class logits."""
        logits = self.classifier(features)
        return unit(self.linear(self.dropout(features)), dim=-1), named(logits, self.names), logits


def named(logits: Tensor, names: Tensor) -> Tensor:
    """Mix the names of the ten likeliest classes."""
    p = logits.softmax(-1)
    least = p.topk(TOP_CLASSES, dim=-1).values[:, -1:]
    return unit(torch.where(p >= least, p, torch.zeros_like(p)) @ names, dim=-1)


def joined(learned: Tensor, name: Tensor) -> Tensor:
    """One unit vector (n, LEARNED + NAMED) whose inner product weighs both parts."""
    return torch.cat([learned, NAMED_WEIGHT * name], -1) / (1 + NAMED_WEIGHT**2) ** 0.5


def principal(vectors: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and the first principal directions (width, d) of unit vectors."""
    mean = vectors.mean(0)
    _, _, basis = np.linalg.svd((vectors - mean)[:: max(1, len(vectors) // 20_000)], full_matrices=False)
    return mean, basis[:width]
