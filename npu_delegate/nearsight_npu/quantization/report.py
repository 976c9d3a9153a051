"""What quantizing changed: size, time and answers, measured on the two files side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.errors import QuantizationError, TargetLostError, one_line
from nearsight_npu.policy import plain
from nearsight_npu.quantization.latency import Timing, in_turn
from nearsight_npu.quantization.progress import Progress, counted, untold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.calibration import Samples
    from nearsight_npu.quantization.layers import LayerChange
    from nearsight_npu.quantization.pareto import Row
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.quantization.recalibration import Recalibration
    from nearsight_npu.quantization.verdict import Verdict
    from nearsight_npu.targets.target import Program

NOT_THE_TASK = "cosine is not the task metric: measure recall, AP or what your task counts, on your own data"
WORST = 3  # how many of the worst samples are named
_LOW_COSINE = 0.99
_LOW_CENTRED = 0.95
_ALIKE = 1e-4  # answers nearer to each other than this share of their length hardly depend on the input


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputChange:
    """How one output of the quantized model compares with the model's own.

    Attributes:
        output: its name.
        cosine: the least over the compared samples.
        mean_cosine: the mean over them.
        worst_sample: place of the sample with the least cosine, in the caller's order.
        centred: the cosine over all samples together after the model's mean answer is taken from both: a constant,
            which may look right to a plain cosine, is about 0 here. None with one sample, with answers of unlike
            shapes, and where the model's own answers hardly differ.
        max_abs_error: the largest difference of a single number.
        error_share: the root mean square of the differences, as a share of how far (root mean square) the model's own
            answers lie from their mean; None where `centred` is.
        sqnr_db: power of the model's answers over the power of what moved, in decibels, over all samples together; None
            where nothing moved, or there was nothing to move.
        worst_samples: places of the samples with the least cosine, in the caller's order, the worst first.
    """

    output: str
    cosine: float
    mean_cosine: float
    worst_sample: int
    centred: float | None
    max_abs_error: float
    error_share: float | None
    sqnr_db: float | None = None
    worst_samples: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationReport:
    """What was written, and how it differs from the model.

    Attributes:
        model: the file that was quantized.
        out: the file that was written.
        mode: "static", "dynamic", "weights", "half" or "mixed".
        method: how ranges were taken: "minmax", "percentile", "entropy" or "mse"; None where none were.
        percentile: the share of values, in percent, that ranges keep; None for other methods.
        reduce_range: whether weights keep to 7 bits, for x86 processors without VNNI.
        calibrated_on: number of samples that ranges were taken from.
        compared_on: number of samples that answers were compared on; 0 where the model would not run on random ones.
        compared_with: what these are: "held out", "calibration" (the same that ranges were taken from) or "random".
        bytes_before: size of the model.
        bytes_after: size of what was written.
        before: time of single runs of the model.
        after: the same of what was written, in turn with `before`; both None where nothing could be run.
        threads: threads of one run in both.
        outputs: how each output changed.
        integer_nodes: names of the operators that compute in integers.
        float_nodes: name -> kind of those that stayed in float.
        warnings: what to look at before using the file.
        target: where what was written ran for this report; the model itself ran on "cpu".
        activations: number type of static activations: "u8", "s8" or "u16"; None where none are static.
        bits: bits of weights that are integer while activations stay in float; None for other modes.
        plan: name of a group of operators -> what it became, for "mixed", "weights" and "half".
        verdict: what was lost, and whether that is inside what may be lost.
        recalibrated: what became of the outputs whose scores were to keep their meaning.
        layers: how each group's array changed, where that was asked for.
        pareto: what else could be had for more or less size and time, where that was asked for.
        remembered: whether the file was made earlier, of the same model, settings and samples; figures are always new.
    """

    model: str
    out: str
    mode: str
    method: str | None
    percentile: float | None
    reduce_range: bool
    calibrated_on: int
    compared_on: int
    compared_with: str
    bytes_before: int
    bytes_after: int
    before: Timing | None
    after: Timing | None
    threads: int
    outputs: tuple[OutputChange, ...]
    integer_nodes: tuple[str, ...]
    float_nodes: dict[str, str]
    warnings: tuple[str, ...]
    target: str = "cpu"
    activations: str | None = None
    bits: int | None = None
    plan: dict[str, str] = field(default_factory=dict)
    verdict: Verdict | None = None
    recalibrated: tuple[Recalibration, ...] = ()
    layers: tuple[LayerChange, ...] = ()
    pareto: tuple[Row, ...] = ()
    remembered: bool = False

    @property
    def ratio(self) -> float:
        """How many times smaller the file became; below 1 where it grew."""
        return self.bytes_before / self.bytes_after

    @property
    def worst(self) -> OutputChange | None:
        """The output with the least cosine; None where nothing was compared."""
        return min(self.outputs, key=lambda change: change.cosine, default=None)

    def to_dict(self) -> dict[str, object]:
        """Give the same, with `ratio`, as nested dictionaries and lists that `json.dumps` takes."""
        return {**{entry.name: plain(getattr(self, entry.name)) for entry in fields(self)}, "ratio": self.ratio}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the runs showed.

    Attributes:
        outputs: how each output changed.
        before: times of the model.
        after: times of the quantized model; both None where they would say nothing.
        wanted: the model's answers.
        given: the quantized model's.
    """

    outputs: tuple[OutputChange, ...]
    before: Timing | None
    after: Timing | None
    wanted: tuple[dict[str, Array], ...] = field(default=(), repr=False)
    given: tuple[dict[str, Array], ...] = field(default=(), repr=False)


