"""Half precision: weights stored in FP16, or a whole graph that computes in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.draft import Draft
from nearsight_npu.quantization.source import described
from nearsight_npu.quantization.weight_only import LARGEST_HALF, stored

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.ranges import Ranges
    from nearsight_npu.quantization.source import Prepared

# Operators without an FP16 form, or with one in new opsets only. Source: ONNX operator changelog.
_FULL = frozenset(
    {"Bernoulli", "DequantizeLinear", "DynamicQuantizeLinear", "EyeLike", "Multinomial", "NonMaxSuppression"}
    | {"QuantizeLinear", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "RoiAlign"}
)
# Where a constant beyond FP16 stands for "never", its furthest finite number does as well.
_MASKING = frozenset({"Add", "Clip", "Max", "Min", "Sub", "Where"})
_HALF_INPUTS = {"Resize": 1}  # its scales are FP32 in either precision
_MATRIX = 2  # axes of a table
_FEWEST = 256  # a Cast costs about as many bytes as it saves on fewer numbers


def store_half(draft: Draft, node: Any, name: str) -> None:
    """Let a node take a weight that is stored in FP16 behind a Cast, which runtimes fold when they load.

    Rows of a table are looked up first and cast then, so that the whole of it is never in memory twice as large. A
    weight with numbers that FP16 does not reach stays as it is.

    Args:
        draft: the graph.
        node: who takes it.
        name: the weight.
    """
    array = draft.array(name)
    if not fits_half(array):
        return
    if node.op_type == "Gather":
        rows = node.output[0]
        draft.point(node, name, draft.weight(f"{name}.half.f16", array.astype(np.float16)))
        node.output[0] = f"{rows}.f16"
        _cast(draft, f"{rows}.f16", rows, "FLOAT")
    else:
        draft.point(node, name, stored(draft, f"{name}.half", array.astype(np.float16)))


def narrow_tables(draft: Draft, halves: Collection[str]) -> None:
    """Let what is left of tables that `widen_tables` put into FP32 be looked up in FP16 as before."""
    for name in sorted(halves):  # or files of the same wish differ
        for node in draft.takers(name):
            store_half(draft, node, name)


def fits_half(array: Array) -> bool:
    """Say whether FP16 reaches all numbers of an array."""
    return bool(np.abs(array).max(initial=0) <= LARGEST_HALF)


def widen_tables(prepared: Prepared) -> Prepared:
    """Put tables into FP32 that are looked up in FP16 with a Cast behind, so that they become groups like others.

    Args:
        prepared: the graph; it is written anew if there are any.

    Returns:
        The same graph, or the new one, whose `halves` names those tables.

    Raises:
        QuantizationError: if it cannot be written.
    """
    import onnx

    lookups = [node for node in prepared.nodes if node.kind == "Gather"]
    looked_up = {node.inputs[0] for node in lookups if not prepared.floating.intersection(node.outputs)}
    tables = sorted(name for name in looked_up if len(prepared.shapes.get(name, ())) == _MATRIX)
    if not tables:
        return prepared
    draft = Draft(prepared)
    widened = [name for name in tables if _widen(draft, name)]
    if not widened:
        return prepared
    draft.save(prepared.path)
    found = described(prepared.path, onnx.load(str(prepared.path)), prepared.original)
    return replace(found, halves=frozenset(f"{name}.full" for name in widened))


def _widen(draft: Draft, name: str) -> bool:
    """Put a table into FP32 if Casts to it are all that takes its rows; say whether it was."""
    array = draft.array(name)
    pairs = [(node, _cast_behind(draft, node)) for node in draft.takers(name)]
    if array.dtype != np.float16 or name in draft.captured or any(cast is None for _, cast in pairs):
        return False
    for node, cast in pairs:
        draft.point(node, name, draft.weight(f"{name}.full", array.astype(np.float32)))
        node.output[0] = cast.output[0]
        draft.remove(cast)
    return True


def _cast_behind(draft: Draft, node: Any) -> Any:
    """Give the Cast to FP32 that alone takes the rows that a node looks up; None where there is none."""
    from onnx import TensorProto

    rows = node.output[0]
    if node.op_type != "Gather" or rows in draft.outputs | draft.captured:
        return None
    takers = draft.takers(rows)
    to = [entry.i for taker in takers if taker.op_type == "Cast" for entry in taker.attribute if entry.name == "to"]
    return takers[0] if len(takers) == 1 and to == [TensorProto.FLOAT] else None


def write_half(prepared: Prepared, target: Path) -> tuple[str, ...]:
    """Write a graph with its weights stored in FP16; it computes in FP32 all the same.

    Args:
        prepared: the graph.
        target: where to write.

    Returns:
        The names of the weights.

    Raises:
        QuantizationError: if it cannot be written.
    """
    draft = Draft(prepared)
    large = [name for name in sorted(prepared.constants) if draft.is_float(name) and _count(draft, name) >= _FEWEST]
    for name in large:
        for node in draft.takers(name):
            store_half(draft, node, name)
    draft.save(target)
    return tuple(name for name in large if draft.is_weight(f"{name}.half.f16"))


def _count(draft: Draft, name: str) -> int:
    return int(np.prod(draft.shape(name)))


def write_computing_half(prepared: Prepared, target: Path, ranges: Ranges | None = None) -> tuple[str, ...]:
    """Write a graph that computes in FP16, for chips that do; what it takes and gives stays FP32.

    Operators without an FP16 form stay in FP32 between casts, and so do those around numbers that FP16 does not reach.

    Args:
        prepared: the graph.
        target: where to write.
        ranges: what was seen of its arrays, which tells those numbers; None trusts that there are none.

    Returns:
        The names of the operators that stay in FP32.

    Raises:
        QuantizationError: if the graph has branches, or cannot be written.
    """
    from onnx import TensorProto

    draft = Draft(prepared)
    if draft.captured:
        raise QuantizationError(
            f"{target.name} was to compute in FP16; a branch (If, Loop) takes {min(draft.captured)!r}, and types are "
            "not followed into branches; store weights in FP16 instead"
        )
    far = frozenset() if ranges is None else _far(ranges)
    full = {node.name for node in draft.nodes.values() if _stays_full(draft, node, far)}
    halves = [node for node in draft.nodes.values() if node.name not in full]
    made = {name: _named(draft, node, name) for node in halves for name in node.output if name in draft.floating}
    for node in draft.nodes.values():
        for name in tuple(node.input)[: _HALF_INPUTS.get(node.op_type, len(node.input))]:
            _take(draft, node, name, made, half=node.name not in full)
    for node in halves:
        _halve_attributes(node)
    for value in draft.model.graph.value_info:
        if value.name in made:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    draft.save(target)
    return tuple(name for name in draft.nodes if name in full)


def _named(draft: Draft, node: Any, name: str) -> str:
    """Give what an array is called in FP16; the graph's own outputs keep their names in FP32."""
    if name not in draft.outputs:
        return name
    half = f"{name}.half"
    node.output[list(node.output).index(name)] = half
    _cast(draft, half, name, "FLOAT")
    return half


