"""The ways in which a model may run here, the best first: measured where the choice is open, proven when opened."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.contest import REFUSALS, Contest, samples
from nearsight_npu.errors import (
    DelegateError,
    InputMismatchError,
    ProofFailedError,
    TargetLostError,
    UnplaceableError,
    UnreadableGoldenError,
    UnreadableGraphError,
)
from nearsight_npu.opening import available, beside, let_go, untraced
from nearsight_npu.placement import clear, ranked, slower
from nearsight_npu.policy import Rejected
from nearsight_npu.targets.machine import Machine
from nearsight_npu.tuning import (
    MEASURING,
    TIMINGS,
    Choice,
    ChoiceKey,
    batch_recalled,
    batch_remembered,
    batchable,
    best_batch,
    now,
    processors,
    recalled,
    remember,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.opening import Opened, Opener, Way
    from nearsight_npu.placement import Trial
    from nearsight_npu.targets.target import Port, Program, Setup, Target


@dataclass(slots=True, kw_only=True)
class Refusal:
    """Something that may not run.

    Attributes:
        item: what, and why.
        error: the error behind it.
        told: whether a warning speaks of it: it was asked for by name, or gave wrong numbers.
    """

    item: Rejected
    error: DelegateError
    told: bool


class Candidates:
    """Gives the ways to run a request one after another; a lost target is left out from then on.

    Attributes:
        refused: what was refused so far.
    """

    def __init__(
        self,
        opener: Opener,
        groups: Sequence[Sequence[str | Target]],
        *,
        tuned: bool,
        strict: bool,
        memory_mb: float | None = None,
    ) -> None:
        """Say where to look.

        Args:
            opener: opens the files.
            groups: targets among which the quickest is taken; a later group stands in where an earlier one fails.
            tuned: whether setups are open, too.
            strict: whether what was asked for by name may not be refused.
            memory_mb: megabytes that models may fill; None without a limit.
        """
        self.refused: list[Refusal] = []
        self._opener = opener
        self._groups = groups
        self._tuned = tuned
        self._strict = strict
        self._memory_mb = memory_mb
        self._measured_order: tuple[Trial, ...] = ()
        self._lost: set[str] = set()
        self._ways = self._all()

    def following(self) -> Opened | None:
        """Open the next best way; None after the last.

        Raises:
            DelegateError: under a strict policy, the first refusal of something that was asked for.
        """
        try:
            return next(self._ways, None)
        finally:
            self._opener.forget()

    def lose(self, way: Way, error: TargetLostError) -> None:
        """Leave a target out that failed while it ran."""
        if way.target not in self._lost:
            self._lost.add(way.target)
            # Another error of the same words: this one will know the frame of the run, which knows the program.
            self._note(way.target, way.precision, TargetLostError(str(error)), told=True)

    def leave(self, opened: Opened, why: DelegateError) -> None:
        """Note that a way cannot stand in for the one before it."""
        let_go(opened.program)
        self._note(opened.way.target, opened.way.precision, why, told=True)

    def rejected(self, taken: Way) -> tuple[Rejected, ...]:
        """Give everything but what was taken: what was refused, and what was only slower."""
        refused = tuple(one.item for one in self.refused)
        named = {(item.target, item.precision) for item in refused}
        order = [trial for trial in self._measured_order if trial.pair not in named]
        mine = next((trial for trial in order if trial.pair == (taken.target, taken.precision)), None)
        # What was measured on a lost target may well have been quicker.
        lost = tuple(
            Rejected(target=one.target, precision=one.precision, reason="its target was lost")
            for one in order
            if one.target in self._lost
        )
        there = [trial for trial in order if trial.target not in self._lost]
        return (*refused, *lost) if mine is None else (*refused, *lost, *slower(there, mine))

    def batch(self, opened: Opened, limit: int, shapes: Mapping[str, tuple[int, ...]], *, measure: bool) -> int | None:
        """Find the batch, up to a limit, of which a program does the most in a second; None where that is not known.

        Args:
            opened: the program.
            limit: the longest batch.
            shapes: of the inputs of an earlier run, if there was one: what is drawn is of these.
            measure: whether one that is not remembered is measured; None is the answer otherwise.
        """
        program, memory = opened.program, self._opener.memory
        # A single number, such as the scale of CLIP's scores, is not one of a sample.
        if limit < 2 or not batchable((*program.inputs, *(port for port in program.outputs if port.shape))):
            return 1
        key = f"{opened.way.key.text()} {opened.way.setup} {processors()} within {self._memory_mb} at most {limit}"
        known = batch_recalled(key, memory)
        if known is not None or not measure:
            return known
        drawing = self._opener.request.golden is None
        ports = _as_run(program.inputs, shapes) if drawing else program.inputs
        try:
            arrays = next(iter(samples(self._opener, ports)), None)
        except UnreadableGoldenError:
            return None  # it was read when the session began, and who runs must not fail for want of it
        self._opener.forget()
        if arrays is None:
            return 1
        names = tuple(port.name for port in program.outputs)
        try:
            return batch_remembered(
                key, lambda: best_batch(lambda length: program.run(_repeated(arrays, length), names), limit), memory
            )
        except (TargetLostError, InputMismatchError):
            if not drawing:
                raise
            return None  # drawn inputs that a graph cannot use say nothing about its target

    def _all(self) -> Iterator[Opened]:
        request = self._opener.request
        precisions = tuple(request.paths)
        # Only golden answers say which files may stand for each other; without them the order given is kept.
        lots = [precisions] if request.golden is not None else [(one,) for one in precisions]
        for group in self._groups:
            present, alone = self._present(group), len(group) == 1
            for lot in lots:
                targets = [target for target in present if target.name not in self._lost]
                if targets and (self._tuned or len(targets) * len(lot) > 1):
                    yield from self._quickest(targets, lot, alone=alone)
                elif targets:
                    ready = self._opened(targets[0], lot[0], self._opener.usual(targets[0]), alone=alone)
                    # A generator's frame keeps what it names, and a program would outlive its session.
                    while ready:
                        yield ready.pop()

    def _present(self, group: Sequence[str | Target]) -> list[Target]:
        """Give the targets of a group that can be used here; one that was asked for alone is missed loudly."""
        targets = []
        for choice in group:
            target = available(choice, self._opener.request.title)
            if not isinstance(target, UnplaceableError):
                targets.append(target)
            else:
                self._refuse(choice if isinstance(choice, str) else choice.name, "", target, alone=len(group) == 1)
        return targets

    def _quickest(self, targets: Sequence[Target], lot: Sequence[str], *, alone: bool) -> Iterator[Opened]:
        """Give files on targets in the order that was measured, now or earlier."""
        named = {target.name: target for target in targets}
        choice, ready = self._choice(targets, lot, alone=alone)
        self._measured_order = (*self._measured_order, *choice.trials)
        timed = sum(bool(one.times_ms) for one in choice.setups)
        for place, trial in enumerate(choice.trials):
            if trial.target not in self._lost:
                if not ready:
                    ready = self._opened(named[trial.target], trial.precision, trial.setup, alone=alone)
                reason = f"the {'next ' if place else ''}quickest of {timed} measured" if timed > 1 else ""
                while ready:
                    yield ready.pop().because(reason)

    def _choice(self, targets: Sequence[Target], lot: Sequence[str], *, alone: bool) -> tuple[Choice, list[Opened]]:
        """Give what was measured, and what is open already where that was done just now."""
        memory, key = self._opener.memory, self._key(targets, lot)
        choice = recalled(key, memory)
        if choice is None:
            # Two threads or processes that measured at once would measure each other.
            with MEASURING, memory.alone(TIMINGS):
                choice = recalled(key, memory)
                if choice is None:
                    choice, first, lasting = self._measured(targets, lot, alone=alone)
                    if lasting:
                        remember(key, choice, memory)
                    return choice, first
        for place, item in enumerate(choice.refused):
            error = UnplaceableError(item.reason)
            self.refused.append(Refusal(item=item, error=error, told=place in choice.told))
        return choice, []

    def _measured(
        self, targets: Sequence[Target], lot: Sequence[str], *, alone: bool
    ) -> tuple[Choice, list[Opened], bool]:
        """Measure, and prove each file where it is quickest.

        Returns:
            The choice, its first way, open and proven, if there is one, and whether it may be remembered.
        """
        before = len(self.refused)
        contest = Contest(
            self._opener,
            targets,
            lambda target, precision, error: self._refuse(target, precision, error, alone=alone),
            tuned=self._tuned,
            room_bytes=self._room_bytes(),
        )
        order: list[Trial] = []
        ready: dict[str, Opened] = {}
        try:
            setups = contest.held(lot)
            for trial in ranked(setups):
                if trial.precision not in ready:
                    target = next(target for target in targets if target.name == trial.target)
                    program = contest.programs.pop(trial.untimed, None)
                    opened = self._opened(target, trial.precision, trial.setup, alone=alone, program=program)
                    if not opened:
                        continue
                    ready[trial.precision] = opened.pop()
                order.append(trial)
            lasting = self._missed([precision for precision in lot if precision not in ready], before)
            first = [ready.pop(order[0].precision)] if order else []
        finally:
            # All that is open still, whether or not something was raised.
            for unused in ready.values():
                let_go(unused.program)
            contest.close()
        noted = sorted(self.refused[before:], key=lambda one: lot.index(one.item.precision))
        self.refused[before:] = noted
        choice = Choice(
            name=self._opener.request.title,
            files={precision: self._facts(precision) for precision in lot},
            trials=tuple(order),
            setups=setups,
            refused=tuple(one.item for one in noted),
            told=tuple(place for place, one in enumerate(noted) if one.told),
            measured_at=now(),
            doubtful=any(_passing(one.error) for one in noted) or not clear(order),
        )
        return choice, first, lasting and any(trial.times_ms for trial in order)

    def _missed(self, precisions: Sequence[str], before: int) -> bool:
        """Speak up for files that no target runs; say whether that will be so next time as well."""
        about = [one for one in self.refused[before:] if one.item.precision in precisions]
        for one in about:
            if self._strict:
                raise one.error
            one.told = True
        return all(isinstance(one.error, (UnplaceableError, ProofFailedError)) for one in about)

    def _opened(
        self, target: Target, precision: str, setup: Setup | None, *, alone: bool, program: Program | None = None
    ) -> list[Opened]:
        """Open and prove one way; give nothing where it is refused."""
        reason = "the next choice that holds" if self.refused else "the first choice"
        try:
            if program is None:
                program = self._opener.compiled(target, precision, setup)
            return [self._opener.opened(program, target, precision, setup, reason)]
        except REFUSALS as error:
            if program is not None:
                let_go(program)
                program = None
            self._refuse(target.name, precision, error, alone=alone)
            return []

    def _refuse(self, target: str, precision: str, error: DelegateError, *, alone: bool) -> None:
        if self._strict and alone:
            raise error
        self._note(target, precision, error, told=alone or isinstance(error, ProofFailedError))

    def _note(self, target: str, precision: str, error: DelegateError, *, told: bool) -> None:
        item = Rejected(target=target, precision=precision, reason=str(error))
        self.refused.append(Refusal(item=item, error=untraced(error), told=told))

    def _key(self, targets: Sequence[Target], lot: Sequence[str]) -> ChoiceKey:
        opener = self._opener
        return ChoiceKey(
            files=tuple((precision, self._all_hashes(precision)) for precision in lot),
            golden_hash=opener.golden_hash(),
            targets={target.name: opener.versions(target) for target in targets},
            threads=opener.threads,
            tuned=self._tuned,
            strict=self._strict,
            memory_mb=self._memory_mb,
            processors=processors(),
            processor=Machine().processor(),
        )

    def _all_hashes(self, precision: str) -> str:
        opener = self._opener
        return " ".join((self._facts(precision)[0], *beside(opener.request.paths[precision], opener.memory).values()))

    def _facts(self, precision: str) -> tuple[str, float]:
        """Give the hash and the megabytes of a file; nothing of one that cannot be read, which opening it will tell."""
        try:
            return self._opener.digest(precision), self._opener.bytes(precision) / 1e6
        except UnreadableGraphError:
            return "", 0.0

    def _room_bytes(self) -> float:
        """Say how much may be open at once while measuring: the budget, or half of what is free."""
        if self._memory_mb is not None:
            return self._memory_mb * 1e6
        free = Machine().free_bytes()
        return math.inf if free is None else free / 2


def _passing(error: DelegateError) -> bool:
    """Say whether a refusal may be over soon, though no version changes: a device that failed, a library mended."""
    return isinstance(error, TargetLostError) or isinstance(error.__cause__, ImportError)


def _as_run(ports: Sequence[Port], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Port, ...]:
    """Give ports the lengths that they had in a run; how many samples it answered is left open."""
    return tuple(replace(port, shape=(*port.shape[:1], *shapes.get(port.name, port.shape)[1:])) for port in ports)


def _repeated(arrays: Mapping[str, Array], length: int) -> dict[str, Array]:
    return {name: np.repeat(array[:1], length, axis=0) for name, array in arrays.items()}
