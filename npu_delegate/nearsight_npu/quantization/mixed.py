"""Mixed precision: the groups that lose most keep most bits, so that the whole fits a budget of bytes or of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.allocation import Option, Options, knapsack, undominated
from nearsight_npu.quantization.latency import operations, timed
from nearsight_npu.quantization.progress import Progress, counted, untold
from nearsight_npu.quantization.sensitivity import Trials, measure
from nearsight_npu.quantization.sizes import plan_bytes
from nearsight_npu.quantization.weights import Weights
from nearsight_npu.quantization.writing import STATIC, WEIGHT_BITS, Recipe, write_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.plan import Group, Plan
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.quantization.ranges import Ranges
    from nearsight_npu.quantization.source import Prepared

# Integer activations save no bytes beyond integer weights, and cost error: they are worth it where time counts.
FOR_BYTES = (words.FP32, words.FP16, words.W8, words.W4)
FOR_TIME = (words.FP32, words.A8W8)
# The most samples that each trial runs on: large models take long, and their errors differ less from sample to sample.
_TRIED, _TRIED_LARGE, _LARGE = 32, 12, 30_000_000
_TRIES, _TIGHTER = 5, 0.97  # plans that are timed until one is quick enough; how much tighter each limit is
_MICRO = 1000  # microseconds in a millisecond


class Mixer:
    """Measures once what each precision of each group costs, and then makes plans and files for any budget.

    Weights that are rounded to "w8" and "w4" in matrix products make up for each other's errors; see `rounding`.

    Args:
        prepared: the graph.
        groups: its groups.
        samples: inputs for single runs, to allocate with.
        folder: where to keep what is written on the way.
        choices: the precisions to choose from; each group is offered those that it can have.
        recipe: how precisions are carried out.
        ranges: what was seen of the graph's arrays; needed for static integers.
        compensate: whether rounded weights make up for each other.
        told: takes what is being done.

    Raises:
        QuantizationError: if there are no samples, no choice, or the graph cannot run.
    """

    def __init__(
        self,
        prepared: Prepared,
        groups: Sequence[Group],
        samples: Sequence[dict[str, Array]],
        folder: Path,
        *,
        choices: Sequence[str] = FOR_BYTES,
        recipe: Recipe | None = None,
        ranges: Ranges | None = None,
        compensate: bool = True,
        told: OnProgress = untold,
    ) -> None:
        if not samples or not groups:
            raise QuantizationError(
                f"mixed precision was asked for with {len(samples)} samples for {len(groups)} groups of operators; "
                "give calibration= for a model with constant weights"
            )
        self.prepared = prepared
        self.groups = tuple(groups)
        self.weights = Weights(prepared, groups, recipe)
        self._choices = {group.name: suiting(group, choices) for group in groups}
        self._folder = folder
        self._recipe = recipe or Recipe()
        self._ranges = ranges
        self._told = told
        # Trials run on other samples than weights are rounded after, so that what fits by chance does not look good.
        most = _TRIED if sum(group.elements for group in groups) < _LARGE else _TRIED_LARGE
        tried = samples[-min(most, max(1, len(samples) // 3)) :]
        if compensate:
            bits = {name: [choice for choice in some if choice in WEIGHT_BITS] for name, some in self._choices.items()}
            rounded = {name: some for name, some in bits.items() if some}
            told(Progress(stage="rounding weights"))
            self.weights.compensate(rounded, samples[: -len(tried)] or tried, tried)
        self.trials = self.trials_on(tried)
        self.errors = measure(self.trials, self._choices, told)
        self._bytes = self._count_bytes()

    def trials_on(self, samples: Sequence[dict[str, Array]]) -> Trials:
        """Open trials on other samples."""
        return Trials(
            self.prepared,
            self.groups,
            self.weights,
            samples,
            self._folder,
            recipe=self._recipe,
            ranges=self._ranges,
        )

    def options(self) -> Options:
        """Give what each group may become, with its bytes and the square of the error that it costs."""
        return {
            name: [Option(choice=choice, cost=self._bytes[name][choice], error=error) for choice, error in some.items()]
            for name, some in self.errors.items()
        }

    @property
    def choices(self) -> tuple[str, ...]:
        """The precisions that any group is offered."""
        return tuple(dict.fromkeys(choice for some in self._choices.values() for choice in some))

    def uniform(self, choice: str) -> dict[str, str]:
        """Give every group a precision; one that cannot have it becomes "w8", or stays most precise without that."""
        return {
            name: choice if choice in some else words.W8 if words.W8 in some else min(some, key=words.CHOICES.index)
            for name, some in self._choices.items()
        }

    def ends(self) -> tuple[int, int]:
        """Foretell the bytes of the smallest and of the largest file."""
        costs = [[option.cost for option in some] for some in self.options().values()]
        fixed = self.fixed_bytes()
        return fixed + sum(map(min, costs)), fixed + sum(map(max, costs))

    def fixed_bytes(self) -> int:
        """Give the bytes of a file that no plan changes: operators, biases, names."""
        floating = {group.name: words.FP32 for group in self.groups}
        whole = plan_bytes(self.prepared, self.groups, floating, self._recipe)
        return whole - sum(4 * group.elements for group in self.groups)

    def bytes_of(self, plan: Plan) -> int:
        """Foretell the bytes of a plan's file."""
        return plan_bytes(self.prepared, self.groups, plan, self._recipe)

    def plan(self, budget: int, options: Options | None = None) -> dict[str, str]:
        """Find the plan with the least foretold error whose file has at most so many bytes.

        Args:
            budget: bytes of the file.
            options: what groups may become, where it is not `options()`.

        Raises:
            QuantizationError: if not even the smallest plan fits; the message names its bytes.
        """
        fixed = self.fixed_bytes()
        options = options or self.options()
        least = fixed + sum(min(option.cost for option in some) for some in options.values())
        if least > budget:
            raise QuantizationError(
                f"a file of {budget / 1e6:.2f} MB was asked for; the least that these precisions make of it is "
                f"{least / 1e6:.2f} MB; give a larger budget, or allow smaller precisions"
            )
        return knapsack(options, budget - fixed)

    def refined(self, plan: Plan, budget: int, rounds: int = 1) -> dict[str, str]:
        """Measure anew around a plan what a change of each group brings, and plan again; keep what measures best.

        Args:
            plan: where to begin.
            budget: bytes of the file.
            rounds: how often.

        Returns:
            The best plan, as measured on the samples that are allocated with.
        """
        best, least = dict(plan), self.trials.error(plan)
        for _ in range(rounds):
            options = self.options()
            turns = counted(options.items(), "measuring around the plan", self._told, len(options))
            around = {name: self._around(best, least, name, some) for name, some in turns}
            other = self.plan(budget, around)
            error = self.trials.error(other)
            if error >= least:
                break
            best, least = other, error
        return best

    def _around(self, plan: Plan, error: float, name: str, some: Sequence[Option]) -> list[Option]:
        """Measure the plan with the next cheaper and the next dearer precision of one group."""
        ladder = undominated(some)
        here = next((place for place, option in enumerate(ladder) if option.choice == plan[name]), 0)
        near = ladder[max(here - 1, 0) : here + 2]
        squares = [
            error**2 if option.choice == plan[name] else self.trials.error({**plan, name: option.choice}) ** 2
            for option in near
        ]
        # Counted from the best, so that none is below nothing.
        return [
            Option(choice=option.choice, cost=option.cost, error=square - min(squares))
            for option, square in zip(near, squares, strict=True)
        ]

    def write(self, plan: Plan, out: Path) -> None:
        """Write a plan's file."""
        prepared = self.weights.written(plan, self._folder)
        write_plan(prepared, self.groups, plan, out, ranges=self._ranges, recipe=self._recipe)

    def quick(
        self,
        budget_ms: float,
        samples: Sequence[dict[str, Array]],
        out: Path,
        *,
        threads: int = 1,
        quickest: float = float("inf"),
    ) -> tuple[dict[str, str], float]:
        """Write the plan with the least foretold error whose file takes at most so long a run here.

        The uniform files are timed; their times are shared out among groups by multiplications, which foretells a
        plan's time. The file is then timed itself, and the limit tightened, until it holds.

        Args:
            budget_ms: median time of a run.
            samples: inputs to time with.
            out: where to write.
            threads: of one run.
            quickest: what the quickest file known took.

        Returns:
            The plan, and what its file took.

        Raises:
            QuantizationError: if no plan is as quick; the message names the quickest.
        """
        self._told(Progress(stage="timing precisions"))
        options = self._timed_options(samples, threads)
        limit = budget_ms
        least = sum(min(option.cost for option in some) for some in options.values())
        for tried in range(_TRIES):
            self._told(Progress(stage="timing plans", done=tried))
            plan = knapsack(options, max(int(limit * _MICRO), least))
            self.write(plan, out)
            (took,) = timed((out,), samples, threads)
            if took <= budget_ms:
                return plan, took
            quickest = min(quickest, took)
            if limit * _MICRO <= least:
                break
            limit *= _TIGHTER * budget_ms / took
        raise QuantizationError(
            f"a file of {budget_ms:g} ms a run was asked for; the quickest that was written takes {quickest:.2f} ms; "
            "give a larger budget, or threads="
        )

    def _timed_options(self, samples: Sequence[dict[str, Array]], threads: int) -> Options:
        """Give what each group may become, with its share of the time in microseconds."""
        files = {choice: self._folder / f"uniform.{choice}.onnx" for choice in self.choices}
        for choice, path in files.items():
            self.write(self.uniform(choice), path)
        whole = dict(zip(files, timed(tuple(files.values()), samples, threads), strict=True))
        work = {group.name: operations(self.prepared, group) for group in self.groups}
        total = sum(work.values()) or 1.0
        return {
            name: [
                Option(choice=choice, cost=round(whole[choice] * _MICRO * work[name] / total), error=error)
                for choice, error in some.items()
            ]
            for name, some in self.errors.items()
        }

    def _count_bytes(self) -> dict[str, dict[str, int]]:
        none = self.bytes_of({})
        return {
            group.name: {
                choice: 4 * group.elements + self.bytes_of({group.name: choice}) - none
                for choice in self._choices[group.name]
            }
            for group in self.groups
        }


def suiting(group: Group, choices: Sequence[str]) -> tuple[str, ...]:
    """Give the precisions that a group can have of those there are.

    A table of embeddings only stores, a convolution has no 4-bit weights here and nothing dynamic.

    Args:
        group: the group.
        choices: the precisions.

    Returns:
        Those it can have.

    Raises:
        QuantizationError: if it can have none of them.
    """
    unfit = {
        "lookup": {*STATIC, words.DYNAMIC},
        "conv": {words.W4, words.DYNAMIC},
        "matmul": set[str](),
    }[group.kind]
    left = tuple(choice for choice in choices if choice not in unfit)
    if left:
        return left
    if group.kind == "lookup" and set(choices) & unfit:
        return (words.W8,)
    raise QuantizationError(
        f"{group.name!r} was to become one of {', '.join(choices)}; a {group.kind} cannot; "
        f"allow {words.W8} or {words.FP16}"
    )
