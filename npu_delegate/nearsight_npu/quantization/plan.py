"""The words of mixed precision: a graph's groups, what each may become, and a plan that says what each does become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

# What a group of operators may become. "a8w8" and its kin are static QDQ: activations, then weights.
FP32 = "fp32"
FP16 = "fp16"  # weights stored in half precision behind a Cast; computed in FP32 where the chip has no half precision
W8 = "w8"  # weights only, 8 bits in blocks (MatMulNBits)
W4 = "w4"  # weights only, 4 bits in blocks (MatMulNBits)
A8W8 = "a8w8"  # U8 activations, S8 weights: processors
S8W8 = "s8w8"  # S8 activations, S8 weights: NPUs
A16W8 = "a16w8"  # U16 activations, S8 weights: NPUs
DYNAMIC = "d8w8"  # activations made integer on every run
CHOICES = (FP32, FP16, A16W8, A8W8, S8W8, DYNAMIC, W8, W4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Operators that become the same precision together: one with weights, and what only follows it.

    Attributes:
        name: the name of its first operator.
        kind: "conv", "matmul" or "lookup" (a table of embeddings).
        nodes: names of its operators, in the graph's order.
        weights: names of its constant weights.
        elements: how many numbers these hold.
        block: which part of the model it belongs to (the beginning that its neighbours' names share), for reports.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    weights: tuple[str, ...]
    elements: int
    block: str = ""


Plan: TypeAlias = Mapping[str, str]  # group name -> one of CHOICES
