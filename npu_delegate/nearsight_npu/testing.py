"""Doubles for tests: a session that computes what the test says, a chip that is slow, wrong or lost, and a cloud."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nearsight_npu.errors import InputMismatchError, TargetLostError
from nearsight_npu.loopback import FakeCloud
from nearsight_npu.placement import LONGEST_BATCH
from nearsight_npu.policy import Decision, Measured, Rung
from nearsight_npu.targets.target import Availability, Placement, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from nearsight_npu.arrays import Array
    from nearsight_npu.proof import ProofReport
    from nearsight_npu.targets.target import Port, Program

__all__ = ["FakeCloud", "FakeSession", "FakeTarget"]


class FakeSession:
    """Stands in for a `Session`.

    Attributes:
        calls: the arrays of each run so far, in order.

    Example:
        >>> import numpy as np
        >>> session = FakeSession({"embedding": np.ones((1, 4), np.float32)})
        >>> outputs, decision = session.run({"pixels": np.zeros((1, 8, 8, 3), np.uint8)})
        >>> outputs["embedding"].shape, decision.target, len(session.calls)
        ((1, 4), 'fake', 1)
    """

    def __init__(
        self,
        answer: Mapping[str, Array] | Callable[[Mapping[str, Array]], Mapping[str, Array]],
        *,
        inputs: tuple[Port, ...] = (),
        outputs: tuple[Port, ...] = (),
        name: str = "fake",
        target: str = "fake",
        precision: str = "fp32",
        model_hash: str = "0" * 64,
        best_batch: int | None = None,
    ) -> None:
        """Say what it answers.

        Args:
            answer: the outputs by name, or a function from the arrays to them.
            inputs: what it takes; where given, arrays are checked as a real session checks them.
            outputs: what it gives, for callers that look.
            name: what messages call it.
            target: what decisions name as the target.
            precision: what decisions name as the precision.
            model_hash: what decisions name as the model's hash.
            best_batch: what `batch` gives; None gives its limit.
        """
        self._answer = answer
        self._best_batch = best_batch
        self._closed = False
        self._lock = threading.Lock()
        self.calls: list[dict[str, Array]] = []
        self.inputs = inputs
        self.outputs = outputs
        self.name = name
        self.target = target
        self.precision = precision
        self.model_hash = model_hash
        self.placement = f"{target}: no operators"
        self.proof: ProofReport | None = None

    def run(
        self, arrays: Mapping[str, npt.ArrayLike], outputs: Iterable[str] | None = None
    ) -> tuple[dict[str, Array], Decision]:
        """Answer as `Session.run` does, and note the call.

        Args:
            arrays: input name -> array.
            outputs: the names that are wanted, in a tuple; None for all.

        Returns:
            The outputs by name, and a decision.

        Raises:
            InputMismatchError: if an array does not fit `inputs`, or an output is not among the answers.
            TargetLostError: if the session is closed.
        """
        import numpy as np

        from nearsight_npu.arrays import admitted

        if self._closed:
            raise TargetLostError(f"{self.name} was to run; its session is closed; load it again")
        given = admitted(arrays, self.inputs) if self.inputs else {key: np.asarray(a) for key, a in arrays.items()}
        with self._lock:
            self.calls.append(given)
        begin = time.perf_counter()
        answers = dict(self._answer(given) if callable(self._answer) else self._answer)
        latency_ms = (time.perf_counter() - begin) * 1e3
        wanted = tuple(answers) if outputs is None else tuple(outputs)
        if isinstance(outputs, str) or not wanted or not set(wanted) <= set(answers):
            raise InputMismatchError(
                f"outputs {outputs!r} were asked for; this session gives {', '.join(answers)}; name them in a tuple"
            )
        found = {key: answers[key] for key in wanted}
        return found, Decision(
            requested=self.target,
            target=self.target,
            precision=self.precision,
            model_hash=self.model_hash,
            rungs=(Rung(target=self.target, precision=self.precision, confidence=None, reason="the first choice"),),
            measured=Measured(
                latency_ms=latency_ms,
                bytes_in=sum(array.nbytes for array in given.values()),
                bytes_out=sum(array.nbytes for array in found.values()),
            ),
            placement=self.placement,
        )

    def batch(self, limit: int = LONGEST_BATCH, after_s: float = 0.0) -> int:
        """Give the best batch within the limit, as if it were remembered."""
        del after_s
        return min(limit, self._best_batch or limit)

    def close(self) -> None:
        """Refuse further runs, as a real session does."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class FakeTarget:
    """Stands in for a chip: it answers as `cpu` does, and may be slow, wrong, or lost in mid-run.

    Attributes:
        compiled: the file and the setup of each compilation so far, in order.
        runs: how many runs were begun.
        lost: set it, and runs fail from then on.
        spoil: changes every answer; None leaves them right.
        version: what answers depend on besides the file.

    Example:
        >>> from nearsight_npu import Delegate
        >>> slow, quick = FakeTarget("slow", delay_s=0.01), FakeTarget("quick")
        >>> Delegate([slow, quick]).load("model.onnx").target  # doctest: +SKIP
        'quick'
    """

    tolerance = 1e-4

    def __init__(
        self,
        name: str = "fake",
        *,
        delay_s: float | Callable[[Path, Setup | None], float] = 0.0,
        setups: Sequence[Setup] = (Setup(),),
        outside: Sequence[tuple[str, str]] = (),
        available: bool = True,
        deadline_s: float | None = None,
    ) -> None:
        """Say how it behaves.

        Args:
            name: what it is called.
            delay_s: seconds that a run takes at least; or a function from the file and the setup to them.
            setups: the ways to run on it.
            outside: (operator, where it runs instead) for those that its programs leave to others.
            available: whether it can be used.
            deadline_s: seconds that a call may take; None waits for ever.
        """
        self.name = name
        self.compiled: list[tuple[Path, Setup | None]] = []
        self.runs = 0
        self.lost = False
        self.spoil: Callable[[Mapping[str, Array]], dict[str, Array]] | None = None
        self.version = "1"
        self.deadline_s = deadline_s
        self._delay_s = delay_s
        self._setups = tuple(setups)
        self._outside = tuple(outside)
        self._available = available

    def probe(self) -> Availability:
        """Say whether it can be used."""
        return Availability(
            target=self.name, available=self._available, reason="a double for tests", remedy="use target='cpu'"
        )

    def versions(self) -> dict[str, str]:
        """Name its version."""
        return {self.name: self.version}

    def setups(self, processors: int) -> tuple[Setup, ...]:  # noqa: ARG002  they are the test's
        """Give the setups it was made with."""
        return self._setups

    def compile(self, path: Path, threads: int | None = None) -> Program:
        """Make a graph ready, in the default setup."""
        return self.compile_as(path, Setup(threads=threads))

    def compile_as(self, path: Path, setup: Setup) -> Program:
        """Make a graph ready."""
        from nearsight_npu.targets.cpu import CpuTarget

        self.compiled.append((path, setup))
        delay_s = self._delay_s(path, setup) if callable(self._delay_s) else self._delay_s
        placement = Placement(parts=((self.name, 1),), outside=self._outside)
        return _FakeProgram(CpuTarget().compile(path, 1), self, delay_s, placement)


class _FakeProgram:
    def __init__(self, program: Program, target: FakeTarget, delay_s: float, placement: Placement) -> None:
        self.inputs = program.inputs
        self.outputs = program.outputs
        self.placement = placement
        self._program = program
        self._target = target
        self._delay_s = delay_s

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        self._target.runs += 1
        if self._target.lost:
            raise TargetLostError(f"{self._target.name} failed while running: the card was pulled; push it in")
        time.sleep(self._delay_s)
        found = self._program.run(arrays, outputs)
        return found if self._target.spoil is None else self._target.spoil(found)