def compare(
    before: Program,
    after: Program,
    samples: Samples,
    *,
    wanted: tuple[dict[str, Array], ...] = (),
    clocked: bool = True,
    told: OnProgress = untold,
) -> Comparison | None:
    """Run both models on the same samples, in turn, and compare answers and times.

    Args:
        before: the model.
        after: the quantized model.
        samples: what to run them on.
        wanted: the model's answers, where they are known already.
        clocked: whether to take times.
        told: takes what is being done.

    Returns:
        What was found; None where the model itself cannot run on random inputs.

    Raises:
        QuantizationError: if the model cannot run on a sample, or either gives numbers that are not finite.
    """
    names = tuple(port.name for port in before.outputs)
    wanted = wanted or answers_of(before, samples)
    if not wanted:
        return None
    running = counted(samples.compared, "running what was written", told, len(samples.compared))
    given = tuple(after.run(arrays, names) for arrays in running)
    outputs = tuple(_changed(name, wanted, given, samples.first_compared) for name in names)
    times: dict[str, Timing | None] = {"before": None, "after": None}
    if clocked:
        told(Progress(stage="timing both"))
        times = dict(zip(times, in_turn((before, after), samples.compared, names), strict=True))
    return Comparison(outputs=outputs, **times, wanted=wanted, given=given)


def answers_of(model: Program, samples: Samples, told: OnProgress = untold) -> tuple[dict[str, Array], ...]:
    """Run the model on the samples to compare on.

    Args:
        model: the model.
        samples: the samples.
        told: takes what is being done.

    Returns:
        Its answers; none where it cannot run on random inputs.

    Raises:
        QuantizationError: if it cannot run on one of the caller's samples.
    """
    names = tuple(port.name for port in model.outputs)
    answers: list[dict[str, Array]] = []
    running = counted(samples.compared, "running the model", told, len(samples.compared))
    for place, arrays in enumerate(running, samples.first_compared):
        try:
            answers.append(model.run(arrays, names))
        except (QuantizationError, TargetLostError, ValueError) as error:
            if samples.kind == "random":
                return ()
            which = "validation" if samples.kind == "validation" else "calibration"
            raise QuantizationError(
                f"{which} sample {place}: the model cannot run on it ({one_line(error)}); leave that sample out"
            ) from error
    return tuple(answers)


def _changed(
    name: str, wanted: Sequence[dict[str, Array]], given: Sequence[dict[str, Array]], first: int
) -> OutputChange:
    pairs = [(np.asarray(x[name]), np.asarray(y[name])) for x, y in zip(given, wanted, strict=True)]
    for who, side in (("the model", 1), ("the quantized model", 0)):
        odd = next((place for place, pair in enumerate(pairs, first) if not np.isfinite(pair[side]).all()), None)
        if odd is not None:
            raise QuantizationError(
                f"sample {odd}: output {name!r} of {who} holds numbers that are not finite; nothing was written; "
                "leave that sample out, or keep more in float with keep_float="
            )
    if any(x.shape != y.shape for x, y in pairs):
        raise QuantizationError(
            f"output {name!r} has another shape after quantizing; nothing was written; keep what makes it in float "
            "with keep_float="
        )
    cosines = [cosine_of(x, y) for x, y in _vectors(pairs)]
    power = sum(float(y @ y) for _, y in _vectors(pairs))
    moved = sum(float((x - y) @ (x - y)) for x, y in _vectors(pairs))
    centred, share = _centred(pairs, moved)
    return OutputChange(
        output=name,
        cosine=min(cosines),
        mean_cosine=float(np.mean(cosines)),
        worst_sample=first + int(np.argmin(cosines)),
        centred=centred,
        max_abs_error=max(float(np.abs(x - y).max(initial=0.0)) for x, y in _vectors(pairs)),
        error_share=share,
        sqnr_db=sqnr_of(power, moved),
        worst_samples=tuple(first + int(place) for place in np.argsort(cosines)[:WORST]),
    )


