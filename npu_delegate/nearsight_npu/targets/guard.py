"""Runs a program in a thread of its own, with a deadline on every call, so that a target that hangs holds nobody up."""

from __future__ import annotations

import threading
import weakref
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from nearsight_npu.errors import TargetLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.target import Placement, Port, Program

T = TypeVar("T")
# Seconds that closing waits for the thread to let the program go; freeing a large one takes a fraction of a second.
LEAVING_S = 2.0


class Guarded:
    """A program that is made, run and let go in one thread of its own, each call with a deadline.

    Some runtimes bind what they make to the thread that made it, and some hang. Callers take turns. A call that
    passes the deadline is abandoned together with its thread, which nothing can stop; it, those that wait behind it
    and every later one raise, so that nobody waits longer than the deadline for a target that gives no sign. What a
    call raises reaches the caller as it is.

    Example:
        >>> from pathlib import Path
        >>> from nearsight_npu.targets.cpu import CpuTarget
        >>> path = Path("model.onnx")
        >>> program = Guarded(lambda: CpuTarget().compile(path), 60, "model.onnx on cpu")  # doctest: +SKIP
        >>> program.run({"x": x}, ("y",))  # doctest: +SKIP
    """

    def __init__(self, make: Callable[[], Program], deadline_s: float, what: str) -> None:
        """Make the program.

        Args:
            make: gives the program; called once, in the thread that will run it.
            deadline_s: seconds, above 0, that making and each run may take.
            what: what messages call it, with its target: "model.onnx on qnn".

        Raises:
            TargetLostError: if the program is not made before the deadline.
        """
        self._deadline_s = deadline_s
        self._what = what
        self._lost = ""
        self._turn = threading.Lock()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Shared with the thread, which empties it, so that the program is freed where it was made.
        self._programs: list[Program] = []
        self._idle = threading.Event()
        self._idle.set()
        # It knows nothing of this object, which may therefore be forgotten without `close`.
        thread = threading.Thread(
            target=_serve, args=(self._calls, self._programs), name=f"nearsight: {what}", daemon=True
        )
        self._leave = weakref.finalize(self, _dismiss, self._calls, thread)
        thread.start()
        programs = self._programs

        def begin() -> tuple[tuple[Port, ...], tuple[Port, ...], Placement]:
            program = make()
            programs.append(program)
            return program.inputs, program.outputs, program.placement

        try:
            self.inputs, self.outputs, self.placement = self._ask(begin)
        finally:
            if not programs:
                self._leave.detach()
                self._calls.put(None)

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once; see `Program.run`.

        Raises:
            TargetLostError: if it does not answer before the deadline, has not answered before, or is closed.
        """
        programs = self._programs
        return self._ask(lambda: programs[0].run(arrays, outputs))

    def close(self) -> None:
        """Let the program go in its own thread, after the run that has begun; closing again does nothing."""
        with self._turn:
            self._lost = self._lost or f"{self._what} was to run; it is closed; load it again"
            self._leave()

    def _ask(self, work: Callable[[], T]) -> T:
        call = _Call(work)
        with self._turn:
            if self._lost:
                raise TargetLostError(self._lost)
            # Set, unless an earlier caller was interrupted while it waited.
            self._await(self._idle)
            self._calls.put(call.perform)
            self._idle = call.done
            self._await(call.done)
        return call.answer()

    def _await(self, done: threading.Event) -> None:
        if done.wait(self._deadline_s):
            return
        late = f"no answer within the deadline of {self._deadline_s:g} s, and was abandoned"
        remedy = "load it again, or use another target"
        self._lost = f"{self._what} was to run; an earlier call gave {late}; {remedy}"
        # Should the call ever end, so does its thread; nobody waits for that.
        self._leave.detach()
        self._calls.put(None)
        raise TargetLostError(f"{self._what} gave {late}; {remedy}")


class _Call(Generic[T]):
    """One piece of work, and what came of it."""

    __slots__ = ("_error", "_values", "_work", "done")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._values: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Event()

    def perform(self) -> None:
        with self:
            self._values.append(self._work())

    def answer(self) -> T:
        if self._error is None:
            return self._values[0]
        try:
            raise self._error
        finally:
            # The error knows the frames that know this call: without the way back they are freed at once.
            self._error = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        # Kept for the caller, who raises it.
        self._error = error
        self.done.set()
        return True


def _serve(calls: SimpleQueue[Callable[[], None] | None], programs: list[Program]) -> None:
    while (perform := calls.get()) is not None:
        perform()
        # No arrays are held while waiting for the next call.
        del perform
    programs.clear()


def _dismiss(calls: SimpleQueue[Callable[[], None] | None], thread: threading.Thread) -> None:
    calls.put(None)
    # Also called by the garbage collector, in whatever thread it runs.
    if thread is not threading.current_thread():
        thread.join(LEAVING_S)
