"""What quantizing changed: size, time and answers, measured on the two files side by side."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.errors import QuantizationError, TargetLostError, one_line
from nearsight_npu.policy import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.calibration import Samples
    from nearsight_npu.targets.target import Program

NOT_THE_TASK = "cosine is not the task metric: measure recall, AP or what your task counts, on your own data"
_LOW_COSINE = 0.99
_LOW_CENTRED = 0.95
_ALIKE = 1e-4  # answers nearer to each other than this share of their length hardly depend on the input
_FEWEST_ROUNDS, _MOST_ROUNDS = 7, 50
_SECONDS = 3.0  # for timing both models together, beyond the fewest rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long single runs took, in milliseconds.

    Attributes:
        median_ms: half of the runs took no longer.
        low_ms: a tenth of them took no longer.
        high_ms: nine tenths of them took no longer.
        runs: how many were timed.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int


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
    """

    output: str
    cosine: float
    mean_cosine: float
    worst_sample: int
    centred: float | None
    max_abs_error: float
    error_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationReport:
    """What was written, and how it differs from the model.

    Attributes:
        model: the file that was quantized.
        out: the file that was written.
        mode: "static" or "dynamic".
        method: how ranges were taken: "minmax" or "percentile"; None for dynamic.
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
        return {**{field.name: plain(getattr(self, field.name)) for field in fields(self)}, "ratio": self.ratio}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What the runs showed.

    Attributes:
        outputs: how each output changed.
        before: times of the model.
        after: times of the quantized model.
    """

    outputs: tuple[OutputChange, ...]
    before: Timing
    after: Timing


def compare(before: Program, after: Program, samples: Samples) -> Comparison | None:
    """Run both models on the same samples, in turn, and compare answers and times.

    Args:
        before: the model.
        after: the quantized model.
        samples: what to run them on.

    Returns:
        What was found; None where the model itself cannot run on random inputs.

    Raises:
        QuantizationError: if the model cannot run on a sample, or either gives numbers that are not finite.
    """
    names = tuple(port.name for port in before.outputs)
    wanted: list[dict[str, Array]] = []
    for place, arrays in enumerate(samples.compared, samples.first_compared):
        try:
            wanted.append(before.run(arrays, names))
        except (QuantizationError, TargetLostError, ValueError) as error:
            if samples.kind == "random":
                return None
            raise QuantizationError(
                f"calibration sample {place}: the model cannot run on it ({one_line(error)}); leave that sample out"
            ) from error
    given = [after.run(arrays, names) for arrays in samples.compared]
    outputs = tuple(_changed(name, wanted, given, samples.first_compared) for name in names)
    return Comparison(outputs=outputs, **_times(before, after, samples.compared, names))


def _times(
    before: Program, after: Program, samples: Sequence[dict[str, Array]], names: tuple[str, ...]
) -> dict[str, Timing]:
    """Time single runs of both in turn, and which goes first in turn too, so that a busy moment meets both."""
    spent: dict[str, list[float]] = {"before": [], "after": []}
    begin = time.perf_counter()
    for turn in range(_MOST_ROUNDS):
        if turn >= _FEWEST_ROUNDS and time.perf_counter() - begin > _SECONDS:
            break
        pair = [("before", before), ("after", after)]
        for key, program in pair if turn % 2 else reversed(pair):
            start = time.perf_counter()
            program.run(samples[turn % len(samples)], names)
            spent[key].append((time.perf_counter() - start) * 1e3)
    return {key: _timing(times_ms) for key, times_ms in spent.items()}


def _timing(times_ms: list[float]) -> Timing:
    low, median, high = np.percentile(times_ms, (10, 50, 90))
    return Timing(median_ms=float(median), low_ms=float(low), high_ms=float(high), runs=len(times_ms))


