"""Proof at load: a graph answers its golden set on this very machine before anybody relies on it.

Each comparison catches what the others let pass:

- finite numbers and the golden shapes: a broken kernel, the wrong file;
- cosine of each answer to the golden one: noise, scrambled or missing parts;
- size, as a factor to the golden one (cosine does not see it): a lost scale;
- centred cosine, the golden mean taken from both: where all answers share a large part (they often do), a constant
  looks right to a plain cosine and is nothing here;
- spread: answers to different inputs may not lie much closer together than the golden ones;
- order: partners (texts for a picture) that the golden answers tell clearly apart keep their order;
- the same in one batch, where the graph takes batches of any length.

The time of a run is recorded, and flagged where it cannot be right; it never fails a proof, since a busy machine is
not a broken one.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.arrays import admitted, chosen
from nearsight_npu.errors import InputMismatchError, TargetLostError, one_line
from nearsight_npu.golden import Floor
from nearsight_npu.policy import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.golden import Golden
    from nearsight_npu.targets.target import Program

RULES = 1  # raised when a check or a default floor changes, so that older proofs are made again
_SPREAD_KEPT = 0.5  # answers keep at least this share of the golden answers' distance from each other
_SIZE_FACTOR = 1.25  # an answer's length may differ from the golden one's by this factor
_CLEAR_GAP = 0.1  # partners count as told apart if their scores differ by this share of the sample's score range
_AGREEING = 0.95  # between two targets on one file; rounding of INT8 leaves .99, wrong UINT16 kernels .4 (seen)
_ALIKE = 1e-9  # golden answers closer together than this do not depend on the input: nothing to centre
_TOO_QUICK_MS, _TOO_SLOW_MS = 0.002, 10_000.0
_LATENCY_FACTOR = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one output compares with the golden one.

    Attributes:
        output: its name.
        cosine: the least over the samples.
        centred: over all samples together, the golden mean taken from both; None where golden answers are all alike.
        spread: mean cosine between answers to different inputs.
        golden_spread: the same of the golden answers.
        size: the largest factor, up or down, between an answer's length and the golden one's.
    """

    output: str
    cosine: float
    centred: float | None
    spread: float
    golden_spread: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofReport:
    """What a proof found.

    Attributes:
        passed: whether the graph may be used.
        reason: why not, in one line; empty where it passed.
        name: what the caller calls the model.
        target: where it ran.
        precision: whose floor was applied.
        model_hash: SHA-256 of the model file.
        golden_hash: SHA-256 of the golden set.
        versions: the libraries and the chip it holds for.
        findings: one per golden output.
        order: share of clearly separated partners in the golden order; None where no order was checked.
        latency_ms: median time of one run, in milliseconds.
        flags: what looks odd without failing the proof.
        proven_at: when, as ISO 8601 in UTC.
        remembered: whether this is the result of an earlier run.
    """

    passed: bool
    reason: str
    name: str
    target: str
    precision: str
    model_hash: str
    golden_hash: str
    versions: Mapping[str, str]
    findings: tuple[Finding, ...]
    order: float | None
    latency_ms: float | None
    flags: tuple[str, ...]
    proven_at: str
    remembered: bool = False

    def to_dict(self) -> dict[str, object]:
        """Give the same as nested dictionaries and lists that `json.dumps` takes."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    def floor(self) -> Floor:
        """Suggest what to ask of this precision elsewhere: three times as far from 1 as an honest model was here.

        Returns:
            The floor, never above 0.9999, to be stated in the golden set.

        Raises:
            UnreadableGoldenError: if the model was so far off that no floor would be left.
        """

        def below(values: list[float]) -> float:
            return min(1 - 3 * (1 - min(values, default=1.0)), 0.9999)

        return Floor(
            cosine=below([finding.cosine for finding in self.findings]),
            centred=below([finding.centred for finding in self.findings if finding.centred is not None]),
            order=below([] if self.order is None else [self.order - 0.005]),
        )

    @classmethod
    def from_dict(cls, values: object) -> ProofReport | None:
        """Read back what `to_dict` gave; None for anything else."""
        if not isinstance(values, dict):
            return None
        texts = ("reason", "name", "target", "precision", "model_hash", "golden_hash", "proven_at")
        findings, versions, flags = (values.get(name) for name in ("findings", "versions", "flags"))
        numbers = (values.get("order"), values.get("latency_ms"))
        if not (
            isinstance(findings, list)
            and isinstance(versions, dict)
            and isinstance(flags, list)
            and isinstance(values.get("passed"), bool)
            and all(isinstance(values.get(name), str) for name in texts)
            and all(number is None or isinstance(number, (int, float)) for number in numbers)
        ):
            return None
        named: dict[str, Any] = {field.name: values.get(field.name) for field in fields(cls)}
        try:
            named["findings"] = tuple(Finding(**finding) for finding in findings)
        except TypeError:
            return None
        return cls(**{**named, "flags": tuple(map(str, flags)), "remembered": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofKey:
    """What a proof holds for; a change in any of it asks for a new one."""

    name: str
    target: str
    precision: str
    model_hash: str
    golden_hash: str
    versions: Mapping[str, str]

    def text(self) -> str:
        """Write everything but the name in one line, to be remembered by."""
        versions = " ".join(f"{library}={version}" for library, version in sorted(self.versions.items()))
        return f"{RULES} {self.target} {self.precision} {self.model_hash} {self.golden_hash} {versions}"


def examine(program: Program, golden: Golden, key: ProofKey) -> ProofReport:
    """Let a program answer a golden set, and compare.

    Args:
        program: the graph, ready on its target.
        golden: inputs and answers to expect.
        key: what the result will hold for.

    Returns:
        The result; a graph that fails is reported, not raised.
    """
    report = ProofReport(
        passed=False,
        reason="",
        name=key.name,
        target=key.target,
        precision=key.precision,
        model_hash=key.model_hash,
        golden_hash=key.golden_hash,
        versions=dict(key.versions),
        findings=(),
        order=None,
        latency_ms=None,
        flags=(),
        proven_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        answers, times_ms = _answers(program, golden)
    except (InputMismatchError, TargetLostError) as error:
        return replace(report, reason=f"it cannot answer the golden set: {one_line(error)}")
    latency_ms = statistics.median(times_ms)
    report = replace(report, latency_ms=latency_ms, flags=_odd(latency_ms, golden.latency_ms.get(key.precision)))
    floor = golden.floor(key.precision)
    report = _compared(report, answers, golden, floor)
    if report.reason or not _takes_batches(program):
        return replace(report, passed=not report.reason)
    try:
        together = program.run(admitted(golden.inputs, program.inputs), tuple(golden.outputs))
    except (InputMismatchError, TargetLostError) as error:
        return replace(report, reason=f"it cannot answer {len(golden)} samples in one batch: {one_line(error)}")
    in_batch = _compared(report, together, golden, floor)
    return replace(report, passed=not in_batch.reason, reason=in_batch.reason and f"in one batch: {in_batch.reason}")


def _answers(program: Program, golden: Golden) -> tuple[dict[str, Array], list[float]]:
    """Run sample by sample, or in the graph's fixed batches; give answers and milliseconds of each run."""
    names = chosen(golden.outputs, program.outputs)
    lengths = {port.shape[0] for port in program.inputs if port.shape and isinstance(port.shape[0], int)}
    step = max((length for length in lengths if isinstance(length, int)), default=1)
    parts: list[dict[str, Array]] = []
    times_ms: list[float] = []
    for start in range(0, len(golden), step):
        # The last fixed batch is filled up with samples from the beginning.
        rows = np.arange(start, start + step) % len(golden)
        arrays = admitted({name: array[rows] for name, array in golden.inputs.items()}, program.inputs)
        begin = time.perf_counter()
        parts.append(program.run(arrays, names))
        times_ms.append((time.perf_counter() - begin) * 1e3)
    whole = {name: [np.asarray(part[name]) for part in parts] for name in names}
    for name, pieces in whole.items():
        if any(piece.ndim == 0 or piece.shape != pieces[0].shape or piece.shape[0] != step for piece in pieces):
            raise InputMismatchError(f"output {name!r} has shapes {sorted({piece.shape for piece in pieces})}")
    # The first run warms the kernels up.
    return {name: np.concatenate(pieces)[: len(golden)] for name, pieces in whole.items()}, times_ms[1:] or times_ms


