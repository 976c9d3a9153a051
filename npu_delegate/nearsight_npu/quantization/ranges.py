"""The numbers that flow through a graph: their ends and histograms over samples, and which range to keep of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.errors import QuantizationError
from nearsight_npu.footprint import release
from nearsight_npu.quantization.source import floats, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.source import Prepared

    Runs: TypeAlias = Callable[[Sequence[str]], Iterator[list[Array]]]  # names -> their arrays, sample after sample

BINS = 2048
_STEPS = 128  # candidates for each end of a range
_MOST_BYTES = 128 * 1024 * 1024  # of arrays that one run hands out
_QUIET = 4  # onnxruntime's log severity "fatal": what it would log is raised as well
_NOTHING = 1e-12  # share of numbers that stands for none, where a logarithm is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What was seen of one array.

    Attributes:
        low: the least number.
        high: the largest.
        counts: (BINS,) int64: how many numbers fell into each of as many equal parts of low to high; None where only
            the ends were taken.
    """

    low: float
    high: float
    counts: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What was seen of a graph's arrays, taken once and used for every file that is written from it.

    Attributes:
        spreads: array -> what was seen of it; not those that were empty or held numbers that are not finite.
        samples: how many samples it was taken from.
    """

    spreads: Mapping[str, Spread]
    samples: int
    _kept: dict[tuple[str, str, float, int], tuple[float, float]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def of(self, name: str, method: str, percentile: float, levels: int) -> tuple[float, float]:
        """Give the range to keep of an array; zero always lies in it.

        Args:
            name: the array.
            method: "minmax" keeps all; "percentile" the share named, cutting both ends alike; "mse" what gives the
                least square error of rounding and cutting together; "entropy" what changes the histogram least.
            percentile: the share that "percentile" keeps, in percent.
            levels: how many values the integers have.

        Returns:
            Its low and high end.

        Raises:
            QuantizationError: if only the ends were taken and the method needs more.
        """
        key = (name, method, percentile if method == "percentile" else 100.0, levels)
        if key not in self._kept:
            low, high = self._cut(name, method, percentile, levels)
            self._kept[key] = min(low, 0.0), max(high, 0.0)
        return self._kept[key]

    def _cut(self, name: str, method: str, percentile: float, levels: int) -> tuple[float, float]:
        spread = self.spreads[name]
        if method == "minmax" or not spread.high > spread.low:
            return spread.low, spread.high
        if spread.counts is None:
            raise QuantizationError(
                f"method={method!r} was asked for; only the ends of {name!r} are known; take_ranges(histograms=True)"
            )
        if method == "percentile":
            return by_share(spread, percentile)
        if method == "mse":
            return by_error(spread, levels)
        return by_entropy(spread, levels)


def by_share(spread: Spread, percentile: float) -> tuple[float, float]:
    """Keep a share of the numbers, in percent, and cut both ends alike."""
    edges, counts = _edges(spread), _counts(spread)
    share = np.cumsum(counts) / counts.sum()
    cut = (1 - percentile / 100) / 2
    first = int(np.searchsorted(share, cut, side="right"))
    last = int(np.searchsorted(share, 1 - cut, side="left"))
    return float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1])


def by_error(spread: Spread, levels: int) -> tuple[float, float]:
    """Keep the range with the least square error.

    A number inside is rounded, which costs a twelfth of a step's square on average (a number near zero nothing: zero
    has a code); one outside is cut, which costs the square of its distance.
    """
    edges, counts = _edges(spread), _counts(spread).astype(np.float64)
    middle = (edges[:-1] + edges[1:]) / 2
    lows, highs = _candidates(spread.low), _candidates(spread.high)
    cut_low = np.array([float((counts * np.maximum(low - middle, 0) ** 2).sum()) for low in lows])
    cut_high = np.array([float((counts * np.maximum(middle - high, 0) ** 2).sum()) for high in highs])
    near_zero = (edges[:-1] <= 0) & (edges[1:] >= 0)
    many = counts[~near_zero].sum()
    steps = (highs[None, :] - lows[:, None]) / (levels - 1)
    cost = cut_low[:, None] + cut_high[None, :] + many * steps**2 / 12
    cost[steps <= 0] = np.inf
    low, high = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return float(lows[low]), float(highs[high])


def by_entropy(spread: Spread, levels: int) -> tuple[float, float]:
    """Keep the range whose rounded histogram tells least apart from the whole one (Kullback-Leibler divergence).

    Numbers outside count as its ends. Tried are all numbers within some distance of zero.
    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017 (there for positive numbers only).
    """
    edges, counts = _edges(spread), _counts(spread)
    zero = int(np.searchsorted(edges, 0.0, side="right")) - 1
    reach = max(-spread.low, spread.high)
    best, kept = np.inf, (spread.low, spread.high)
    for distance in reach * np.arange(_STEPS, 0, -1) / _STEPS:
        first = int(np.searchsorted(edges, -distance, side="right")) - 1 if spread.low < -distance else 0
        last = int(np.searchsorted(edges, distance, side="left")) if spread.high > distance else BINS
        if last - max(first, 0) <= levels:  # not a histogram's place to tell
            break
        divergence = _divergence(counts, first, last, levels, zero)
        if divergence < best:
            best, kept = divergence, (float(edges[first]), float(edges[last]))
    return kept


def _divergence(counts: Array, first: int, last: int, levels: int, zero: int) -> float:
    """Compare the histogram of a range, cut numbers standing at its ends, with what rounding leaves of it.

    The ends and zero have codes of their own, so what stands there (what a Relu or Clip cut, often most of all) is not
    spread over its neighbours.
    """
    inside = counts[first:last].astype(np.float64)
    whole = inside.copy()
    whole[0] += counts[:first].sum()
    whole[-1] += counts[last:].sum()
    groups = np.arange(inside.size) * levels // inside.size
    for own, place in enumerate((0, inside.size - 1, zero - first)):
        if 0 <= place < inside.size:
            groups[place] = levels + own
    filled = inside > 0
    sums = np.bincount(groups, inside, levels + 3)
    sizes = np.bincount(groups, filled, levels + 3)
    rounded = np.where(filled, (sums / np.maximum(sizes, 1))[groups], 0)
    p = whole / whole.sum()
    q = np.maximum(rounded / max(rounded.sum(), 1), _NOTHING)
    return float((p[whole > 0] * np.log(p[whole > 0] / q[whole > 0])).sum())


def _candidates(end: float) -> Array:
    """Give the ends to try, from the furthest; zero has to lie inside."""
    return end * np.arange(_STEPS, 0, -1) / _STEPS


def _edges(spread: Spread) -> Array:
    return np.linspace(spread.low, spread.high, BINS + 1)


def _counts(spread: Spread) -> Array:
    return np.zeros(BINS, np.int64) if spread.counts is None else spread.counts


def take_ranges(
    prepared: Prepared,
    samples: Sequence[Mapping[str, Array]],
    *,
    histograms: bool = True,
    names: Collection[str] | None = None,
) -> Ranges:
    """Run the graph on samples and look at the float arrays in it.

    Arrays are looked at in parts that fit into memory together. The samples may be of unlike shapes.

    Args:
        prepared: the graph.
        samples: inputs for single runs.
        histograms: whether to count numbers too, which takes a second pass; "minmax" needs none.
        names: the arrays to look at; None means all.

    Returns:
        What was seen.

    Raises:
        QuantizationError: if there is no sample, or the graph cannot run on one.
    """
    import onnx

    if not samples:
        raise QuantizationError("ranges were to be taken; there is no sample; give about 100 inputs of single runs")
    graph = onnx.load(str(prepared.path)).graph
    given = {value.name for value in graph.input}
    known = [name for name in dict.fromkeys(floats(graph)) if name not in prepared.constants]
    del graph  # as large as the file
    wanted = [name for name in known if names is None or name in names]
    spreads = _seen(_given(samples), [name for name in wanted if name in given], histograms=histograms)
    for part in _parts([name for name in wanted if name not in given], prepared, _lengths(prepared, samples)):
        with refused("ranges were to be taken; the model cannot run on a sample", "leave that sample out"):
            spreads |= _seen(_runs(prepared.path, part, samples), part, histograms=histograms)
    release()
    return Ranges(spreads=spreads, samples=len(samples))


def _lengths(prepared: Prepared, samples: Sequence[Mapping[str, Array]]) -> float:
    """Tell how many times as large as a sample with free lengths of one the largest sample is."""
    sizes = (
        array.nbytes / max(prepared.bytes_of.get(name, array.nbytes), 1)
        for sample in samples
        for name, array in sample.items()
    )
    return max(sizes, default=1.0)


def _parts(names: Sequence[str], prepared: Prepared, lengths: float) -> Iterator[list[str]]:
    """Cut a list of arrays so that each part holds no more than memory is meant to."""
    part: list[str] = []
    size = 0.0
    for name in names:
        own = prepared.bytes_of.get(name, 0) * max(lengths, 1)
        if part and size + own > _MOST_BYTES:
            yield part
            part, size = [], 0.0
        part.append(name)
        size += own
    if part:
        yield part


def _given(samples: Sequence[Mapping[str, Array]]) -> Runs:
    return lambda names: ([sample[name] for name in names] for sample in samples)


def _runs(path: Path, part: Sequence[str], samples: Sequence[Mapping[str, Array]]) -> Runs:
    """Open a session that hands out the arrays of a part; it reads a file, not bytes that would lie beside it."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    model = onnx.load(str(path))
    graph = model.graph
    missing = [name for name in part if name not in {value.name for value in graph.output}]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in missing)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    tapped = path.with_name("tapped.onnx")
    onnx.save(model, str(tapped))
    del model, graph
    session = onnxruntime.InferenceSession(str(tapped), options, providers=["CPUExecutionProvider"])
    return lambda names: (session.run(list(names), dict(sample)) for sample in samples)


