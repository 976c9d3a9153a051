"""Mixed precision within what a file may take and lose: plans for a budget, and the smallest file that is accepted."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.calibration import FEWEST
from nearsight_npu.quantization.latency import timed
from nearsight_npu.quantization.making import Made, check_prefixes, free_groups, make, too_few
from nearsight_npu.quantization.mixed import FOR_BYTES, FOR_TIME, Mixer, suiting
from nearsight_npu.quantization.pareto import curve
from nearsight_npu.quantization.progress import Progress, untold
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.quantization.result import outcome
from nearsight_npu.quantization.sizes import plan_bytes
from nearsight_npu.quantization.verdict import FEWEST_JUDGED
from nearsight_npu.quantization.writing import STATIC, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.pareto import Row
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.quantization.settings import Settings
    from nearsight_npu.quantization.source import Prepared

_FINE = 0.02  # of the span between the smallest and the largest file
_TRIES = 3
_STEPS = 6  # from the largest file down to the one that was searched for
_ROOM = 1.03  # how far a size may be foretold wrongly


class Mixing:
    """Makes files of mixed precision of one graph; what is costly is measured when the first of them is.

    Args:
        settings: what was asked for.
        prepared: the graph.
        samples: what to take ranges and sensitivities from.
        folder: where to write on the way.
        told: takes what is being done.
    """

    def __init__(
        self,
        settings: Settings,
        prepared: Prepared,
        samples: Sequence[dict[str, Array]],
        folder: Path,
        told: OnProgress = untold,
    ) -> None:
        check_prefixes(settings, prepared)
        self._settings = settings
        self._prepared = prepared
        self._samples = samples
        self._folder = folder
        self._told = told
        self._groups = free_groups(settings, prepared)
        by_bytes = FOR_BYTES if words.W8 in settings.runnable else settings.runnable
        self._choices = FOR_TIME if settings.budget_ms is not None else by_bytes
        self._recipe = Recipe(
            method=settings.range_method, percentile=settings.kept_share, reduce_range=settings.reduce_range
        )

    @cached_property
    def mixer(self) -> Mixer:
        """What knows how much each precision of each group costs."""
        static = bool(STATIC.keys() & set(self._choices))
        histograms = self._settings.range_method != "minmax"
        if static:
            self._told(Progress(stage="taking ranges"))
        return Mixer(
            self._prepared,
            self._groups,
            self._samples,
            self._folder,
            choices=self._choices,
            recipe=self._recipe,
            ranges=take_ranges(self._prepared, self._samples, histograms=histograms) if static else None,
            told=self._told,
        )

    def ends(self) -> tuple[int, int]:
        """Give about the bytes of the smallest and of the largest file that these precisions make, rather too many.

        One that stays in FP32 would not be worth making.
        """
        sizes = {
            choice: {
                group.name: self._bytes({group.name: choice})
                for group in self._groups
                if choice in suiting(group, self._choices)
            }
            for choice in self._choices
            if choice != words.FP32
        }
        names = [group.name for group in self._groups]
        known = {name: [some[name] for some in sizes.values() if name in some] for name in names}
        none = self._bytes({})
        least, most = (none + sum(end(known[name]) - none for name in names) for end in (min, max))
        return int(least * _ROOM), int(most * _ROOM)

    def write(self, budget: int, out: Path, *, quick: bool = False) -> Made:
        """Write the file whose outputs move least among those of at most so many bytes.

        Args:
            budget: bytes of the file.
            out: where to write.
            quick: whether about that size will do, and changes of single groups are not measured anew around the
                plan, which takes about as long as everything before.

        Returns:
            What is known of it.

        Raises:
            QuantizationError: if the smallest file takes more.
        """
        least = int(self.ends()[0] / _ROOM**2)
        if budget < least:
            raise QuantizationError(
                f"a file of {budget / 1e6:.3g} MB was asked for; the least that {', '.join(self._choices)} make of it "
                f"is about {least * _ROOM / 1e6:.3g} MB; give a larger budget"
            )
        limit, size = budget, 0
        for _ in range(_TRIES):
            plan = self.mixer.plan(limit)
            if not quick:
                plan = self.mixer.refined(plan, limit)
            self.mixer.write(plan, out)
            size = out.stat().st_size
            if quick or size <= budget:
                return Made(plan=plan, doubts=self._doubts())
            # A plan's bytes are foretold nearly, not exactly; the next one has to be another, by as much smaller.
            foretold = self.mixer.bytes_of(plan)
            limit = min(budget - (size - foretold), foretold - 1)
            if limit < least:
                break
        raise QuantizationError(
            f"a file of {budget / 1e6:.4g} MB was asked for; the nearest that was written has {size / 1e6:.4g} MB; "
            "give a larger budget"
        )

    def write_quick(self, budget_ms: float, samples: Sequence[dict[str, Array]], out: Path) -> Made:
        """Write the file whose outputs move least among those whose runs take at most so long here.

        Uniform static INT8, where sums and limits between the groups compute in integers too, is tried as well.

        Args:
            budget_ms: the most that the median of single runs may take.
            samples: inputs to time with.
            out: where to write.

        Returns:
            What is known of it.

        Raises:
            QuantizationError: if the quickest file takes longer.
        """
        static = self._folder / "static.onnx"
        made, took = self._static(samples, static)
        try:
            plan, _ = self.mixer.quick(budget_ms, samples, out, threads=self._settings.threads, quickest=took)
        except QuantizationError:
            if took > budget_ms:
                raise
        else:
            if took > budget_ms or self.mixer.trials.of_file(static) >= self.mixer.trials.of_file(out):
                return Made(plan=plan, doubts=self._doubts())
        static.replace(out)
        return made

    def _static(self, samples: Sequence[dict[str, Array]], out: Path) -> tuple[Made, float]:
        """Write uniform static INT8, and tell how many ms it takes: no end of them where there is nothing to make."""
        if len(self._samples) < FEWEST or all(group.kind == "lookup" for group in self._groups):
            return Made(), float("inf")
        self._told(Progress(stage="trying static INT8"))
        made = make(replace(self._settings, mode="static", budget_ms=None), self._prepared, self._samples, out)
        (took,) = timed((out,), samples, self._settings.threads)
        integer = set(outcome(out, {node.name for node in self._prepared.nodes})[0])
        plan = {group.name: words.FP32 if integer.isdisjoint(group.nodes) else words.A8W8 for group in self._groups}
        return replace(made, plan=plan), took

    def rows(self, samples: Sequence[dict[str, Array]], written: Path) -> tuple[Row, ...]:
        """Make and measure files of many sizes, to see what else could be had.

        Args:
            samples: inputs to compare on, which nothing was taken from.
            written: the file that was chosen.

        Returns:
            A row for each, by size; without times for a chip that is not here.
        """
        rows = curve(
            self.mixer,
            samples,
            self._folder,
            threads=self._settings.threads,
            written=(self._settings.target.name, written),
            told=self._told,
        )
        return rows if words.W8 in self._settings.runnable else tuple(replace(row, ms=None) for row in rows)

    def _doubts(self) -> tuple[str, ...]:
        return too_few(len(self._samples), "what bits cost was measured on")

    def _bytes(self, plan: dict[str, str]) -> int:
        return plan_bytes(self._prepared, self._groups, plan, self._recipe)


def smallest(least: int, most: int, accepted: Callable[[int], bool]) -> int | None:
    """Find the smallest budget that is accepted, taking it that more bytes lose less.

    Args:
        least: bytes of the smallest file.
        most: bytes of the largest one.
        accepted: makes the file for a budget and says whether it may be used.

    Returns:
        The budget, to within a fiftieth of the span; None if not even the largest is accepted.
    """
    if not accepted(most):
        return None
    if accepted(least):
        return least
    low, high = least, most
    while high - low > max(_FINE * (most - least), 1):
        middle = (low + high) // 2
        low, high = (low, middle) if accepted(middle) else (middle, high)
    return high


def divided(count: int) -> tuple[slice, slice]:
    """Give the samples to search with and those to accept on: every other one; all for both where these are too few."""
    if count < 2 * FEWEST_JUDGED:
        return slice(None), slice(None)
    return slice(0, None, 2), slice(1, None, 2)


def undivided(count: int) -> tuple[str, ...]:
    """Say so where a file was searched for and accepted on the same samples."""
    if count >= 2 * FEWEST_JUDGED:
        return ()
    said = (
        f"searched for and accepted on the same {count} samples, so others may lose more than it seems; "
        f"{2 * FEWEST_JUDGED} or more to judge on are divided"
    )
    return (said,)


def downwards(found: int, most: int) -> tuple[int, ...]:
    """Give the budgets to accept, from the largest down to the one that was searched for, ever nearer to it.

    They are fixed before any is judged. Where the last before the first that is not accepted is taken, judging several
    makes it no likelier that one which loses more is accepted. Source: fixed-sequence testing (Maurer et al. 1995).
    """
    return tuple(dict.fromkeys([*(found + (most - found) // 2**step for step in range(_STEPS)), found]))
