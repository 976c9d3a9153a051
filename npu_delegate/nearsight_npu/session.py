"""A loaded graph that can be run, from any number of threads."""

from __future__ import annotations

import threading
import time
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nearsight_npu.arrays import admitted, chosen
from nearsight_npu.errors import InputMismatchError, NearsightDelegateWarning, TargetLostError, UnplaceableError
from nearsight_npu.footprint import release
from nearsight_npu.opening import let_go
from nearsight_npu.placement import LONGEST_BATCH
from nearsight_npu.policy import Decision, Measured, Rung

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from nearsight_npu.arrays import Array
    from nearsight_npu.candidates import Candidates
    from nearsight_npu.opening import Opened
    from nearsight_npu.policy import Rejected
    from nearsight_npu.proof import ProofReport
    from nearsight_npu.targets.target import Port


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stand:
    """What runs now, and how it came to that; replaced as a whole, so that every decision is of one piece."""

    opened: Opened
    rungs: tuple[Rung, ...]
    rejected: tuple[Rejected, ...]


class Session:
    """One graph on one target; made by `Delegate.load`.

    If its target is lost while it runs, the session goes on with the next choice that holds, says so in a warning, and
    every later decision names the loss.

    Attributes:
        name: what messages call the model.
        inputs: the arrays the graph takes.
        outputs: the arrays the graph gives.
    """

    def __init__(self, opened: Opened, candidates: Candidates, *, name: str, requested: str, strict: bool) -> None:
        """Stand on what was opened.

        Args:
            opened: what runs.
            candidates: what may stand in for it.
            name: what messages call the model.
            requested: the target that was asked for.
            strict: whether a lost target is raised instead of replaced.
        """
        self._candidates = candidates
        self._requested = requested
        self._strict = strict
        self._falling = threading.Lock()
        self._closed = False
        # Seconds of all runs, and the shapes of the last; threads may lose some to each other, and nothing hangs on it.
        self._ran_s = 0.0
        self._ran: dict[str, tuple[int, ...]] = {}
        self._batches: dict[tuple[str, str, int], int | None] = {}
        # What runs is let go when the session closes; what is known of it stays.
        self._way = opened.way
        self._stand: _Stand | None = self._standing(opened, ())
        self.name = name
        self.inputs: tuple[Port, ...] = opened.program.inputs
        self.outputs: tuple[Port, ...] = opened.program.outputs

    @property
    def target(self) -> str:
        """The target that it runs on."""
        return self._way.target

    @property
    def precision(self) -> str:
        """The variant of the model that runs."""
        return self._way.precision

    @property
    def model_hash(self) -> str:
        """SHA-256 of the model file that runs."""
        return self._way.key.model_hash

    @property
    def placement(self) -> str:
        """Which provider took how many operators, and how many threads run them, in one line; empty when closed."""
        stand = self._stand
        return "" if stand is None else stand.opened.placement

    @property
    def proof(self) -> ProofReport | None:
        """What its proof found; None without a golden set."""
        return self._way.proof

    def run(
        self, arrays: Mapping[str, npt.ArrayLike], outputs: Iterable[str] | None = None
    ) -> tuple[dict[str, Array], Decision]:
        """Run the graph once.

        Args:
            arrays: input name -> array of exactly the type and axes in `inputs`.
            outputs: the names that are wanted, in a tuple; None for all.

        Returns:
            The outputs by name, and how they came about.

        Raises:
            InputMismatchError: if an array or a name does not fit.
            TargetLostError: if the session is closed, or the target fails and nothing may stand in for it.
        """
        # One look, so that `close` from another thread lets this run end.
        stand = self._open()
        names = chosen(outputs, self.outputs)
        checked = admitted(arrays, self.inputs)
        while True:
            begin = time.perf_counter()
            try:
                found = stand.opened.program.run(checked, names)
            except TargetLostError as error:
                stand = self._after(stand, error)
            else:
                taken_s = time.perf_counter() - begin
                self._ran_s += taken_s
                self._ran = {name: array.shape for name, array in checked.items()}
                return found, self._decision(stand, checked, found, taken_s * 1e3)

    def batch(self, limit: int = LONGEST_BATCH, after_s: float = 0.0) -> int:
        """Say of how many samples this graph does the most in a second here; measured once, then remembered.

        Args:
            limit: the longest batch to be considered.
            after_s: seconds that runs of this session have to have taken before it is measured, so that whoever runs
                little does not wait; until then the answer is what is remembered, or else the limit.

        Returns:
            A number of samples from 1 to `limit`; 1 for a graph whose first axes are not all free (single numbers that
            it gives left out), and the limit where there is nothing to measure with: the golden set is gone, or drawn
            inputs do not suit the graph.

        Raises:
            InputMismatchError: if `limit` is not a whole number from 1.
            TargetLostError: if the session is closed, or the target fails and nothing may stand in for it.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise InputMismatchError(f"batch(limit={limit!r}) was asked for; it is a whole number from 1; give one")
        stand, measure = self._open(), self._ran_s >= after_s
        while True:
            key = (stand.opened.way.target, stand.opened.way.precision, limit)
            try:
                # Kept even if unknown: asking the disk before each run would cost a run of a small graph 1 %.
                if key not in self._batches or (self._batches[key] is None and measure):
                    self._batches[key] = self._candidates.batch(stand.opened, limit, self._ran, measure=measure)
            except TargetLostError as error:
                stand = self._after(stand, error)
            else:
                return self._batches[key] or limit

    def close(self) -> None:
        """Let the graph go; runs that have begun still end. Closing again does nothing."""
        self._closed = True
        stand, self._stand = self._stand, None
        if stand is not None:
            let_go(stand.opened.program)
            del stand
            release()

    def _open(self) -> _Stand:
        stand = self._stand
        if stand is None:
            raise TargetLostError(f"{self.name} was to run; its session is closed; load it again")
        return stand

    def _standing(self, opened: Opened, fallen: tuple[Rung, ...]) -> _Stand:
        way = opened.way
        rung = Rung(target=way.target, precision=way.precision, confidence=None, reason=way.reason)
        return _Stand(opened=opened, rungs=(*fallen, rung), rejected=self._candidates.rejected(way))

    def _after(self, stand: _Stand, error: TargetLostError) -> _Stand:
        """Give what stands in for a target that was lost; of several threads that lost it, one finds it for all."""
        with self._falling:
            now = self._open()
            if now is not stand:
                return now
            if self._strict:
                raise error
            self._candidates.lose(stand.opened.way, error)
            opened = self._fitting()
            if opened is None:
                raise error
            lost = replace(stand.rungs[-1], reason=f"lost while it ran: {error}", failed=True)
            now = self._standing(opened, (*stand.rungs[:-1], lost))
            self._way, self._stand = opened.way, now
            let_go(stand.opened.program)
            if self._closed:
                # Closed while this was being opened.
                self.close()
        warnings.warn(
            f"{self.name} goes on as {now.rungs[-1].precision} on {now.rungs[-1].target}; {lost.precision} on "
            f"{lost.target} was lost: {error}",
            NearsightDelegateWarning,
            stacklevel=3,
        )
        return now

    def _fitting(self) -> Opened | None:
        """Open the next way that takes and gives the same arrays."""
        while (opened := self._candidates.following()) is not None:
            mine, others = (self.inputs, self.outputs), (opened.program.inputs, opened.program.outputs)
            if all(_interchangeable(ports, other) for ports, other in zip(mine, others, strict=True)):
                return opened
            self._candidates.leave(
                opened,
                UnplaceableError(
                    f"{self.name} ({opened.way.precision}) was to stand in on {opened.way.target}; it takes and gives "
                    "other arrays; load it by itself"
                ),
            )
        return None

    def _decision(
        self, stand: _Stand, arrays: Mapping[str, Array], found: Mapping[str, Array], latency_ms: float
    ) -> Decision:
        way = stand.opened.way
        return Decision(
            requested=self._requested,
            target=way.target,
            precision=way.precision,
            model_hash=way.key.model_hash,
            rungs=stand.rungs,
            measured=Measured(
                latency_ms=latency_ms,
                bytes_in=sum(array.nbytes for array in arrays.values()),
                bytes_out=sum(array.nbytes for array in found.values()),
            ),
            rejected=stand.rejected,
            placement=stand.opened.placement,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._stand is None else "open"
        return f"<Session {self.name}: {self.precision} on {self.target}, {state}>"


def _interchangeable(ports: Sequence[Port], others: Sequence[Port]) -> bool:
    """Say whether arrays that fit some ports fit others, which may leave more lengths free."""
    return [(port.name, port.dtype, len(port.shape)) for port in ports] == [
        (port.name, port.dtype, len(port.shape)) for port in others
    ] and all(
        length == other or not isinstance(other, int)
        for port, new in zip(ports, others, strict=True)
        for length, other in zip(port.shape, new.shape, strict=True)
    )
