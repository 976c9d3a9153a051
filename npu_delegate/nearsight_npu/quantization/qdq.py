"""Writes QuantizeLinear and DequantizeLinear around operators: integer activations, integer weights, INT32 biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization.draft import MICROSOFT
from nearsight_npu.quantization.ranges import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.draft import Draft
    from nearsight_npu.quantization.ranges import Ranges

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
LIMITERS = frozenset({"Clip", "Relu"})
# What only moves numbers, so that its answer keeps the scale of what it takes.
MOVING = frozenset(
    {"DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool", "ReduceMax"}
    | {"Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze"}
)
# Operators of which only so many inputs are numbers to work on; the others are limits, biases or places.
DATA = {"Clip": 1, "Conv": 2, "ConvTranspose": 2, "Gemm": 2, "Pad": 1, "Resize": 1}
# What onnxruntime's optimizer WeightBiasQuantization makes integer by itself, with one scale for all weights, where it
# stands between a DequantizeLinear and a QuantizeLinear that is its only taker.
# Source: onnxruntime 1.32, core/optimizer/qdq_transformer/weight_bias_quantization.cc
_EXCHANGED = frozenset({"Conv", "ConvTranspose", "Gemm"})
WIDE = 127
NARROW = 64  # Source: onnxruntime's reduce_range: 7 bits, -64 to 64
_WIDE_OPSET = 21  # Source: ONNX operator changelog: QuantizeLinear takes 16 bits from here on
TYPES: dict[str, np.dtype[Any]] = {"u8": np.dtype(np.uint8), "s8": np.dtype(np.int8), "u16": np.dtype(np.uint16)}
_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How ranges become scales.

    Attributes:
        ranges: what was seen of the arrays.
        method: which range to keep: "minmax", "percentile", "entropy" or "mse".
        percentile: the share that "percentile" keeps, in percent.
        reduce_range: whether weights keep to 7 bits.
        open_products: whether a matrix product with U8 activations gives its answer unrounded where only float
            operators take it: as quick on a processor, and closer.
    """

    ranges: Ranges
    method: str = "minmax"
    percentile: float = 99.99
    reduce_range: bool = False
    open_products: bool = False


