"""A loaded graph that can be run, from any number of threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nearsight_npu.arrays import admitted, chosen
from nearsight_npu.errors import TargetLostError
from nearsight_npu.policy import Decision, Measured, Rung

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

    import numpy.typing as npt

    from nearsight_npu.arrays import Array
    from nearsight_npu.policy import Rejected
    from nearsight_npu.proof import ProofReport
    from nearsight_npu.targets.target import Port, Program


class Session:
    """One graph on one target; made by `Delegate.load`."""

    def __init__(
        self,
        program: Program,
        *,
        name: str,
        requested: str,
        target: str,
        precision: str,
        model_hash: str,
        proof: ProofReport | None = None,
        rejected: tuple[Rejected, ...] = (),
    ) -> None:
        self._program: Program | None = program
        self._requested = requested
        self._rejected = rejected
        reason = "the next choice that holds" if rejected else "the first choice"
        self._rungs = (Rung(target=target, precision=precision, confidence=None, reason=reason),)
        self.inputs: tuple[Port, ...] = program.inputs
        self.outputs: tuple[Port, ...] = program.outputs
        self.name = name
        self.target = target
        self.precision = precision
        self.model_hash = model_hash
        self.proof = proof

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
            TargetLostError: if the session is closed or the target fails.
        """
        # One look, so that `close` from another thread lets this run end.
        program = self._program
        if program is None:
            raise TargetLostError(f"{self.name} was to run; its session is closed; load it again")
        names = chosen(outputs, self.outputs)
        checked = admitted(arrays, self.inputs)
        begin = time.perf_counter()
        found = program.run(checked, names)
        latency_ms = (time.perf_counter() - begin) * 1e3
        decision = Decision(
            requested=self._requested,
            target=self.target,
            precision=self.precision,
            model_hash=self.model_hash,
            rungs=self._rungs,
            measured=Measured(
                latency_ms=latency_ms,
                bytes_in=sum(array.nbytes for array in checked.values()),
                bytes_out=sum(array.nbytes for array in found.values()),
            ),
            rejected=self._rejected,
        )
        return found, decision

    def close(self) -> None:
        """Let the graph go; runs that have begun still end. Closing again does nothing."""
        self._program = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._program is None else "open"
        return f"<Session {self.name}: {self.precision} on {self.target}, {state}>"
