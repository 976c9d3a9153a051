"""Static INT8: ranges from samples, integer weights and activations, written as QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.calibration import FEWEST, Reader
from nearsight_npu.quantization.source import quiet, refused
from nearsight_npu.targets.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.settings import Settings
    from nearsight_npu.quantization.source import Node, Prepared

# Chosen where their weights are constants.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Chosen where all that they take comes from chosen operators. So the sums of a convolutional net become integer, and
# those on a transformer's residual stream, which want more than eight bits, do not.
FOLLOWING = frozenset({"Clip", "Relu", "MaxPool", "Add", "Concat"})
LIMITERS = frozenset({"Clip", "Relu"})
_MOST_OF_MEMORY = 0.5
_REMEDY = "keep_float=(...) the operator that it names, or export the model with known shapes"


def choose(prepared: Prepared, kinds: Collection[str] | None, keep_float: Sequence[str]) -> frozenset[str]:
    """Choose the operators that become integer.

    Softmax, normalisation and whatever else is not named above stays in float unless `kinds` names it.

    Args:
        prepared: the graph.
        kinds: operators to take, wherever they stand; None chooses by the rules above.
        keep_float: beginnings of names that stay in float.

    Returns:
        Names of operators.
    """
    free = [node for node in prepared.nodes if not node.name.startswith(tuple(keep_float))]
    if kinds is not None:
        return frozenset(node.name for node in free if node.kind in kinds)
    consumed = {name: [other for other in prepared.nodes if name in other.inputs] for name in _joins(free)}
    names: set[str] = set()
    integer: set[str] = set()
    for node in free:
        if node.kind in WEIGHTED:
            taken = len(node.inputs) > 1 and node.inputs[1] in prepared.constants
        else:
            taken = node.kind in FOLLOWING and integer.issuperset(_data(node))
        if node.kind == "Concat" and taken:
            # At the end of a graph it would only force one scale on what need not share one.
            taken = any(other.kind in WEIGHTED | FOLLOWING for other in consumed[node.outputs[0]])
        if taken:
            names.add(node.name)
            integer.update(node.outputs)
    return frozenset(names)


def _joins(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(node.outputs[0] for node in nodes if node.kind == "Concat")


def _data(node: Node) -> tuple[str, ...]:
    """Give the arrays an operator works on; bounds of a Clip are none, a constant summand is one."""
    return node.inputs[:1] if node.kind in LIMITERS else tuple(name for name in node.inputs if name)


def parted_limiters(prepared: Prepared, chosen: Collection[str]) -> tuple[str, ...]:
    """Name the operators that are chosen while the Clip or Relu behind them is not.

    Their range is taken before it is limited: a convolution's then is many times as wide as what passes on.
    """
    makers = {output: node for node in prepared.nodes for output in node.outputs}
    return tuple(
        makers[node.inputs[0]].name
        for node in prepared.nodes
        if node.kind in LIMITERS
        and node.name not in chosen
        and node.inputs[0] in makers
        and makers[node.inputs[0]].name in chosen
    )


def narrow_weights() -> bool:
    """Say whether weights should keep to 7 bits here.

    x86 processors without VNNI add pairs of products in 16 bits, where U8 x S8 can saturate.
    """
    return platform.machine().lower() in {"x86_64", "amd64"} and not Machine().offers("avx512_vnni", "avx_vnni")


def write_static(
    prepared: Prepared,
    target: Path,
    samples: Sequence[dict[str, Array]],
    chosen: Collection[str],
    settings: Settings,
) -> tuple[str, ...]:
    """Take ranges and write the integer graph: activations U8, weights S8 with a scale per channel.

    Args:
        prepared: the graph.
        target: where to write.
        samples: what to take ranges from.
        chosen: names of the operators that become integer.
        settings: the method, its percentile, and whether weights keep to 7 bits.

    Returns:
        What onnxruntime's tool warns of.

    Raises:
        QuantizationError: if there are too few samples, too little memory, or the tool refuses.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if len(samples) < FEWEST:
        raise QuantizationError(
            f"static INT8 was asked for with {len(samples)} samples; at least {FEWEST} are needed to know a range, "
            "and 100 are better; give more, or mode='dynamic'"
        )
    kinds = {node.kind for node in prepared.nodes if node.name in chosen}
    by_share = settings.method == "percentile"
    if by_share:
        _check_histograms(prepared, samples, kinds)
    with (
        refused(f"{settings.source.name} was to be made static INT8; onnxruntime's tool gave up", _REMEDY),
        quiet() as heard,
    ):
        quantize_static(
            str(prepared.path),
            str(target),
            Reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(kinds),
            per_channel=True,
            reduce_range=settings.reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile if by_share else CalibrationMethod.MinMax,
            nodes_to_exclude=[node.name for node in prepared.nodes if node.name not in chosen],
            extra_options={"CalibPercentile": settings.kept_share} if by_share else {},
        )
    return tuple(dict.fromkeys(heard))


def _check_histograms(prepared: Prepared, samples: Sequence[dict[str, Array]], kinds: set[str]) -> None:
    """Refuse what a histogram cannot be made of: unlike shapes, or more values than memory holds."""
    shapes = {tuple(array.shape for array in sample.values()) for sample in samples}
    if len(shapes) > 1:
        raise QuantizationError(
            f"method='percentile' was asked for with samples of {len(shapes)} unlike shapes; its histograms need "
            "samples of one shape; pad them to one, or use method='minmax'"
        )
    touched = {name for node in prepared.nodes if node.kind in kinds for name in (*node.inputs, *node.outputs)}
    # The tool keeps every value of every sample, and copies one array's values at a time.
    needed = len(samples) * sum(prepared.bytes_of.get(name, 0) for name in touched - prepared.constants)
    free = Machine().free_bytes()
    if free is not None and needed > _MOST_OF_MEMORY * free:
        raise QuantizationError(
            f"method='percentile' was asked for with {len(samples)} samples; it keeps about {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; use fewer with samples=..., or method='minmax'"
        )