class QdqWriter:
    """Makes operators of a draft integer.

    An array that an integer operator gives is rounded at once, so runtimes can fuse the rounding; whoever takes it
    gets the rounded numbers. One that a float operator gives is rounded only for the integer operators that take it.

    Args:
        draft: the graph.
        kinds: name of an operator -> the type of its activations: "u8", "s8" or "u16".
        coding: how ranges become scales.
    """

    def __init__(self, draft: Draft, kinds: Mapping[str, str], coding: Coding) -> None:
        self._draft = draft
        self._makers = {output: node for node in draft.nodes.values() for output in node.output}
        self._kinds = {name: kind for name, kind in kinds.items() if not self._limits_floats(draft.nodes[name], kinds)}
        self._coding = coding
        self._domain = MICROSOFT if "u16" in kinds.values() and draft.opset < _WIDE_OPSET else ""
        self._roots: dict[str, str] = {}
        self._open: set[str] = set()
        self._limiting: set[str] = set()  # whose rounding does the work of a Clip or Relu
        self._coded = {
            node.output[0]: codes for node in draft.nodes.values() if (codes := self._codes_of(node)) is not None
        }

    def _limits_floats(self, node: Any, kinds: Mapping[str, str]) -> bool:
        """Say whether a node is a Clip or Relu of what stays in float; it does too, then."""
        maker = self._makers.get(node.input[0])
        return node.op_type in LIMITERS and (maker is None or maker.name not in kinds)

    def _codes_of(self, node: Any) -> tuple[Array, Array] | None:
        """Give the scale and zero point of an array that the graph itself makes out of codes, such as pixels."""
        if node.op_type != "DequantizeLinear" or len(node.input) < 3 or self._draft.is_weight(node.input[0]):
            return None
        if not all(self._draft.is_weight(name) and self._draft.array(name).size == 1 for name in node.input[1:]):
            return None
        return self._draft.array(node.input[1]).reshape(()), self._draft.array(node.input[2]).reshape(())

    def write(self) -> None:
        """Put the operators between QuantizeLinear and DequantizeLinear.

        Raises:
            QuantizationError: if the range of an array is not known.
        """
        chosen = [node for node in self._draft.nodes.values() if node.name in self._kinds]
        require(self._coding.ranges, [name for node in chosen for name in self._arrays(node)])
        nodes = [node for node in chosen if not self._joined(node)]
        for node in nodes:
            if node.op_type in MOVING and node.input[0] in self._draft.floating:
                self._roots.update(dict.fromkeys(node.output, node.input[0]))
        takers = {name: self._draft.takers(name) for node in nodes for name in node.output}
        self._open = {node.name for node in nodes if self._stays_open(node, takers)}
        for node in nodes:
            if node.op_type in WEIGHTED and self._draft.is_weight(node.input[1]):
                self._weigh(node)
        for node in nodes:
            self._fix(node)
            if node.name not in self._open:
                for name in self._arrays(node, inputs=False):
                    self._close(node, name, takers[name])
        for node in nodes:
            for name in self._arrays(node, outputs=False):
                maker = self._makers.get(name)
                kind = self._kinds[node.name]
                rounded = maker is not None and maker.name in self._kinds and maker.name not in self._open
                if not rounded and not self._is_coded(name, kind):
                    self._draft.point(node, name, self._pair(name, name, kind))
        for node in self._draft.nodes.values():
            if node.op_type in _EXCHANGED and node.name not in self._kinds and self._is_only_rounded(node.output[0]):
                # A second taker, whose answer nobody takes, keeps it in float in everybody's sessions. Flatten copies
                # nothing, is not folded, and runs on every target; runtimes that drop dead ends drop it.
                self._draft.node("Flatten", [node.output[0]], f"{node.output[0]}.kept_in_float")

    def _is_only_rounded(self, name: str) -> bool:
        """Say whether nothing but one QuantizeLinear takes an array, as it is, limited or moved."""
        while len(takers := self._draft.takers(name)) == 1 and takers[0].op_type in LIMITERS | MOVING:
            name = takers[0].output[0]
        return [taker.op_type for taker in takers] == ["QuantizeLinear"]

    def _stays_open(self, node: Any, takers: Mapping[str, Sequence[Any]]) -> bool:
        return (
            self._coding.open_products
            and node.op_type in {"MatMul", "Gemm"}
            and self._kinds[node.name] == "u8"
            and node.name not in self._limiting
            and not any(taker.name in self._kinds for name in node.output for taker in takers[name])
        )

    def _arrays(self, node: Any, *, inputs: bool = True, outputs: bool = True) -> tuple[str, ...]:
        """Give the float arrays that a node takes and gives; constants are none."""
        numbers = tuple(node.input)[: DATA.get(node.op_type, len(node.input))]
        names = (*(numbers if inputs else ()), *(node.output if outputs else ()))
        return tuple(name for name in dict.fromkeys(names) if name in self._draft.floating)

    def _joined(self, node: Any) -> bool:
        """Leave out a Clip or Relu whose limits the range behind it keeps: the rounding in front does its work."""
        maker = self._makers.get(node.input[0]) if node.op_type in LIMITERS else None
        if maker is None or maker.op_type in MOVING or self._kinds.get(maker.name) != self._kinds[node.name]:
            return False
        between, behind = node.input[0], node.output[0]
        if (
            between in self._draft.outputs | self._draft.captured
            or len(self._draft.takers(between)) > 1
            or len(maker.output) > 1
        ):
            return False
        least, most = self._limits(node)
        low, high = self._range(behind, self._kinds[node.name])
        if low < least or high > most:
            return False
        self._limiting.add(maker.name)
        maker.output[0] = behind
        self._makers[behind] = maker
        self._draft.remove(node)
        return True

    def _limits(self, node: Any) -> tuple[float, float]:
        if node.op_type == "Relu":
            return 0.0, np.inf
        names = [*node.input[1:], "", ""][:2]
        if not all(self._draft.is_weight(name) for name in names if name):
            return np.inf, -np.inf  # known at run time only
        low, high = (float(self._draft.array(name).item()) if name else None for name in names)
        return -np.inf if low is None else low, np.inf if high is None else high

    def _range(self, name: str, kind: str) -> tuple[float, float]:
        coding, levels = self._coding, 2 ** (8 * TYPES[kind].itemsize)
        return coding.ranges.of(name, coding.method, coding.percentile, levels)

    def _is_coded(self, name: str, kind: str) -> bool:
        return name in self._coded and self._coded[name][1].dtype == TYPES[kind]

    def _scale(self, name: str, kind: str) -> tuple[Array, Array]:
        while name in self._roots:
            name = self._roots[name]
        return self._coded[name] if self._is_coded(name, kind) else scale_of(*self._range(name, kind), TYPES[kind])

    def _pair(self, source: str, name: str, kind: str, result: str = "") -> str:
        """Round `source`, whose range is that of `name`, and give the name of the rounded array."""
        stem = f"{name}.{kind}"
        scale, zero = self._scale(name, kind)
        scales = [self._draft.weight(f"{stem}.scale", scale), self._draft.weight(f"{stem}.zero", zero)]
        codes = self._draft.node("QuantizeLinear", [source, *scales], f"{stem}.codes", self._domain)
        return self._draft.node("DequantizeLinear", [codes, *scales], result or f"{stem}.rounded", self._domain)

    def _close(self, node: Any, name: str, takers: Sequence[Any]) -> None:
        """Round what an integer operator gives, and let everybody take the rounded numbers."""
        kind = self._kinds[node.name]
        if name in self._draft.outputs:
            exact = f"{name}_QuantizeLinear_Input"  # as onnxruntime's tool names it
            node.output[list(node.output).index(name)] = exact
            rounded = self._pair(exact, name, kind, result=name)
        else:
            rounded = self._pair(name, name, kind)
        for taker in takers:
            wanted = self._kinds.get(taker.name, kind)
            self._draft.point(taker, name, rounded if wanted == kind else self._pair(rounded, name, wanted))

    def _fix(self, node: Any) -> None:
        """Round the constants that a node works on, but for weights and biases: each with one scale."""
        kind = self._kinds[node.name]
        numbers = DATA.get(node.op_type, len(node.input))
        for name in tuple(node.input)[:numbers]:
            if not self._draft.is_weight(name) or not self._draft.is_float(name):
                continue
            array = self._draft.array(name)
            stem = f"{name}.{kind}"
            scale, zero = scale_of(min(float(array.min()), 0.0), max(float(array.max()), 0.0), TYPES[kind])
            parts = _parts(rounded(array, scale, zero), scale, zero)
            inputs = [self._draft.weight(f"{stem}{end}", part) for end, part in parts]
            self._draft.point(node, name, self._draft.node("DequantizeLinear", inputs, f"{stem}.rounded", self._domain))

    def _weigh(self, node: Any) -> None:
        """Round the weights, a scale for each channel, and the bias with the scale of the products."""
        draft, name = self._draft, node.input[1]
        array = draft.array(name)
        axis = channel_axis(node, array.ndim)
        limit = NARROW if self._coding.reduce_range else WIDE
        # Another node may take the weight the other way round: its channels are others, and runtimes fuse without
        # looking at the axis.
        stem = f"{name}.s8" + ".axis0" * (axis == 0 and array.ndim == 2)
        scales = channel_scales(array, axis, limit)
        bias = self._bias(node, scales.size)
        if bias is not None:
            step = self._scale(node.input[0], self._kinds[node.name])[0]
            least = np.abs(bias.astype(np.float64)) / (float(step) * _INT32)
            if (scales < least).any():  # the bias would not fit INT32
                scales, stem = np.maximum(scales, least).astype(np.float32), f"{stem}.{node.name}"
            self._write_bias(node, bias, (scales * step).astype(np.float32))
        shape = [-1 if place == axis else 1 for place in range(array.ndim)]
        codes = channel_codes(array, scales.reshape(shape), limit)
        self._put_in(node, name, stem, codes, scales if axis is not None else scales.reshape(()), axis)

    def _write_bias(self, node: Any, bias: Array, steps: Array) -> None:
        whole = np.clip(np.rint(bias / steps.astype(np.float64)), -_INT32, _INT32).astype(np.int32)
        self._put_in(node, node.input[2], f"{node.input[2]}.{node.name}.s32", whole, steps, 0)

    def _bias(self, node: Any, channels: int) -> Array | None:
        """Give a bias that can be added in integers; None where there is none, or it stays in float."""
        if len(node.input) < 3 or not self._draft.is_weight(node.input[2]) or self._draft.is_weight(node.input[0]):
            return None
        array = self._draft.array(node.input[2])
        plain = all(entry.f == 1.0 for entry in node.attribute if entry.name in {"alpha", "beta"})
        return array if plain and array.shape == (channels,) else None

    def _put_in(self, node: Any, name: str, stem: str, codes: Array, scale: Array, axis: int | None) -> None:
        """Let a node take codes, restored, instead of a weight; zero has the code zero."""
        zero = np.zeros(scale.shape, codes.dtype)
        inputs = [self._draft.weight(stem + end, part) for end, part in _parts(codes, scale, zero)]
        along = {} if axis is None else {"axis": axis}
        domain = "" if codes.dtype == np.int32 else self._domain
        restored = self._draft.node("DequantizeLinear", inputs, f"{stem}.rounded", domain, **along)
        self._draft.point(node, name, restored)


