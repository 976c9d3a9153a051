"""Reads a shipped text tower back into modules that can be trained on: for when its checkpoint is gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from training import e5, model


def constants(path: Path) -> dict[str, np.ndarray]:
    """Every stored tensor of a graph by name, those in FP16 under plain names in FP32; UINT4 ones are left out."""
    found = {}
    for tensor in onnx.load(path).graph.initializer:
        if tensor.data_type == onnx.TensorProto.UINT4:
            continue
        array = numpy_helper.to_array(tensor)
        name = tensor.name.removesuffix(".f16")
        found[name] = array.astype(np.float32) if array.dtype == np.float16 else array
    return found


def matrix(stored: dict[str, np.ndarray], name: str) -> torch.Tensor:
    """A 4-bit matrix (rows, columns) as the numbers that it stands for."""
    packed = stored[f"{name}.w"]
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], -1).astype(np.float32)
    scales = stored[f"{name}.s"].reshape(*codes.shape[:2], 1)
    return torch.from_numpy(((codes - 8) * scales).reshape(len(codes), -1))


def text_tower(path: Path, tower: e5.Tower, tuned: int) -> model.TextTower:
    """The shipped tower's tuned layers and heads.

    Args:
        path: `text.w4.onnx`.
        tower: The frozen tower, for the shapes.
        tuned: How many of its last layers were trained.
    """
    stored = constants(path)
    first = len(tower.layers) - tuned
    centre, basis = torch.from_numpy(stored["centre"].copy()), torch.from_numpy(stored["projection"].T.copy())
    text = model.TextTower(tower.layers[first:], centre, basis, centre)
    with torch.no_grad():
        text.projection.bias.copy_(torch.from_numpy(stored["projection.bias"]))
        for index, layer in enumerate(text.layers, first):
            for part in ("q", "k", "v", "ao", "fi", "fo"):
                fill(getattr(layer, part), matrix(stored, f"l{index}.{part}"), stored[f"l{index}.{part}.b"])
            for part in ("aln", "oln"):
                norm = getattr(layer, part)
                norm.weight.copy_(torch.from_numpy(stored[f"l{index}.{part}.w"]))
                norm.bias.copy_(torch.from_numpy(stored[f"l{index}.{part}.b"]))
        fill(text.first, matrix(stored, "first"), stored["first.b"])
        fill(text.second, matrix(stored, "second"), stored["second.b"])
    return text


def fill(linear: nn.Linear, weight: torch.Tensor, bias: np.ndarray) -> None:
    """Put weights under a layer's 4-bit rounding."""
    linear.parametrizations.weight.original.copy_(weight)
    linear.bias.copy_(torch.from_numpy(bias))
