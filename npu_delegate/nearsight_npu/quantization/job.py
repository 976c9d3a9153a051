"""One call of `quantize`, from checked settings to the report: everything is written in a folder of our own first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.errors import QuantizationError
from nearsight_npu.footprint import release
from nearsight_npu.quantization.artifacts import Artifacts, wish
from nearsight_npu.quantization.calibration import Samples, shared_out
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.half import widen_tables
from nearsight_npu.quantization.latency import slowness
from nearsight_npu.quantization.layers import compare_layers
from nearsight_npu.quantization.limits import Mixing, divided, downwards, smallest, undivided
from nearsight_npu.quantization.making import Made, make
from nearsight_npu.quantization.pareto import picture
from nearsight_npu.quantization.progress import Progress, counted, untold
from nearsight_npu.quantization.recalibration import check_scores, insert, recalibrate, step_bytes
from nearsight_npu.quantization.report import QuantizationReport, answers_of, compare, growth, remarks
from nearsight_npu.quantization.result import outcome, put, scratch
from nearsight_npu.quantization.shapes import fix, open_lengths
from nearsight_npu.quantization.source import inspect, prepare
from nearsight_npu.quantization.verdict import FEWEST_JUDGED, judge
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.probe import target_named

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.calibration import Calibration
    from nearsight_npu.quantization.pareto import Row
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.quantization.recalibration import Recalibration
    from nearsight_npu.quantization.report import Comparison
    from nearsight_npu.quantization.settings import Settings
    from nearsight_npu.quantization.source import Prepared
    from nearsight_npu.quantization.verdict import Metric, Verdict
    from nearsight_npu.targets.target import Program

_FIXED = ("qnn", "axera", "simulated")  # kinds of targets that need every length fixed
_COMPILED_ONLY = ("axera",)  # and those that run nothing but what their own toolchain compiled
_MOST_SCORES = 20_000_000  # numbers of one output that are kept to fit a step on


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How a file is judged once it is written.

    Attributes:
        validation: samples to judge on; None takes those that were held out.
        metric: what the task counts; None takes the output error.
        layers: whether to look into the graph.
        pareto: where to draw what else could be had; None does not look.
    """

    validation: Calibration = None
    metric: Metric | None = None
    layers: bool = False
    pareto: Path | None = None


