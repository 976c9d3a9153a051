"""Foretells how many bytes a plan's file will have, without writing it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.qdq import DATA, LIMITERS, WEIGHTED
from nearsight_npu.quantization.weight_only import fitted
from nearsight_npu.quantization.writing import WEIGHT_BITS, Recipe, activations, choice_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearsight_npu.quantization.plan import Group, Plan
    from nearsight_npu.quantization.source import Node, Prepared


def plan_bytes(prepared: Prepared, groups: Sequence[Group], plan: Plan, recipe: Recipe | None = None) -> int:
    """Foretell the size of the file that `write_plan` makes of a plan.

    Args:
        prepared: the graph.
        groups: its groups.
        plan: group name -> precision.
        recipe: how precisions are carried out.

    Returns:
        Bytes; weights are counted exactly, names and operators nearly.
    """
    recipe = recipe or Recipe()
    nodes = {node.name: node for node in prepared.nodes}
    added: dict[str, int] = {}
    replaced: dict[str, set[str]] = {}
    for group in groups:
        choice = choice_of(group, plan)
        if choice == words.FP32:
            continue
        for node in (nodes[name] for name in group.nodes):
            for weight in set(group.weights) & set(node.inputs):
                added |= _stored(prepared, node, weight, choice, recipe.block_of(group))
                replaced.setdefault(weight, set()).add(node.name)
    for name in prepared.halves:
        left = {node.name for node in prepared.nodes if name in node.inputs} - replaced.get(name, set())
        added |= _cast(f"{name}.half", prepared.shapes[name]) if left else {}
        replaced.setdefault(name, set()).update(left)
    kinds = activations(prepared, groups, plan)
    for name in kinds:
        bias = _bias(prepared, nodes[name])
        if bias:
            replaced.setdefault(bias, set()).add(name)
    gone = sum(
        _tensor(name, prepared.shapes[name], 4)
        for name, takers in replaced.items()
        if all(node.name in takers for node in prepared.nodes if name in node.inputs)
    )
    return prepared.path.stat().st_size + sum(added.values()) + _pairs(prepared, kinds) - gone


def _stored(prepared: Prepared, node: Node, weight: str, choice: str, block: int) -> dict[str, int]:
    """Give what a weight becomes: tensor or operator -> bytes; what is shared has the same name."""
    shape = prepared.shapes[weight]
    if choice == words.FP16:
        return _cast(f"{weight}.half", shape)
    if choice in WEIGHT_BITS:
        return _in_bits(prepared, node, weight, WEIGHT_BITS[choice], block)
    return _integer(prepared, node, weight, dynamic=choice == words.DYNAMIC)


def _in_bits(prepared: Prepared, node: Node, weight: str, bits: int, block: int) -> dict[str, int]:
    shape = prepared.shapes[weight]
    matrix = len(shape) == 2
    if matrix and node.kind in {"MatMul", "Gemm"}:
        (rows,) = _channels(prepared, node, shape)
        columns = math.prod(shape) // rows
        block = fitted(block, columns)
        stem, count = f"{weight}.w{bits}b{block}.{rows == shape[0]}", -(-columns // block)
        return {
            stem: _tensor(stem, (rows, count, block * bits // 8), 1),
            f"{stem}.zeros": _tensor(f"{stem}.zeros", (rows * -(-count * bits // 8),), 1),
            **_cast(f"{stem}.scales", (rows * count,)),
        }
    stem = f"{weight}.{'t' if matrix and node.kind == 'Gather' else 'c'}{bits}"
    if stem.endswith(f".t{bits}"):
        count = -(-shape[1] // fitted(block, shape[1]))
        return {
            stem: _tensor(stem, shape, bits / 8),
            f"{stem}.zeros": _tensor(f"{stem}.zeros", (shape[0], count), bits / 8),
            f"{stem}.scales": _tensor(f"{stem}.scales", (shape[0], count), bits / 2),
        }
    places = (shape[0], *(1 for _ in shape[1:]))
    nodes = 3 if bits == 8 else 13
    return {
        stem: _tensor(stem, shape, bits / 8),
        f"{stem}.nodes": nodes * _node(stem, stem, stem, stem, stem),
        **_cast(f"{stem}.zeros", places),
        **_cast(f"{stem}.scales", places),
    }


def _integer(prepared: Prepared, node: Node, weight: str, *, dynamic: bool) -> dict[str, int]:
    shape = prepared.shapes[weight]
    channels = _channels(prepared, node, shape)
    stem = f"{weight}.s8" + ".axis0" * (len(shape) == 2 and channels == shape[:1])
    found = {
        stem: _tensor(stem, shape, 1),
        f"{stem}.scale": _tensor(f"{stem}.scale", channels, 4),
        f"{stem}.zero": _tensor(f"{stem}.zero", channels, 1),
    }
    if dynamic:
        return found | {f"{node.name}.dynamic": 6 * _node(stem, stem, stem, stem)}
    found[f"{stem}.node"] = _node(stem, stem, stem, stem, stem)
    bias = _bias(prepared, node)
    if bias:
        long = f"{bias}.{node.name}.s32"
        found |= {long + end: _tensor(long + end, channels, 4) for end in ("", ".scale", ".zero")}
        found[f"{long}.node"] = _node(long, long, long, long, long)
    return found


def _channels(prepared: Prepared, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give how many answers a weight makes; a Gemm's bias tells which side of its matrix they stand on."""
    if node.kind == "MatMul" and len(shape) != 2:
        return ()
    upright = node.kind == "Gemm" and prepared.shapes.get(_bias(prepared, node)) == (shape[1],)
    return (shape[1],) if upright or node.kind in {"ConvTranspose", "MatMul"} else (shape[0],)


