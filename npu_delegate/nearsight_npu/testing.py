"""Doubles for tests: a session that computes what the test says, and a machine elsewhere that answers what it says."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nearsight_npu.errors import InputMismatchError, TargetLostError
from nearsight_npu.loopback import FakeCloud
from nearsight_npu.policy import Decision, Measured, Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from nearsight_npu.arrays import Array
    from nearsight_npu.proof import ProofReport
    from nearsight_npu.targets.target import Port

__all__ = ["FakeCloud", "FakeSession"]


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
        """
        self._answer = answer
        self._closed = False
        self._lock = threading.Lock()
        self.calls: list[dict[str, Array]] = []
        self.inputs = inputs
        self.outputs = outputs
        self.name = name
        self.target = target
        self.precision = precision
        self.model_hash = model_hash
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
        )

    def close(self) -> None:
        """Refuse further runs, as a real session does."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
