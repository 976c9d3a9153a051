"""One budget of memory for many models: those unused for longest make room, and what they filled really comes back."""

from __future__ import annotations

import itertools
import sys
import threading
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet, WeakValueDictionary

from nearsight_npu.errors import DelegateError, TargetLostError, UnplaceableError
from nearsight_npu.footprint import release, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.target import Placement, Port, Program

MB = 1e6
# Times its file that a program may fill, for as long as it was never weighed: half-precision weights are widened
# (2.05 times were seen), and integer ones packed (1.4 times).
WIDENING = 2
CRUMBS = 0.25 * MB  # growth that is not worth the time of a closer look


def shared_budget(limit_mb: float) -> Budget:
    """Give the one budget that all in this process share who ask for so many megabytes."""
    with _BUDGETS_LOCK:
        return _BUDGETS.setdefault(limit_mb, Budget(limit_mb))


class Budget:
    """So many megabytes, shared by programs that are loaded when they are needed and let go when others need the room.

    What a program fills is weighed, not guessed: the process's memory before and after its first load, and again
    after a run on more data than it ever had. For these the others wait. The first load of all brings the runtime's
    library as well, so what comes back when a program goes puts its figure right. Runs at once count each; one for
    which there is no room waits.

    At rest all programs together fill no more than the limit. Two things go beyond it for a moment: a load, which
    holds a file twice, and a run on more data than before; after it, others make room, or the program itself where it
    needs more than all of it. What else the process allocates while something is weighed is taken for a part of it.
    """

    def __init__(self, limit_mb: float, weigh: Callable[[], int | None] = resident_bytes) -> None:
        """Start with nothing loaded.

        Args:
            limit_mb: megabytes, above 0, that all programs together may fill.
            weigh: gives the bytes that the process fills, or None where nobody knows; files' sizes then count.
        """
        self.limit_mb = limit_mb
        self._limit = limit_mb * MB
        self._weigh = weigh
        self._changed = threading.Condition()
        # Weak: a program that nobody can run any more takes no room.
        self._seats: WeakSet[_Seat] = WeakSet()
        self._clock = itertools.count()
        self._alone = False
        self._waiting_first = 0
        self._begun = 0

    @property
    def held_bytes(self) -> float:
        """What all loaded programs fill, in bytes."""
        with self._changed:
            return self._held()

    def admit(self, load: Callable[[], Program], size_bytes: int, what: str) -> Resident:
        """Load a program within the budget.

        Args:
            load: gives the program; called again, in whatever thread needs it, after it has made room for others. It
                sees to it by itself that this is still the same file.
            size_bytes: what it fills at least: the size of its file.
            what: what messages call it.

        Returns:
            A program that is loaded whenever it runs.

        Raises:
            UnplaceableError: if it fills more than the whole budget.
        """
        seat = _Seat(load, size_bytes, what)
        with self._changed:
            self._seats.add(seat)
        return Resident(self, seat)

    def begin(self, seat: _Seat, given: int) -> tuple[Program, _Run]:
        """Load a program if it is not, and keep it until `end`.

        Args:
            seat: the program's place.
            given: bytes of the arrays it will run on.

        Returns:
            The program, and what `end` is to be told.
        """
        with self._changed:
            alone = given > seat.fits
            # Those who need room, or to be alone, go before those who need neither, or they might wait for ever.
            first = alone or seat.program is None
            self._waiting_first += first
            try:
                self._changed.wait_for(lambda: self._may_begin(seat, alone=alone, first=first))
            finally:
                self._waiting_first -= first
                self._changed.notify_all()
            if seat.closed:
                raise TargetLostError(f"{seat.what} was to run; its session is closed; load it again")
            if seat.program is None:
                self._refuse_too_large(seat)
            elif alone and seat.blurred:
                # What a run needs is seen in a program of which everything else is known.
                self._evict(seat)
            self._make_room(seat, given)
            seat.running += 1
            seat.together = max(seat.together, seat.running)
            seat.used = next(self._clock)
            self._alone = alone
            self._begun += 1
            number = self._begun
            undisturbed = not any(other.running for other in self._seats if other is not seat) and seat.running == 1
        try:
            program = self._loaded(seat) if seat.program is None else seat.program
        except BaseException:
            # Ctrl-C as well: a seat that stays taken would never be let go.
            self.end(seat)
            raise
        before = (self._weighed() if alone else self._weigh() or 0) if undisturbed else 0
        return program, _Run(given, before, number)

    def end(self, seat: _Seat, run: _Run | None = None) -> None:
        """Note that a run is over, successful or not.

        Args:
            seat: the program's place.
            run: what `begin` gave; None if it gave nothing.
        """
        with self._changed:
            seat.running -= 1
            self._alone = False
            if run and run.before and run.number == self._begun:
                self._note(seat, run.given, self._grown(run.before))
            elif run:
                seat.blurred = True
                seat.fits = max(seat.fits, run.given)
            self._evict_until(self._limit)
            if seat.closed and not seat.running:
                self._evict(seat)
            self._changed.notify_all()

    def close(self, seat: _Seat) -> None:
        """Let a program go for good, after the runs that have begun."""
        with self._changed:
            seat.closed = True
            if not seat.running:
                self._evict(seat)
            self._changed.notify_all()

    def _note(self, seat: _Seat, given: int, grown: int) -> None:
        """Keep how much a run of this size needs; let a program go that needs more than there is."""
        known = seat.activations
        seat.grown += grown
        seat.activations = max(known, seat.grown)
        if seat.weights + seat.activations > self._limit:
            self._evict(seat)
        if seat.weights + seat.activations > self._limit:
            seat.activations, seat.overflows = known, min(seat.overflows, given)
            seat.fits = min(seat.fits, given - 1)
        else:
            seat.fits = max(seat.fits, given)

    def _grown(self, before: int) -> int:
        """Say how many bytes more the process fills; few of them are no reason to tidy up first."""
        return max(self._weighed() - before, 0) if (self._weigh() or 0) - before > CRUMBS else 0

    def _weighed(self) -> int:
        release()
        return self._weigh() or 0

    def _may_begin(self, seat: _Seat, *, alone: bool, first: bool) -> bool:
        if seat.closed:
            return True
        others = [other for other in self._seats if other.running and other is not seat]
        if alone:
            return not others and not seat.running
        # Another thread may be loading it just now.
        if self._alone or (self._waiting_first and not first) or (seat.program is None and seat.running):
            return False
        return sum(map(self._needed, others)) + self._needed(seat, seat.running + 1) <= self._limit

    def _make_room(self, seat: _Seat, given: int) -> None:
        counted = self._needed(seat) if seat.program is not None else 0
        coming = self._needed(seat, seat.running + 1) - counted
        # A run known to need more than there is has everything to itself.
        self._evict_until(self._limit - coming if given < seat.overflows else counted, spared=seat)

    def _loaded(self, seat: _Seat) -> Program:
        first = not seat.loads
        before = self._weighed() if first else 0
        try:
            program = seat.load()
        except DelegateError as error:
            if not seat.loads:
                raise
            raise TargetLostError(f"{seat.what} had made room and was to be loaded again; {error}") from error
        if first:
            seat.weights = max(seat.weights, self._weighed() - before)
        with self._changed:
            seat.program = program
            seat.grown, seat.blurred = 0, False
            seat.loads += 1
            self._changed.notify_all()
        release()
        if seat.weights > self._limit:
            # Else the error, which knows this frame, would keep it alive.
            del program
            with self._changed:
                self._evict(seat)
                self._refuse_too_large(seat)
            return self._loaded(seat)
        return program

    def _refuse_too_large(self, seat: _Seat) -> None:
        if seat.weights > self._limit:
            raise UnplaceableError(
                f"{seat.what} was to be loaded; it fills {seat.weights / MB:.1f} MB, and all models together may fill "
                f"{self.limit_mb:g} MB; raise max_memory_mb, or load a smaller precision"
            )

    def _needed(self, seat: _Seat, runs: int = 1) -> float:
        """Give what a program fills that was made for so many runs at once, at least."""
        if not seat.loads:
            return min(WIDENING * seat.weights, self._limit)
        return seat.weights + seat.activations * max(seat.together, runs)

    def _held(self) -> float:
        return sum(self._needed(seat) for seat in self._seats if seat.program is not None or seat.running)

    def _evict_until(self, limit: float, spared: _Seat | None = None) -> None:
        while self._held() > limit:
            idle = [
                seat for seat in self._seats if seat.program is not None and not seat.running and seat is not spared
            ]
            if not idle:
                return
            self._evict(min(idle, key=lambda seat: seat.used))

    def _evict(self, seat: _Seat) -> None:
        program, seat.program = seat.program, None
        if program is None:
            return
        alone = not any(other.running for other in self._seats if other is not seat)
        before = self._weighed()
        if hasattr(program, "close"):
            program.close()
        del program
        came_back = before - self._weighed()
        if alone and seat.loads == 1 and before:
            too_much = seat.weights + seat.activations * max(seat.together, 1) - came_back
            seat.weights = max(seat.weights - max(too_much, 0), seat.size_bytes)
        seat.together = 0