def _seen(runs: Runs, names: Sequence[str], *, histograms: bool) -> dict[str, Spread]:
    """Go through the samples once for the ends, and once more for the histograms."""
    ends = dict.fromkeys(names, (np.inf, -np.inf))
    for arrays in runs(names):
        for name, array in zip(names, arrays, strict=True):
            if array.size:
                low, high = ends[name]
                ends[name] = float(np.minimum(low, array.min())), float(np.maximum(high, array.max()))
    found = {name: Spread(low=low, high=high) for name, (low, high) in ends.items() if np.isfinite([low, high]).all()}
    if not histograms or not found:
        return found
    counts = {name: np.zeros(BINS, np.int64) for name in found}
    for arrays in runs(list(found)):
        for (name, spread), array in zip(found.items(), arrays, strict=True):
            counts[name] += _histogram(array, spread)
    return {name: Spread(low=spread.low, high=spread.high, counts=counts[name]) for name, spread in found.items()}


def _histogram(array: Array, spread: Spread) -> Array:
    if not spread.high > spread.low:
        return np.bincount([0], minlength=BINS) * array.size
    places = (array.reshape(-1) - np.float32(spread.low)) * np.float32(BINS / (spread.high - spread.low))
    return np.bincount(np.minimum(places.astype(np.intp), BINS - 1), minlength=BINS)


def require(ranges: Ranges, names: Collection[str]) -> None:
    """Refuse to write what no range is known of.

    Raises:
        QuantizationError: if that of one is missing.
    """
    absent = [name for name in names if name not in ranges.spreads]
    if absent:
        raise QuantizationError(
            f"{len(absent)} arrays were to become integer; no finite range of {absent[0]!r} is known; take ranges from "
            "samples on which the model gives finite numbers there, or keep what gives or takes it in float with "
            "keep_float="
        )
