"""Lets files, targets and setups compete on this machine: each is opened, checked, and timed in turn with the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.arrays import admitted, drawn
from nearsight_npu.errors import (
    DelegateError,
    InputMismatchError,
    ProofFailedError,
    TargetLostError,
    UnplaceableError,
    UnreadableGraphError,
)
from nearsight_npu.footprint import release
from nearsight_npu.opening import let_go, untraced
from nearsight_npu.placement import Trial, worth_setting_up
from nearsight_npu.proof import disagreement
from nearsight_npu.targets.probe import FALLBACK
from nearsight_npu.targets.target import Setup, Tunable
from nearsight_npu.tuning import FOLLOWING_MS, processors, race, rest_after, toll_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.opening import Opener
    from nearsight_npu.targets.target import Port, Program, Target

REFUSALS = (UnplaceableError, UnreadableGraphError, ProofFailedError, TargetLostError)
_COPIES = 2  # a loaded model fills about twice its file
_COMPARED = 2  # inputs on which targets have to agree where there is no golden set


class Contest:
    """Times every way to run some variants on some targets.

    Attributes:
        programs: what is open, by its trial without times.
    """

    def __init__(
        self,
        opener: Opener,
        targets: Sequence[Target],
        refuse: Callable[[str, str, DelegateError], None],
        *,
        tuned: bool,
        room_bytes: float,
    ) -> None:
        """Say who takes part.

        Args:
            opener: opens the files.
            targets: where; without a golden set, answers are compared with those of `cpu`, if it is among them.
            refuse: told of a target, a precision and why it may not run.
            tuned: whether other setups than a target's own are tried.
            room_bytes: how much may be open at once; where all together do not fit, they are timed one by one.
        """
        self.programs: dict[Trial, Program] = {}
        self._opener = opener
        # The processor first: the others' answers are held against its own.
        self._targets = {target.name: target for target in sorted(targets, key=lambda one: one.name != FALLBACK)}
        self._refuse = refuse
        self._tuned = tuned
        self._room_bytes = room_bytes
        self._wanted: dict[str, list[dict[str, Array]]] = {}
        self._failed: dict[Trial, DelegateError] = {}

    def held(self, precisions: Sequence[str]) -> tuple[Trial, ...]:
        """Time all of them; each setup is listed once, those that cannot be timed without times.

        Args:
            precisions: the variants that may stand for each other.
        """
        starters = [
            Trial(target=name, precision=precision, setup=self._setups(target)[0])
            for precision in precisions
            for name, target in self._targets.items()
        ]
        found = self._timed(starters, compare=self._opener.request.golden is None)
        if self._tuned and found:
            leading = [trial.untimed for trial in worth_setting_up(found.values())]
            others = [
                replace(trial, setup=setup)
                for trial in leading
                for setup in self._setups(self._targets[trial.target])[1:]
            ]
            if others:
                found = {**found, **self._timed([*leading, *others])}
        for trial, error in self._failed.items():
            # A pair that runs in another setup is not refused.
            if not any(trial.pair == other.pair for other in found):
                self._refuse(trial.target, trial.precision, error)
        return tuple(found.values())

    def close(self) -> None:
        """Let everything go that is still open, and give its memory back."""
        while self.programs:
            let_go(self.programs.popitem()[1])
        release()

    def _setups(self, target: Target) -> tuple[Setup | None, ...]:
        """Give the ways to run on a target, its own first; threads that were asked for are kept."""
        if not isinstance(target, Tunable):
            return (None,)
        usual, threads = self._opener.usual(target), self._opener.threads
        if not self._tuned:
            return (usual,)
        offered = target.setups(processors())
        return offered if threads is None else tuple(dict.fromkeys(replace(one, threads=threads) for one in offered))

    def _timed(self, trials: Sequence[Trial], *, compare: bool = False) -> dict[Trial, Trial]:
        alone = len(trials) == 1
        if _COPIES * sum(self._opener.bytes(trial.precision) for trial in trials) <= self._room_bytes:
            opened = [trial for trial in trials if self._opened(trial, compare=compare)]
            try:
                return self._raced(opened, alone=alone)
            except _CrowdedError:
                self.close()
        found: dict[Trial, Trial] = {}
        for trial in trials:
            found.update(self._raced([trial] if self._opened(trial, compare=compare) else [], alone=alone))
            self.close()
        return found

    def _opened(self, trial: Trial, *, compare: bool) -> bool:
        """Open a trial's program, and compare its answers with those of the processor; say whether it may take part."""
        if trial in self.programs:
            return True
        try:
            program = self._opener.compiled(self._targets[trial.target], trial.precision, trial.setup)
            self.programs[trial] = program
            if compare:
                self._compare(trial, program)
        except REFUSALS as error:
            if trial in self.programs:
                let_go(self.programs.pop(trial))
            self._failed[trial] = untraced(error)
            return False
        return True

    def _compare(self, trial: Trial, program: Program) -> None:
        """Hold a target's answers against the processor's, which are taken for right where nothing else is known."""
        names = tuple(port.name for port in program.outputs)
        try:
            answers = [program.run(arrays, names) for arrays in samples(self._opener, program.inputs)]
        except InputMismatchError:
            # What was drawn does not fit this graph; nothing can be compared or timed on it.
            return
        if trial.target == FALLBACK:
            self._wanted[trial.precision] = answers
        elif trial.precision in self._wanted and (reason := disagreement(answers, self._wanted[trial.precision])):
            raise ProofFailedError(
                f"{self._opener.request.title} ({trial.precision}) was to run on {trial.target}; it does not agree "
                f"with {FALLBACK} there: {reason}; use target='{FALLBACK}'"
            )

    def _raced(self, trials: Sequence[Trial], *, alone: bool) -> dict[Trial, Trial]:
        runs = {trial: run for trial in trials if (run := self._run(trial, among=len(trials))) is not None}
        if alone or len(runs) < len(trials):
            return {trial: trial for trial in trials}
        times, failed = race(runs, {trial: rest_after(trial.setup) for trial in trials})
        if all(isinstance(error, InputMismatchError) for error in failed.values()) and not times:
            return {trial: trial for trial in trials}
        for trial, error in failed.items():
            let_go(self.programs.pop(trial))
            self._failed[trial] = untraced(error)
        found = {trial: replace(trial, times_ms=times[trial]) for trial in trials if trial in times}
        return {trial: self._with_toll(timed, found, runs) for trial, timed in found.items()}

    def _with_toll(
        self, timed: Trial, found: Mapping[Trial, Trial], runs: Mapping[Trial, Callable[[], object]]
    ) -> Trial:
        """Add what a run's spinning threads take from the next one, where it would be taken but for that."""
        asleep = sorted((one for one in found.values() if not one.spins), key=lambda one: one.latency_ms)
        mine = [one for one in asleep if one.pair == timed.pair]
        if timed.setup is None or not timed.spins or (mine and timed.latency_ms >= mine[0].latency_ms):
            return timed
        # Of as many threads: a single one would not miss the cores that others keep.
        alike = [one for one in (*mine, *asleep) if one.setup is not None and one.setup.threads == timed.setup.threads]
        if not alike:
            # Timed by itself, for want of room: as if that took as long again.
            return replace(timed, toll_ms=timed.latency_ms)
        following = alike[0]
        try:
            toll_ms = toll_of(
                runs[timed.untimed],
                runs[following.untimed],
                runs[asleep[-1].untimed],
                times=math.ceil(FOLLOWING_MS / following.latency_ms),
            )
        except TargetLostError:
            # Whoever was lost here is found to be so when it is opened.
            toll_ms = timed.latency_ms
        return replace(timed, toll_ms=toll_ms)

    def _run(self, trial: Trial, among: int) -> Callable[[], object] | None:
        program = self.programs[trial]
        arrays = next(iter(samples(self._opener, program.inputs)), None)
        if arrays is None:
            return None
        golden = self._opener.golden()
        names = tuple(port.name for port in program.outputs)
        if golden is not None:
            names = tuple(name for name in names if name in golden.outputs) or names
        # The first run of a program within a budget may load it again, to weigh it; that one is not timed.
        loads: list[int] = []

        def run() -> None:
            program.run(arrays, names)
            loads.append(getattr(program, "loads", 1))
            if among > 1 and loads[-1] > loads[0]:
                raise _CrowdedError

        return run


class _CrowdedError(Exception):
    """Programs do not fit into the budget together: they made room for each other, and loading would be timed."""


def samples(opener: Opener, ports: Sequence[Port]) -> list[dict[str, Array]]:
    """Give inputs for single runs: the first golden ones, or drawn ones; none where the golden ones do not fit."""
    golden = opener.golden()
    if golden is None:
        return list(drawn(ports, _COMPARED))
    lengths = {port.shape[0] for port in ports if port.shape and isinstance(port.shape[0], int)}
    step = max((length for length in lengths if isinstance(length, int)), default=1)
    rows = [np.arange(start, start + step) % len(golden) for start in range(_COMPARED)]
    try:
        return [admitted({name: array[row] for name, array in golden.inputs.items()}, ports) for row in rows]
    except InputMismatchError:
        # The proof says so in its own words.
        return []