def _takes_batches(program: Program) -> bool:
    return all(port.shape and not isinstance(port.shape[0], int) for port in program.inputs)


def _compared(report: ProofReport, answers: Mapping[str, Array], golden: Golden, floor: Floor) -> ProofReport:
    findings: list[Finding] = []
    reasons: list[str] = []
    order = None
    for name, wanted in golden.outputs.items():
        given = answers[name]
        if given.shape != wanted.shape:
            reasons.append(f"{name} has shape {given.shape}, golden {wanted.shape}")
        elif not np.isfinite(given).all():
            reasons.append(f"{name} has numbers that are not finite")
        else:
            finding = _finding(name, given, wanted)
            findings.append(finding)
            reasons += _faults(finding, floor)
            if name == golden.rank:
                order = order_kept(given, wanted, golden.other)
                if order is not None and order < floor.order:
                    reasons.append(f"{name} keeps {order:.3f} of the golden order, floor {floor.order}")
    return replace(report, findings=tuple(findings), order=order, reason="; ".join(reasons))


def _faults(finding: Finding, floor: Floor) -> list[str]:
    faults = []
    if finding.cosine < floor.cosine:
        faults.append(f"{finding.output} has cosine {finding.cosine:.5f}, floor {floor.cosine}")
    if finding.centred is not None and finding.centred < floor.centred:
        faults.append(f"{finding.output} has centred cosine {finding.centred:.4f}, floor {floor.centred}")
    if 1 - finding.spread < _SPREAD_KEPT * (1 - finding.golden_spread):
        faults.append(
            f"{finding.output} gives nearly the same for different inputs (mean cosine {finding.spread:.4f}, "
            f"golden {finding.golden_spread:.4f})"
        )
    if finding.size > _SIZE_FACTOR:
        faults.append(f"{finding.output} is off in size by a factor of {finding.size:.3g}, at most {_SIZE_FACTOR}")
    return faults