def _bias(prepared: Prepared, node: Node) -> str:
    named = node.inputs[2] if node.kind in WEIGHTED and len(node.inputs) > 2 else ""
    return named if len(prepared.shapes.get(named, ())) == 1 else ""


def _pairs(prepared: Prepared, kinds: Mapping[str, str]) -> int:
    """Give the bytes of all QuantizeLinear and DequantizeLinear around activations."""
    takers: dict[str, list[Node]] = {}
    for node in prepared.nodes:
        for name in node.inputs:
            takers.setdefault(name, []).append(node)
    found: dict[tuple[str, str], int] = {}
    for node in prepared.nodes:
        kind = kinds.get(node.name)
        if kind is None:
            continue
        data = node.inputs[: DATA.get(node.kind, len(node.inputs))]
        for name in (*data, *node.outputs):
            after = takers.get(name, [])
            joined = len(after) == 1 and after[0].kind in LIMITERS and kinds.get(after[0].name) == kind
            opened = name in node.outputs and node.kind == "MatMul" and not any(other.name in kinds for other in after)
            if name in prepared.floating and not joined and not (opened and kind == "u8"):
                found[name, kind] = _pair(name)
    return sum(found.values())


def _pair(name: str) -> int:
    stem = f"{name}.u8.codes"
    scales = _tensor(f"{name}.u8.scale", (), 4) + _tensor(f"{name}.u8.zero", (), 1)
    return scales + _node("QuantizeLinear", *[stem] * 5) + _node("DequantizeLinear", *[stem] * 5)


def _cast(name: str, shape: tuple[int, ...]) -> dict[str, int]:
    return {name: _tensor(f"{name}.f16", shape, 2) + _node("Cast", name, f"{name}.f16", f"{name}.Cast", "to")}


def _tensor(name: str, shape: tuple[int, ...], width: float) -> int:
    """Give the bytes of a weight in the file. Source: onnx.proto, TensorProto, with its raw_data."""
    data = math.ceil(math.prod(shape) * width)
    return _field(sum(1 + _varint(length) for length in shape) + 2 + _field(len(name)) + _field(data))


def _node(*texts: str) -> int:
    """Give about the bytes of an operator, of the names in it. Source: onnx.proto, NodeProto."""
    return _field(sum(_field(len(text)) for text in texts) + 8)


def _field(size: int) -> int:
    return 1 + _varint(size) + size


def _varint(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))