def carry_out(
    settings: Settings,
    calibration: Calibration,
    judging: Judging,
    cache_dir: str | os.PathLike[str] | None,
    told: OnProgress = untold,
) -> QuantizationReport:
    """Write what was asked for, measure it, and move it to its place if it may go there.

    Args:
        settings: what was asked for.
        calibration: the samples.
        judging: how to judge it.
        cache_dir: where files that were made before lie; None is the user's cache folder.
        told: takes what is being done.

    Returns:
        The report.

    Raises:
        QuantizationError: if it cannot be made, or loses more than it may.
        UnreadableGraphError: if the model is no graph.
        UnplaceableError: if it cannot run.
    """
    told(Progress(stage="reading the model"))
    if judging.metric is None and settings.max_drop is not None and settings.max_drop >= 1:
        raise QuantizationError(
            f"max_drop={settings.max_drop} was asked for; without a metric it is a share of the output's spread, and "
            "from 1 on nothing of the output need be left; give one such as 0.05"
        )
    needs = "static" if settings.mode == "mixed" else settings.mode
    inspect(settings.source, needs)
    before = CpuTarget().compile(settings.source, settings.threads)
    release()
    check_scores(settings.scores, before.outputs)
    calibrate = settings.mode in {"static", "mixed"} or bool(settings.scores)
    samples = shared_out(
        calibration, judging.validation, before.inputs, settings.samples, calibrate=calibrate, told=told
    )
    if settings.max_drop is not None and samples.kind == "calibration":
        raise QuantizationError(
            f"max_drop={settings.max_drop} was asked for; all {len(samples.calibrating)} samples are calibrated with, "
            f"and what is lost on those says little of others; give validation=, or {5 * FEWEST_JUDGED} samples or "
            "more, a fifth of which is held out"
        )
    with scratch(settings.source.name) as folder:
        source = settings.source
        if settings.runs_on.partition(":")[0] in _FIXED and open_lengths(before.inputs):
            source = fix(source, (*samples.calibrating, *samples.compared), folder / "fixed.onnx")
        prepared = prepare(source, inspect(source, needs), folder)
        if settings.mode in {"mixed", "weights"}:
            prepared = widen_tables(prepared)
        job = _Job(
            settings=settings,
            judging=judging,
            before=before,
            samples=samples,
            prepared=prepared,
            folder=folder,
            artifacts=Artifacts(cache_dir),
            told=told,
        )
        done = job.done()
        report = job.report(done)
        put(done.file, settings.target)
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A file that was written and measured.

    Attributes:
        file: where it lies.
        made: what is known of it.
        remembered: whether it was made by an earlier call.
        recalibrated: what became of its scores.
        found: what the runs showed.
        verdict: what was lost.
        caution: what to say about where it ran and what it was accepted on.
    """

    file: Path
    made: Made
    remembered: bool
    recalibrated: tuple[Recalibration, ...]
    found: Comparison | None
    verdict: Verdict | None
    caution: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One call, once model and samples are read.

    Attributes:
        settings: what was asked for.
        judging: how to judge it.
        before: the model, ready to run.
        samples: what to calibrate and to compare with.
        prepared: the model, ready to be quantized.
        folder: where to write meanwhile.
        artifacts: files of earlier calls.
        told: takes what is being done.
    """

    settings: Settings
    judging: Judging
    before: Program
    samples: Samples
    prepared: Prepared
    folder: Path
    artifacts: Artifacts
    told: OnProgress

    @cached_property
    def mixing(self) -> Mixing:
        """What makes files of mixed precision."""
        return Mixing(self.settings, self.prepared, self.samples.calibrating, self.folder, self.told)

    @cached_property
    def wanted(self) -> tuple[dict[str, Array], ...]:
        """The model's own answers to the compared samples."""
        return answers_of(self.before, self.samples, self.told)

    def done(self) -> _Done:
        """Make the file that was asked for.

        Raises:
            QuantizationError: if it loses more than it may.
        """
        settings = self.settings
        if settings.mode == "mixed" and settings.budget_mb is None and settings.budget_ms is None:
            return self._smallest()
        if settings.budget_mb is not None:
            settings = replace(settings, budget_mb=settings.budget_mb - sum(map(step_bytes, settings.scores)) / 1e6)
        done = self._tried(settings)
        if done.verdict is not None and done.verdict.accepted is False:
            raise self._refusal(self.settings.mode, done.verdict)
        return done

    def _smallest(self) -> _Done:
        """Find the smallest file of mixed precision that loses no more than it may, not on what it is accepted on."""
        searching, accepting = divided(len(self.samples.compared))
        least, most = self.mixing.ends()
        best: _Done | None = None
        last: _Done | None = None
        tried = 0
        earlier: dict[Path, bool] = {}  # whether a file was there before this call

        def passes(budget: int, part: slice, *, keep: bool) -> bool:
            nonlocal best, last, tried
            self.told(Progress(stage="accepting a file" if keep else "searching for the smallest file", done=tried))
            tried += 1
            last = self._tried(replace(self.settings, budget_mb=budget / 1e6), part)
            earlier.setdefault(last.file, last.remembered)
            passed = last.verdict is not None and last.verdict.accepted is True
            gone, best = (best, last) if passed and keep else (last, best)
            if gone is not None:
                gone.file.unlink()
            return passed

        found = smallest(least, most, lambda budget: passes(budget, searching, keep=False))
        budgets = () if found is None else (found,) if searching == accepting else downwards(found, most)
        for budget in budgets:
            if not passes(budget, accepting, keep=True):
                break
        if best is None:
            assert last is not None
            assert last.verdict is not None
            raise self._refusal("even the largest file of mixed precision", last.verdict)
        return replace(
            best,
            remembered=earlier[best.file],
            found=self._compared(best.file)[0],
            caution=(*best.caution, *undivided(len(self.samples.compared))),
        )

    def _refusal(self, what: str, verdict: Verdict) -> QuantizationError:
        return QuantizationError(
            f"{self.settings.source.name} was to lose at most {self.settings.max_drop} by {verdict.metric}; {what} "
            f"{verdict.reason}; nothing was written; keep more in float with keep_float=, give more samples, or a "
            "larger max_drop="
        )

    def _tried(self, settings: Settings, part: slice | None = None) -> _Done:
        """Make a file, or take it from an earlier call, and measure it.

        Args:
            settings: what to make.
            part: the compared samples to judge it on where others will be tried after it, so that it has to be quick.
        """
        quick = part is not None
        file = self.folder / f"made{settings.budget_mb or ''}.onnx"
        made, remembered = self._made(settings, file, quick=quick)
        recalibrated = self._recalibrated(file)
        found, caution = self._compared(file, quick=quick)
        return _Done(
            file=file,
            made=made,
            remembered=remembered,
            recalibrated=recalibrated,
            found=found,
            verdict=None if found is None else self._verdict(found, part or slice(None)),
            caution=caution,
        )

    def _compared(self, file: Path, *, quick: bool = False) -> tuple[Comparison | None, tuple[str, ...]]:
        """Run a file and the model on the same samples; tell what is to be said about where it ran."""
        if not self.wanted:
            return None, ()
        after, caution = _program(self.settings, file)
        clocked = not quick and not target_named(self.settings.runs_on).probe().simulator
        told = untold if quick else self.told
        return compare(self.before, after, self.samples, wanted=self.wanted, clocked=clocked, told=told), caution

    def _made(self, settings: Settings, file: Path, *, quick: bool) -> tuple[Made, bool]:
        asked = settings.to_dict() | {"quick": quick}
        if settings.budget_ms is not None:
            asked |= {"machine": Machine().processor(), "threads": settings.threads}
        key = wish(settings.source, asked, self.samples.calibrating)
        facts = self.artifacts.take(key, file)
        if facts is not None:
            return Made.from_dict(facts), True
        if settings.budget_mb is not None:
            made = self.mixing.write(int(settings.budget_mb * 1e6), file, quick=quick)
        elif settings.budget_ms is not None:
            made = self.mixing.write_quick(settings.budget_ms, self.samples.compared, file)
        else:
            self.told(Progress(stage="taking ranges and writing" if settings.mode == "static" else "writing"))
            made = make(settings, self.prepared, self.samples.calibrating, file)
        missed = self.artifacts.keep(key, file, made.to_dict())
        if missed is None:
            return made, False
        return replace(made, doubts=(*made.doubts, f"the file could not be kept for the next time: {missed}")), False

    def _recalibrated(self, file: Path) -> tuple[Recalibration, ...]:
        """Fit a step for each output whose scores are to keep their meaning, and put in those that help."""
        if not self.settings.scores:
            return ()
        after, _ = _program(self.settings, file)
        found = []
        for name in counted(self.settings.scores, "fitting scores", self.told, len(self.settings.scores)):
            size = np.size(self.before.run(self.samples.calibrating[0], (name,))[name])
            used = self.samples.calibrating[: max(1, _MOST_SCORES // max(size, 1))]
            fitted = [[program.run(arrays, (name,)) for arrays in used] for program in (self.before, after)]
            checked = [
                [program.run(arrays, (name,)) for arrays in self.samples.compared] for program in (self.before, after)
            ]
            found.append(recalibrate(name, (fitted[0], fitted[1]), (checked[0], checked[1])))
        insert(file, [(entry.output, entry.step) for entry in found if entry.kept and entry.step is not None])
        return tuple(found)

    def _verdict(self, found: Comparison, part: slice) -> Verdict:
        first = self.samples.first_compared
        places = range(first, first + len(self.samples.compared))[part]
        wanted, given = found.wanted[part], found.given[part]
        self.told(Progress(stage="judging"))
        return judge(wanted, given, places, metric=self.judging.metric, max_drop=self.settings.max_drop)

    def _drawn(self, out: Path, written: Path) -> tuple[Row, ...]:
        """Make and measure what else could be had, and draw it."""
        rows = self.mixing.rows(self.samples.compared, written)
        drawn = self.folder / "pareto.svg"
        drawn.write_text(picture(rows, self.settings.source.name), encoding="utf-8")
        put(drawn, out)
        return rows

    def report(self, done: _Done) -> QuantizationReport:
        """Put everything that was found together."""
        settings, found = self.settings, done.found
        integer, floating = outcome(done.file, {node.name for node in self.prepared.nodes})
        sizes = settings.source.stat().st_size, done.file.stat().st_size
        if self.judging.layers:
            self.told(Progress(stage="looking into layers"))
        layers = (
            compare_layers(
                self.prepared, done.file, group(self.prepared), self.samples, self.folder, plan=done.made.plan
            )
            if self.judging.layers
            else ()
        )
        return QuantizationReport(
            model=str(settings.source),
            out=str(settings.target),
            mode=settings.mode,
            method=settings.range_method if settings.mode in {"static", "mixed"} else None,
            percentile=settings.kept_share if settings.method == "percentile" else None,
            reduce_range=settings.reduce_range,
            calibrated_on=len(self.samples.calibrating),
            compared_on=len(self.samples.compared) if found else 0,
            compared_with=self.samples.kind,
            bytes_before=sizes[0],
            bytes_after=sizes[1],
            before=found.before if found else None,
            after=found.after if found else None,
            threads=settings.threads,
            outputs=found.outputs if found else (),
            integer_nodes=integer,
            float_nodes=floating,
            warnings=(
                *done.made.doubts,
                *(entry.reason for entry in done.recalibrated if not entry.kept),
                *done.caution,
                *growth(*sizes, settings.mode),
                *slowness(settings.budget_ms, found.after if found else None),
                *remarks(found, self.samples, task=self.judging.metric is not None),
            ),
            target=settings.runs_on,
            activations=settings.static_type if settings.mode == "static" else None,
            bits=(settings.bits or 8) if settings.mode == "weights" else None,
            plan=dict(done.made.plan),
            verdict=done.verdict,
            recalibrated=done.recalibrated,
            layers=layers,
            pareto=() if self.judging.pareto is None else self._drawn(self.judging.pareto, done.file),
            remembered=done.remembered,
        )


def _program(settings: Settings, written: Path) -> tuple[Program, tuple[str, ...]]:
    """Make what was written ready on the target that it is meant for, or say why it runs on the processor instead."""
    target = target_named(settings.runs_on)
    found = target.probe()
    if settings.runs_on not in _COMPILED_ONLY and found.available:
        return target.compile(written, settings.threads), ()
    why = f"{settings.runs_on} runs compiled files only" if settings.runs_on in _COMPILED_ONLY else found.reason
    return CpuTarget().compile(written, settings.threads), (f"compared on cpu: {why}",)