def _finding(name: str, given: Array, wanted: Array) -> Finding:
    """Compare (n, ...) answers with (n, ...) golden ones."""
    a, b = (array.reshape(len(array), -1).astype(np.float64) for array in (given, wanted))
    lengths_a, lengths_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    dot = np.sum(a * b, axis=1)
    cosines = np.where(lengths_a + lengths_b == 0, 1.0, dot / np.maximum(lengths_a * lengths_b, 1e-300))
    factors = np.where(lengths_a + lengths_b == 0, 1.0, lengths_a / np.maximum(lengths_b, 1e-300))
    mean = b.mean(axis=0)
    moved_a, moved_b = a - mean, b - mean
    size_a, size_b = np.linalg.norm(moved_a), np.linalg.norm(moved_b)
    varies = size_b > _ALIKE * np.linalg.norm(b)
    centred = float(np.sum(moved_a * moved_b) / max(float(size_a * size_b), 1e-300)) if varies else None
    return Finding(
        output=name,
        cosine=float(cosines.min()),
        centred=centred,
        spread=_mutual(a, lengths_a),
        golden_spread=_mutual(b, lengths_b),
        size=min(float(np.maximum(factors, 1 / np.maximum(factors, 1e-12)).max()), 1e12),
    )


def _mutual(vectors: Array, lengths: Array) -> float:
    """Give the mean cosine between different rows of (n, d)."""
    unit = vectors / np.maximum(lengths, 1e-300)[:, None]
    count = len(unit)
    total = float(np.sum(np.sum(unit, axis=0) ** 2)) - float(np.sum(unit**2))
    return total / (count * (count - 1))


def disagreement(answers: Sequence[Mapping[str, Array]], wanted: Sequence[Mapping[str, Array]]) -> str:
    """Compare a target's answers with those of another one where no golden set says what is right.

    Args:
        answers: one dictionary per run.
        wanted: those of the same runs elsewhere.

    Returns:
        Why the first cannot be believed if the second can, in one line; empty where they agree.
    """
    for name in wanted[0]:
        given, other = ([np.asarray(run[name], np.float64).ravel() for run in runs] for runs in (answers, wanted))
        if any(a.shape != b.shape for a, b in zip(given, other, strict=True)):
            return f"{name} has another shape"
        a, b = np.concatenate(given), np.concatenate(other)
        if not (np.isfinite(a) == np.isfinite(b)).all():
            return f"{name} has numbers that are not finite"
        a, b = a[np.isfinite(b)], b[np.isfinite(b)]
        size_a, size_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        cosine = 1.0 if size_a == size_b == 0 else float(a @ b) / max(size_a * size_b, 1e-300)
        if cosine < _AGREEING:
            return f"{name} has cosine {cosine:.3f}, at least {_AGREEING} is needed"
        if not 1 / _SIZE_FACTOR <= size_a / max(size_b, 1e-300) <= _SIZE_FACTOR and size_a + size_b > 0:
            return f"{name} is off in size by a factor of {size_a / max(size_b, 1e-300):.3g}"
    return ""


def order_kept(given: Array, wanted: Array, partners: Array | None) -> float | None:
    """Say how much of the golden order of partners is kept.

    Scores are inner products with the partners, after the golden mean answer is taken away: what all answers share
    would order the partners alike for every sample, and hide a constant.

    Args:
        given: (n, d) answers.
        wanted: (n, d) golden answers.
        partners: (k, d), or None for the golden answers themselves, each sample leaving itself out.

    Returns:
        Of the pairs of partners whose golden scores differ clearly, the share in golden order; None without such pairs.
    """
    mean = wanted.mean(axis=0, dtype=np.float64)
    against = (wanted - mean if partners is None else partners).astype(np.float64)
    scores, golden_scores = (given - mean) @ against.T, (wanted - mean) @ against.T
    kept = clear = 0
    for sample in range(len(wanted)):
        others = np.arange(len(against)) != (sample if partners is None else -1)
        row, golden_row = scores[sample, others], golden_scores[sample, others]
        if golden_row.size < 2:
            continue
        gaps = golden_row[:, None] - golden_row[None, :]
        apart = gaps > max(_CLEAR_GAP * float(np.ptp(golden_row)), 1e-12)
        clear += int(apart.sum())
        kept += int((apart & (row[:, None] > row[None, :])).sum())
    return kept / clear if clear else None


def _odd(latency_ms: float, stated_ms: float | None) -> tuple[str, ...]:
    """Flag a time that cannot be right."""
    if latency_ms < _TOO_QUICK_MS:
        return (f"a run took {latency_ms * 1e3:.2f} us: too quick to have run",)
    if latency_ms > _TOO_SLOW_MS:
        return (f"a run took {latency_ms / 1e3:.1f} s: too slow to be of use",)
    if stated_ms is not None and not stated_ms / _LATENCY_FACTOR <= latency_ms <= stated_ms * _LATENCY_FACTOR:
        return (f"a run took {latency_ms:.3g} ms where {stated_ms:.3g} ms were measured when it was made",)
    return ()