class Resident:
    """A program within a budget; it is itself a `Program`, loaded whenever it runs.

    Attributes:
        inputs: the arrays the graph takes.
        outputs: the arrays the graph gives.
        placement: where its operators run.
    """

    def __init__(self, budget: Budget, seat: _Seat) -> None:
        self._budget = budget
        self._seat = seat
        program, run = budget.begin(seat, 0)
        try:
            self.inputs: tuple[Port, ...] = program.inputs
            self.outputs: tuple[Port, ...] = program.outputs
            self.placement: Placement = program.placement
        finally:
            del program
            budget.end(seat, run)

    @property
    def loads(self) -> int:
        """How often it was loaded; more than once where it made room, or had to be weighed afresh."""
        return self._seat.loads

    @property
    def note(self) -> str:
        """What a decision says about it in a few words; empty while it was loaded only once."""
        if self.loads == 1:
            return ""
        short = ": a run alone fills more; raise max_memory_mb" if self._seat.overflows < sys.maxsize else ""
        return f"loaded {self.loads} times within {self._budget.limit_mb:g} MB{short}"

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once, loading it first if it made room for others; see `Program.run`.

        Raises:
            TargetLostError: if it is closed, or cannot be loaded again.
        """
        given = sum(array.nbytes for array in arrays.values())
        program, run = self._budget.begin(self._seat, given)
        try:
            return program.run(arrays, outputs)
        finally:
            # The budget frees it; nothing here may hold it.
            del program
            self._budget.end(self._seat, run)

    def close(self) -> None:
        """Let it go, after the runs that have begun; closing again does nothing."""
        self._budget.close(self._seat)


class _Run(NamedTuple):
    """A run that has begun.

    Attributes:
        given: bytes of the arrays that it runs on.
        before: bytes that the process filled before it; 0 where others ran as well, or nobody knows.
        number: how many runs had begun by then.
    """

    given: int
    before: int
    number: int


class _Seat:
    """What a budget knows of one program; bytes are those that it was seen to fill."""

    __slots__ = (
        "__weakref__",
        "activations",
        "blurred",
        "closed",
        "fits",
        "grown",
        "load",
        "loads",
        "overflows",
        "program",
        "running",
        "size_bytes",
        "together",
        "used",
        "weights",
        "what",
    )

    def __init__(self, load: Callable[[], Program], size_bytes: int, what: str) -> None:
        self.load = load
        self.what = what
        self.size_bytes = size_bytes
        self.weights = size_bytes
        self.activations = 0
        self.fits = -1  # bytes of arrays in the largest run that fits into the budget; below 0, not even loaded
        self.overflows = sys.maxsize  # bytes of arrays in the smallest run that does not
        self.program: Program | None = None
        self.grown = 0  # by how much it grew since it was loaded
        self.blurred = False  # whether some of that went unseen, since others ran as well
        self.loads = 0
        self.running = 0
        self.together = 0  # the most runs at once since it was loaded; each has activations of its own
        self.used = 0
        self.closed = False


_BUDGETS: WeakValueDictionary[float, Budget] = WeakValueDictionary()
_BUDGETS_LOCK = threading.Lock()