def sqnr_of(power: float, moved: float) -> float | None:
    """Give a power over another in decibels; None where one of them is nothing."""
    return 10 * math.log10(power / moved) if power > 0 and moved > 0 else None


def cosine_of(a: Array, b: Array) -> float:
    """Compare two vectors; both zero are the same, one zero is nothing like the other."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    if length == 0.0:
        return float(not a.any() and not b.any())
    return float(np.clip(a @ b / length, -1.0, 1.0))


def _vectors(pairs: Sequence[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """Give the pairs one after another as float64: all of them at once would take many times the answers' memory."""
    for x, y in pairs:
        yield np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()


def _centred(pairs: Sequence[tuple[Array, Array]], moved: float) -> tuple[float | None, float | None]:
    """Give the cosine of both answers less the model's mean, and the error over the spread of the model's answers."""
    if len(pairs) < 2 or len({y.shape for _, y in pairs}) > 1:
        return None, None
    mean = sum(y for _, y in _vectors(pairs)) / len(pairs)
    spread = power = own = both = 0.0
    for x, y in _vectors(pairs):
        given, wanted = x - mean, y - mean
        power += float(y @ y)
        spread += float(wanted @ wanted)
        own += float(given @ given)
        both += float(given @ wanted)
    if spread <= _ALIKE**2 * power:
        return None, None
    centred = float(np.clip(both / math.sqrt(spread * own), -1.0, 1.0)) if own else 0.0
    return centred, math.sqrt(moved / spread)


def growth(before: int, after: int, mode: str) -> tuple[str, ...]:
    """Say so where the file became no smaller.

    Args:
        before: bytes of the model.
        after: bytes of what was written.
        mode: "static" or "dynamic".

    Returns:
        One line, or none.
    """
    if after < before:
        return ()
    why = "; dynamic INT8 leaves convolutions in float, and weights stored in FP16 are written in FP32" * (
        mode == "dynamic"
    )
    remedy = (
        "give calibration= for static INT8"
        if mode == "dynamic"
        else "make more operators integer, or keep less in float"
    )
    return (f"the file became no smaller ({before / 1e6:.2f} MB -> {after / 1e6:.2f} MB){why}; {remedy}",)


def remarks(found: Comparison | None, samples: Samples, *, task: bool = False) -> tuple[str, ...]:
    """Say in words what the figures of a comparison ask to be looked at.

    Args:
        found: what the runs showed.
        samples: what they ran on.
        task: whether a task metric was measured, so that nobody has to be sent to measure one.

    Returns:
        A line each.
    """
    if found is None:
        return ("the model does not run on random inputs, so nothing was compared or timed; give calibration=",)
    said: list[str] = []
    total = len(found.outputs)
    low = sorted((change for change in found.outputs if change.cosine < _LOW_COSINE), key=lambda c: c.cosine)
    if low:
        said.append(
            f"{len(low)} of {total} outputs have a cosine below {_LOW_COSINE} on some sample; the worst, "
            f"{low[0].output!r}, {low[0].cosine:z.4f} on sample {low[0].worst_sample}; the first or last operators in "
            "float (keep_float=), or another method=, may mend it"
        )
    flat = [change for change in found.outputs if change.centred is not None and change.centred < _LOW_CENTRED]
    if flat:
        said.append(
            f"{len(flat)} of {total} outputs tell samples apart less well than the model's: {flat[0].output!r} has "
            f"centred cosine {flat[0].centred:z.3f} (below {_LOW_CENTRED})"
        )
    unknown = [change.output for change in found.outputs if change.centred is None]
    if unknown:
        said.append(f"output {unknown[0]!r} has no centred cosine (see OutputChange), so its cosine says little")
    if found.before and found.after and found.after.median_ms > found.before.median_ms:
        said.append("the quantized model is no faster on this machine")
    if samples.kind == "random":
        said.append("compared on random inputs, which are not your data; give calibration=")
    elif samples.kind == "calibration":
        said.append("compared on the samples that ranges were taken from (20 or more leave some to hold out)")
    return tuple(said) if task else (*said, NOT_THE_TASK)