def _take(draft: Draft, node: Any, name: str, made: Mapping[str, str], *, half: bool) -> None:
    """Let a node take an array in its own precision.

    Args:
        draft: the graph.
        node: the node.
        name: the array.
        made: array that is made in FP16 -> its name there.
        half: whether the node computes in FP16.
    """
    if draft.is_float(name) and half:
        draft.point(node, name, draft.weight(f"{name}.half", _clipped(draft.array(name))))
    elif name in made and half:
        draft.point(node, name, made[name])
    elif name in made and name not in draft.outputs:
        draft.point(node, name, _cast(draft, name, f"{name}.full", "FLOAT"))
    elif name in draft.floating and name not in made and half:
        draft.point(node, name, _cast(draft, name, f"{name}.half", "FLOAT16"))


def _stays_full(draft: Draft, node: Any, far: Collection[str]) -> bool:
    if node.op_type in _FULL or node.domain not in {"", "ai.onnx"} or set(far) & {*node.input, *node.output}:
        return True
    constants = [name for name in node.input if draft.is_float(name)] if node.op_type not in _MASKING else []
    return not all(fits_half(draft.array(name)) for name in constants)


def _far(ranges: Ranges) -> frozenset[str]:
    """Name the arrays that hold numbers which FP16 does not reach."""
    spreads = ranges.spreads.items()
    return frozenset(name for name, spread in spreads if max(-spread.low, spread.high) > LARGEST_HALF)


def _clipped(array: Array) -> Array:
    """Round to FP16; what lies beyond it, such as a mask's least number, becomes its furthest finite one."""
    finite = np.where(np.isfinite(array), np.clip(array, -LARGEST_HALF, LARGEST_HALF), array)
    return np.asarray(finite, np.float16)


def _cast(draft: Draft, name: str, to: str, kind: str) -> str:
    from onnx import TensorProto

    return draft.node("Cast", [name], to, to=TensorProto.DataType.Value(kind))


def _halve_attributes(node: Any) -> None:
    """Let what an operator makes out of nothing, or casts to FP32, be FP16."""
    from onnx import TensorProto, helper, numpy_helper

    for entry in node.attribute:
        if node.op_type == "Cast" and entry.name == "to" and entry.i == TensorProto.FLOAT:
            entry.i = TensorProto.FLOAT16
        if entry.type == entry.TENSOR and entry.t.data_type == TensorProto.FLOAT:
            entry.t.CopyFrom(numpy_helper.from_array(_clipped(numpy_helper.to_array(entry.t)), entry.t.name))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float16))))
