"""Where in the graph answers began to move: each group of operators compared with the model, on the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization.report import WORST, cosine_of, sqnr_of
from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.calibration import Samples
    from nearsight_npu.quantization.plan import Group
    from nearsight_npu.quantization.source import Prepared

_MOST_BYTES = 256 * 1024 * 1024  # of arrays that one run hands out


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """How the array that a group of operators gives compares with the same array of the model.

    What moved in front of the group is in it too: the figures say what reached this place, not what happened here.

    Attributes:
        group: name of the group's first operator.
        kind: "conv", "matmul" or "lookup".
        precision: what the group became, such as "a8w8"; empty where no plan says so.
        array: the array that was looked at.
        cosine: the least over the samples.
        mean_cosine: the mean over them.
        sqnr_db: power of the model's array over the power of what moved, in decibels, over all samples together; None
            where nothing moved, or there was nothing to move.
        worst_samples: places of the samples that moved most, in the caller's order, the worst first.
    """

    group: str
    kind: str
    precision: str
    array: str
    cosine: float
    mean_cosine: float
    sqnr_db: float | None
    worst_samples: tuple[int, ...]


def compare_layers(
    prepared: Prepared,
    written: Path,
    groups: Sequence[Group],
    samples: Samples,
    folder: Path,
    *,
    plan: Mapping[str, str] | None = None,
    threads: int = 1,
) -> tuple[LayerChange, ...]:
    """Run both graphs with the arrays between their groups handed out.

    Args:
        prepared: the model.
        written: what it became.
        groups: the model's groups.
        samples: what to run on.
        folder: where graphs may be written meanwhile.
        plan: what each group became, for the report.
        threads: threads of one run.

    Returns:
        One entry for each group whose array is in both graphs, in the graph's order. An array between
        DequantizeLinear and QuantizeLinear is looked at behind them.
    """
    import onnx

    model, other = onnx.load(str(prepared.path)), onnx.load(str(written))
    pairs = list(_pairs(prepared, model.graph, other.graph, groups))
    found: list[LayerChange] = []
    for part in _parts(pairs, prepared):
        taps = _tapped(model, [here for _, here, _ in part], folder / "model.onnx")
        others = _tapped(other, [there for _, _, there in part], folder / "other.onnx")
        programs = [CpuTarget().compile(path, threads) for path in (taps, others)]
        names = tuple({here: None for _, here, _ in part}), tuple({there: None for _, _, there in part})
        gathered: dict[str, _Gathered] = {group.name: _Gathered() for group, _, _ in part}
        for arrays in samples.compared:
            wanted, given = (program.run(arrays, own) for program, own in zip(programs, names, strict=True))
            for group, here, there in part:
                gathered[group.name].add(wanted[here], given[there])
        for group, here, _ in part:
            precision = (plan or {}).get(group.name, "")
            found.append(gathered[group.name].change(group, here, precision, samples.first_compared))
    return tuple(found)


class _Gathered:
    """What is kept of an array while the samples go by."""

    def __init__(self) -> None:
        self._cosines: list[float] = []
        self._power: list[float] = []
        self._moved: list[float] = []

    def add(self, wanted: Array, given: Array) -> None:
        a, b = (np.asarray(array, np.float64).ravel() for array in (given, wanted))
        self._cosines.append(cosine_of(a, b))
        self._power.append(float(b @ b))
        self._moved.append(float((a - b) @ (a - b)))

    def change(self, group: Group, array: str, precision: str, first: int) -> LayerChange:
        shares = [moved / power if power else moved for moved, power in zip(self._moved, self._power, strict=True)]
        return LayerChange(
            group=group.name,
            kind=group.kind,
            precision=precision,
            array=array,
            cosine=min(self._cosines),
            mean_cosine=float(np.mean(self._cosines)),
            sqnr_db=sqnr_of(sum(self._power), sum(self._moved)),
            worst_samples=tuple(first + int(place) for place in np.argsort(shares)[::-1][:WORST]),
        )


def _pairs(prepared: Prepared, model: Any, other: Any, groups: Sequence[Group]) -> Iterator[tuple[Group, str, str]]:
    """Find for each group the last of its arrays that both graphs have, and its name in either."""
    outputs = {node.name: node.outputs for node in prepared.nodes}
    floating, present = _floating(model), {name for node in other.node for name in node.output}
    takers = {name: node for node in other.node for name in node.input}
    for group in groups:
        for name in (name for node in reversed(group.nodes) for name in outputs.get(node, ())):
            if name in floating and name in present:
                yield group, name, _restored(name, takers)
                break


def _restored(name: str, takers: Mapping[str, Any]) -> str:
    """Give the name of an array behind the QuantizeLinear and DequantizeLinear that take it, if there are any."""
    stored = takers.get(name)
    if stored is None or stored.op_type != "QuantizeLinear":
        return name
    restored = takers.get(stored.output[0])
    return str(restored.output[0]) if restored is not None and restored.op_type == "DequantizeLinear" else name


def _floating(graph: Any) -> set[str]:
    from onnx import TensorProto

    values = (*graph.value_info, *graph.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}


def _parts(pairs: Sequence[tuple[Group, str, str]], prepared: Prepared) -> Iterator[list[tuple[Group, str, str]]]:
    """Cut the list so that the arrays of one part fit into memory together."""
    part: list[tuple[Group, str, str]] = []
    size = 0
    for pair in pairs:
        own = 2 * prepared.bytes_of.get(pair[1], 0)
        if part and size + own > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(pair)
        size += own
    if part:
        yield part


def _tapped(model: Any, names: Sequence[str], path: Path) -> Path:
    """Write a graph that hands out these arrays too."""
    import onnx
    from onnx import TensorProto, helper

    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    there = {value.name for value in seen.graph.output}
    more = [name for name in dict.fromkeys(names) if name not in there]
    seen.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in more)
    onnx.save(seen, str(path))
    return path
