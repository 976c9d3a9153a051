"""Weights in 4 or 8 bits, activations in float: numbers that are neighbours share a scale and a zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization.draft import MICROSOFT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.draft import Draft

BITS = (4, 8)
BLOCKS = (16, 32, 64, 128)  # Source: onnxruntime 1.32 takes powers of two from 16 on
LARGEST_HALF = 65504.0  # Source: IEEE 754 binary16
_SMALL = 4  # bits at which a grid of its own is looked for: of 8 bits any is near enough
_AT_ONCE = 2**20  # numbers that are rounded at once, so that they stay in the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """A matrix whose rows are cut into blocks: value = (code - zero) x scale.

    Attributes:
        codes: (rows, blocks x block) uint8; zero's codes stand behind the last column.
        scales: (rows, blocks) float16, or float32 where FP16 has no number as large.
        zeros: (rows, blocks) uint8.
        columns: columns of the matrix.
    """

    codes: Array
    scales: Array
    zeros: Array
    columns: int

    def restored(self) -> Array:
        """Give the matrix that a runtime multiplies with: (rows, columns) float32."""
        rows, count = self.scales.shape
        values = self.codes.reshape(rows, count, -1).astype(np.float32)
        values -= self.zeros[..., None]
        values *= self.scales[..., None].astype(np.float32)
        return values.reshape(rows, -1)[:, : self.columns]


def blockwise(matrix: Array, bits: int, block: int, *, spanning: bool = False) -> Blocks:
    """Round a matrix to codes; each number moves by half a step of its block at most.

    Each block of 4 bits takes the nearest of a few grids, so that weights that lie on one already, because they were
    stored in 4 bits before, stay where they are.

    Args:
        matrix: (rows, columns) float32.
        bits: 4 or 8.
        block: how many neighbours in a row share a scale.
        spanning: whether every block shall have the grid that begins and ends with its own numbers.

    Returns:
        The codes.
    """
    rows, columns = matrix.shape
    padded = np.pad(matrix, ((0, 0), (0, -columns % block))).reshape(rows, -1, block)
    low, high = np.minimum(padded.min(axis=2), 0), np.maximum(padded.max(axis=2), 0)
    largest = 2**bits - 1
    scales, zeros = _nearest(padded, _grids(low, high, bits)[: 1 if spanning else None], largest)
    return Blocks(
        codes=_codes_of(padded, scales, zeros, largest).astype(np.uint8).reshape(rows, -1),
        scales=scales,
        zeros=zeros.astype(np.uint8),
        columns=columns,
    )


def _grids(low: Array, high: Array, bits: int) -> list[tuple[Array, Array]]:
    """Give the grids that a block from `low` to `high` may take: steps, and the code of zero.

    The first spans the block's own ends. Others have zero's code in the middle, as symmetric 4-bit formats do: from
    -8 to 7 steps, from -7 to 8 (what a negative scale makes of it), from -7 to 7.
    """
    scales = _rounded_up((high - low) / (2**bits - 1))
    grids = [(scales, np.rint(-low / scales.astype(np.float32)))]
    if bits == _SMALL:
        ends = ((8, 7), (7, 8), (7, 7))
        steps = [np.maximum(-low / below, high / above) for below, above in ends]
        grids += [
            (_rounded_up(step), np.full(step.shape, max(below, 15 - above), np.float32))
            for step, (below, above) in zip(steps, ends, strict=True)
        ]
    return grids


def _nearest(blocks: Array, grids: Sequence[tuple[Array, Array]], largest: int) -> tuple[Array, Array]:
    """Give each block the grid that moves it least; the first of equal ones."""
    scales, zeros = grids[0]
    if len(grids) == 1:
        return scales, zeros
    least = _moved(blocks, scales, zeros, largest)
    for others, centres in grids[1:]:
        moved = _moved(blocks, others, centres, largest)
        nearer = moved < least
        scales, zeros = np.where(nearer, others, scales), np.where(nearer, centres, zeros)
        least = np.where(nearer, moved, least)
    return scales, zeros


def _moved(blocks: Array, scales: Array, zeros: Array, largest: int) -> Array:
    """Give the sum of the squares by which rounding moves each block."""
    found = np.empty(scales.shape, np.float32)
    rows = max(1, _AT_ONCE // max(blocks[0].size, 1)) if len(blocks) else 1
    for begin in range(0, len(blocks), rows):
        part = slice(begin, begin + rows)
        codes = _codes_of(blocks[part], scales[part], zeros[part], largest)
        codes -= zeros[part, :, None]
        codes *= scales[part, :, None].astype(np.float32)
        codes -= blocks[part]
        found[part] = np.einsum("rbk,rbk->rb", codes, codes)
    return found


def _codes_of(blocks: Array, scales: Array, zeros: Array, largest: int) -> Array:
    """Round blocks to codes, still as float32."""
    codes = np.rint(blocks / scales[..., None].astype(np.float32))
    codes += zeros[..., None]
    return np.clip(codes, 0, largest, out=codes)


def fitted(block: int, columns: int) -> int:
    """Give the block to take for rows of so many numbers: one that is no longer than the row needs."""
    return min(block, next((size for size in BLOCKS if size >= columns), block))


def _rounded_up(steps: Array) -> Array:
    """Round steps up to FP16, so that the ends of a block stay within its codes; those of zeros alone become 1.

    A step that is one of FP16's numbers but for the last bits of FP32 stays, so that rounding twice changes nothing.
    """
    steps = np.where(steps > 0, steps, 1).astype(np.float32)
    if steps.max(initial=0) > LARGEST_HALF:
        return steps
    half = steps.astype(np.float16)
    short = half.astype(np.float32) * np.float32(1 + 1e-6) < steps
    up: Array = np.where(short, np.nextafter(half, np.float16(np.inf)), half)
    return up


def packed(codes: Array, bits: int) -> Array:
    """Pack codes along the last axis into bytes: two of 4 bits share one, the first in its low half."""
    if bits == 8:
        return codes
    even: Array = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    pairs: Array = (even[..., 0::2] | even[..., 1::2] << 4).astype(np.uint8)
    return pairs


def write_product(draft: Draft, node: Any, bits: int, block: int, accuracy_level: int) -> None:
    """Make a matrix product one with integer weights (MatMulNBits).

    Args:
        draft: the graph.
        node: what `is_product` is true of.
        bits: 4 or 8.
        block: numbers that share a scale.
        accuracy_level: 0 multiplies in FP32; 4 lets a processor round activations to 8 bits and multiply integers.
    """
    name = node.input[1]
    columns, rows = draft.shape(name)[:: -1 if transposed(node) else 1]
    block = fitted(block, columns)
    # A product that takes the same matrix the other way round has codes of its own.
    stem = f"{name}.w{bits}b{block}" + ".turned" * transposed(node)
    if not draft.is_weight(stem):
        made = blockwise(rows_of(draft, node), bits, block)
        draft.weight(stem, packed(made.codes, bits).reshape(rows, -1, block * bits // 8))
        draft.weight(f"{stem}.zeros", packed(made.zeros, bits).reshape(-1))
        stored(draft, f"{stem}.scales", made.scales.reshape(-1))
    inputs = [node.input[0], stem, f"{stem}.scales", f"{stem}.zeros"]
    shape = {"K": columns, "N": rows, "bits": bits, "block_size": block, "accuracy_level": accuracy_level}
    draft.replace(node, "MatMulNBits", inputs, add_row(draft, node), MICROSOFT, **shape)


def write_lookup(draft: Draft, node: Any, bits: int, block: int) -> None:
    """Make a table of embeddings one of integers (GatherBlockQuantized).

    Args:
        draft: the graph.
        node: what `is_lookup` is true of.
        bits: 4 or 8.
        block: numbers that share a scale.
    """
    from onnx import TensorProto

    name = node.input[0]
    block = fitted(block, draft.shape(name)[1])
    stem = f"{name}.t{bits}b{block}"
    if not draft.is_weight(stem):
        made = blockwise(draft.array(name), bits, block)
        _codes(draft, stem, made.codes[:, : made.columns], bits)
        _codes(draft, f"{stem}.zeros", made.zeros, bits)
        draft.weight(f"{stem}.scales", made.scales.astype(np.float32) if bits == 8 else made.scales)
    inputs = [stem, node.input[1], f"{stem}.scales", f"{stem}.zeros"]
    how = {"bits": bits, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    # The rows come in the scales' type, and FP16 would round 8-bit ones once more. A Cast in front of the scales would
    # do for both, but OpenVINO 2026.4 refuses it.
    answer = node.output[0]
    if not draft.is_float(f"{stem}.scales"):
        draft.node("Cast", [f"{answer}.f16"], answer, to=TensorProto.FLOAT)
        answer = f"{answer}.f16"
    draft.replace(node, "GatherBlockQuantized", inputs, answer, MICROSOFT, **how)


def write_stored(draft: Draft, node: Any, name: str, bits: int) -> None:
    """Let any operator take a weight that is stored in integers, a scale for each place of its first axis.

    It is restored by operators that runtimes fold when they load, so it costs nothing while running.

    Args:
        draft: the graph.
        node: who takes it.
        name: the weight.
        bits: 4 or 8.
    """
    stem, shape = f"{name}.c{bits}", draft.shape(name)
    if not draft.is_weight(stem):
        matrix = draft.array(name).reshape(shape[0], -1)
        made = blockwise(matrix, bits, matrix.shape[1])
        places = (shape[0], *(1 for _ in shape[1:]))
        values = _restored_codes(draft, stem, made.codes.reshape(shape), bits)
        zeros = stored(draft, f"{stem}.zeros", made.zeros.reshape(places).astype(np.float16))
        moved = draft.node("Sub", [values, zeros], f"{stem}.moved")
        draft.node("Mul", [moved, stored(draft, f"{stem}.scales", made.scales.reshape(places))], f"{stem}.restored")
    draft.point(node, name, f"{stem}.restored")


def _restored_codes(draft: Draft, stem: str, codes: Array, bits: int) -> str:
    """Put in codes and what makes floats of them; halves of a byte are parted by arithmetic that every opset has."""
    from onnx import TensorProto

    bytes_ = packed(codes.reshape(1, -1), bits).reshape(-1, 1) if bits == 4 else codes
    values = draft.node("Cast", [draft.weight(stem, bytes_)], f"{stem}.values", to=TensorProto.FLOAT)
    if bits == 8:
        return values
    half = draft.weight("nibble.step", np.array(16, np.float32))
    high = draft.node("Floor", [draft.node("Div", [values, half], f"{stem}.sixteenths")], f"{stem}.high")
    low = draft.node("Sub", [values, draft.node("Mul", [high, half], f"{stem}.sixteens")], f"{stem}.low")
    flat = draft.weight("nibble.flat", np.array([-1]))
    row = draft.node("Reshape", [draft.node("Concat", [low, high], f"{stem}.pairs", axis=1), flat], f"{stem}.row")
    bounds = [draft.weight(f"{stem}.{name}", np.array([at])) for name, at in (("begin", 0), ("end", codes.size))]
    whole = draft.node("Slice", [row, *bounds], f"{stem}.whole")
    return draft.node("Reshape", [whole, draft.weight(f"{stem}.shape", np.array(codes.shape))], f"{stem}.codes")


def _codes(draft: Draft, name: str, codes: Array, bits: int) -> None:
    if bits == 8:
        draft.weight(name, codes)
    else:
        draft.weight(name, packed(codes.reshape(-1), bits), nibbles=codes.shape)


def stored(draft: Draft, name: str, array: Array) -> str:
    """Put in a float array; one in FP16 lies behind a Cast, which runtimes fold when they load."""
    from onnx import TensorProto

    if array.dtype != np.float16:
        return draft.weight(name, array)
    return draft.node("Cast", [draft.weight(f"{name}.f16", array)], name, to=TensorProto.FLOAT)


def is_product(draft: Draft, node: Any) -> bool:
    """Say whether a node multiplies with a constant matrix and does nothing else but add something."""
    if node.op_type not in {"MatMul", "Gemm"} or not draft.is_float(node.input[1]):
        return False
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    return len(draft.shape(node.input[1])) == 2 and all(
        _attribute(node, name, usual) == usual for name, usual in plain.items()
    )


def is_lookup(draft: Draft, node: Any) -> bool:
    """Say whether a node takes rows of a constant table."""
    return (
        node.op_type == "Gather"
        and draft.is_float(node.input[0])
        and len(draft.shape(node.input[0])) == 2
        and _attribute(node, "axis", 0) == 0
    )


def transposed(node: Any) -> bool:
    """Say whether a product's matrix has a row for each column of its answer."""
    return bool(_attribute(node, "transB", 0))


def rows_of(draft: Draft, node: Any) -> Array:
    """Read a product's matrix, a row for each column of its answer: (outputs, inputs)."""
    array = draft.array(node.input[1])
    return array if transposed(node) else np.ascontiguousarray(array.T)


def add_row(draft: Draft, node: Any) -> str:
    """Let an Add of its own do what a Gemm adds; give the name that the product alone shall have."""
    if len(node.input) < 3 or not node.input[2]:
        return str(node.output[0])
    product = f"{node.output[0]}.product"
    draft.node("Add", [product, node.input[2]], node.output[0])
    return product


def _attribute(node: Any, name: str, usual: float) -> float:
    found = next((entry for entry in node.attribute if entry.name == name), None)
    if found is None:
        return usual
    return float(found.f) if found.type == found.FLOAT else float(found.i)
