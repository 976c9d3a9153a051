"""Dynamic INT8: weights of matrix products become integer now, activations on every run; it needs no samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight_npu.quantization.source import quiet, refused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from nearsight_npu.quantization.source import Prepared

KINDS = frozenset({"MatMul", "Gemm"})
# The tool writes a Gemm as a MatMul of this name, and an Add.
_RENAMED = "_MatMul"


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
        QuantizationError: if the tool refuses.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    left = [node.name for node in prepared.nodes if node.name not in chosen]
    with (
        refused("dynamic INT8 was asked for; onnxruntime's tool gave up", "keep_float=(...) the operator it names"),
        quiet(),
    ):
        quantize_dynamic(
            str(prepared.path),
            str(target),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*left, *(name + _RENAMED for name in left)],
        )