def scale_of(low: float, high: float, kind: np.dtype[Any]) -> tuple[Array, Array]:
    """Give the step and the zero point that spread a range, in which zero lies, over all integers of a type.

    Args:
        low: the least number, 0 at most.
        high: the largest, 0 at least.
        kind: the integers' numpy type.

    Returns:
        The step, float32 (), and zero's code, of that type, ().
    """
    whole = np.iinfo(kind)
    step = (high - low) / (whole.max - whole.min)
    if step < np.finfo(np.float32).tiny:  # nothing but zeros, or as good as that
        step = 1.0
    zero = np.clip(np.rint(whole.min - low / step), whole.min, whole.max)
    return np.array(step, np.float32), np.array(zero, kind)


def rounded(array: Array, scale: Array, zero: Array) -> Array:
    """Give the codes of an array with one step and zero point."""
    whole = np.iinfo(zero.dtype)
    codes: Array = np.clip(np.rint(array / scale) + zero, whole.min, whole.max).astype(zero.dtype)
    return codes


def channel_axis(node: Any, rank: int) -> int | None:
    """Give the axis of a weight whose places are a node's channels; None where one scale has to do."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if any(entry.name == "transB" and entry.i for entry in node.attribute) else 1
    return 1 if rank == 2 else None


def channel_scales(array: Array, axis: int | None, limit: int) -> Array:
    """Give the step of each channel, so that its largest number has the code `limit`: float32 (channels,)."""
    others = tuple(place for place in range(array.ndim) if place != axis)
    most = np.abs(array).max(axis=others, initial=0)
    scales = (np.atleast_1d(most) / limit).astype(np.float32)
    return np.where(scales > 0, scales, np.float32(1))


def channel_codes(array: Array, scales: Array, limit: int) -> Array:
    """Give the S8 codes of a weight whose scales have been shaped to fit it."""
    return np.clip(np.rint(array / scales), -limit, limit).astype(np.int8)


def _parts(codes: Array, scale: Array, zero: Array) -> tuple[tuple[str, Array], ...]:
    return ("", codes), (".scale", scale), (".zero", zero)