def _changed(
    name: str, wanted: Sequence[dict[str, Array]], given: Sequence[dict[str, Array]], first: int
) -> OutputChange:
    a = [np.asarray(answers[name], np.float64).ravel() for answers in given]
    b = [np.asarray(answers[name], np.float64).ravel() for answers in wanted]
    for who, answers in (("the model", b), ("the quantized model", a)):
        odd = next((place for place, answer in enumerate(answers, first) if not np.isfinite(answer).all()), None)
        if odd is not None:
            raise QuantizationError(
                f"sample {odd}: output {name!r} of {who} holds numbers that are not finite; nothing was written; "
                "leave that sample out, or keep_float=(...) more"
            )
    if any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        raise QuantizationError(
            f"output {name!r} has another shape after quantizing; nothing was written; keep_float=(...) what makes it"
        )
    cosines = [_cosine(x, y) for x, y in zip(a, b, strict=True)]
    centred, share = _centred(a, b)
    return OutputChange(
        output=name,
        cosine=min(cosines),
        mean_cosine=float(np.mean(cosines)),
        worst_sample=first + int(np.argmin(cosines)),
        centred=centred,
        max_abs_error=max(float(np.abs(x - y).max(initial=0.0)) for x, y in zip(a, b, strict=True)),
        error_share=share,
    )


def _cosine(a: Array, b: Array) -> float:
    """Compare two vectors; both zero are the same, one zero is nothing like the other."""
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    if length == 0.0:
        return float(not a.any() and not b.any())
    return float(np.clip(a @ b / length, -1.0, 1.0))


def _centred(a: list[Array], b: list[Array]) -> tuple[float | None, float | None]:
    if len(b) < 2 or len({answer.shape for answer in b}) > 1:
        return None, None
    given, wanted = np.stack(a), np.stack(b)
    mean = wanted.mean(axis=0)
    spread = float(np.linalg.norm(wanted - mean))
    if spread <= _ALIKE * float(np.linalg.norm(wanted)):
        return None, None
    return _cosine((given - mean).ravel(), (wanted - mean).ravel()), float(np.linalg.norm(given - wanted)) / spread


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
    remedy = "give calibration= for static INT8" if mode == "dynamic" else "take more kinds, or keep less in float"
    return (f"the file became no smaller ({before / 1e6:.2f} MB -> {after / 1e6:.2f} MB){why}; {remedy}",)


def remarks(found: Comparison | None, samples: Samples) -> tuple[str, ...]:
    """Say in words what the figures of a comparison ask to be looked at."""
    if found is None:
        return ("the model does not run on random inputs, so nothing was compared or timed; give calibration=",)
    said: list[str] = []
    total = len(found.outputs)
    low = sorted((change for change in found.outputs if change.cosine < _LOW_COSINE), key=lambda c: c.cosine)
    if low:
        said.append(
            f"{len(low)} of {total} outputs have a cosine below {_LOW_COSINE} on some sample; the worst, "
            f"{low[0].output!r}, {low[0].cosine:.4f} on sample {low[0].worst_sample}; keep_float=(...) the first or "
            "last operators, or another method, may mend it"
        )
    flat = [change for change in found.outputs if change.centred is not None and change.centred < _LOW_CENTRED]
    if flat:
        said.append(
            f"{len(flat)} of {total} outputs tell samples apart less well than the model's: {flat[0].output!r} has "
            f"centred cosine {flat[0].centred:.3f} (below {_LOW_CENTRED})"
        )
    unknown = [change.output for change in found.outputs if change.centred is None]
    if unknown:
        said.append(f"output {unknown[0]!r} has no centred cosine (see OutputChange), so its cosine says little")
    if found.after.median_ms > found.before.median_ms:
        said.append("the quantized model is no faster on this machine")
    if samples.kind == "random":
        said.append("compared on random inputs, which are not your data; give calibration=")
    elif samples.kind == "calibration":
        said.append("compared on the samples that ranges were taken from (20 or more leave some to hold out)")
    return (*said, NOT_THE_TASK)
