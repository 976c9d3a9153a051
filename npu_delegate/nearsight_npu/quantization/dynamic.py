"""Dynamic INT8: weights of matrix products become integer now, activations on every run; it needs no samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization.draft import Draft
from nearsight_npu.quantization.qdq import NARROW, WIDE, channel_codes, channel_scales
from nearsight_npu.quantization.weight_only import add_row, is_product, rows_of, transposed

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared

KINDS = frozenset({"MatMul", "Gemm"})


def choose_products(prepared: Prepared, keep_float: Sequence[str]) -> frozenset[str]:
    """Choose the matrix products with constant weights.

    Args:
        prepared: the graph.
        keep_float: beginnings of names that stay in float.

    Returns:
        Names of operators.
    """
    return frozenset(
        node.name
        for node in prepared.nodes
        if node.kind in KINDS and node.inputs[1] in prepared.constants and not node.name.startswith(tuple(keep_float))
    )


def write_dynamic(prepared: Prepared, target: Path, chosen: Collection[str], *, reduce_range: bool) -> None:
    """Write the graph with integer weights, a scale per column.

    Args:
        prepared: the graph.
        target: where to write.
        chosen: names of the products that become integer.
        reduce_range: whether weights keep to 7 bits.

    Raises:
        QuantizationError: if it cannot be written.
    """
    draft = Draft(prepared)
    for node in draft.nodes.values():
        if node.name in chosen and is_product(draft, node):
            write_integer_product(draft, node, reduce_range=reduce_range)
    draft.save(target)


def write_integer_product(draft: Draft, node: Any, *, reduce_range: bool) -> None:
    """Make a matrix product one of integers: S8 weights, U8 activations with a range of their own on every run.

    The operators stand as onnxruntime expects them, which makes a single one of them.

    Args:
        draft: the graph.
        node: what `is_product` is true of.
        reduce_range: whether weights keep to 7 bits.
    """
    from onnx import TensorProto

    source, name = node.input[0], node.input[1]
    stem = f"{name}.d8" + ".turned" * transposed(node)
    if not draft.is_weight(stem):
        limit = NARROW if reduce_range else WIDE
        matrix = rows_of(draft, node).T
        scales = channel_scales(matrix, 1, limit)
        draft.weight(stem, channel_codes(matrix, scales, limit))
        draft.weight(f"{stem}.scale", scales)
        draft.weight(f"{stem}.zero", np.zeros(scales.shape, np.int8))
    parts = [f"{source}.dynamic{end}" for end in ("", ".scale", ".zero")]
    codes, scale, zero = draft.nodes_of("DynamicQuantizeLinear", [source], parts)
    answer = add_row(draft, node)
    whole = f"{answer}.s32"
    draft.replace(node, "MatMulInteger", [codes, stem, zero, f"{stem}.zero"], whole)
    step = draft.node("Mul", [scale, f"{stem}.scale"], f"{answer}.step")
    draft.node("Mul", [draft.node("Cast", [whole], f"{answer}.f32", to=TensorProto.FLOAT), step], answer)
