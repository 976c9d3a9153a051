"""What a place to run a graph has to offer: the narrow protocols that the delegate knows chips by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One named array that a graph takes or gives.

    Attributes:
        name: the array's name in the graph.
        dtype: its numpy name, such as "float32" or "uint8".
        shape: one entry per axis: a length, or the name of a length that varies ("?" where the graph names none).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        axes = ", ".join(str(length) for length in self.shape)
        return f"{self.name} {self.dtype} ({axes})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether a target can be used on this machine, and why.

    Attributes:
        target: the target's name.
        available: whether `Delegate(target=...)` can run on it now.
        reason: one line: what was found, or what is missing.
        remedy: the command or the choice that mends it; empty where nothing has to be mended.
        simulator: whether it gives a chip's answers without the chip: right, but not at its speed. "auto" leaves those
            out; they are asked for by name.
    """

    target: str
    available: bool
    reason: str
    remedy: str = ""
    simulator: bool = False

    def to_dict(self) -> dict[str, object]:
        """Give the same as a dictionary that `json.dumps` takes."""
        return {
            "target": self.target,
            "available": self.available,
            "reason": self.reason,
            "remedy": self.remedy,
            "simulator": self.simulator,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How the runs of a program use the processor.

    Attributes:
        threads: how many threads one run may use; None leaves it to the target.
        spinning: whether its threads stay awake between two pieces of work: quicker on idle cores, slower on shared
            ones.
    """

    threads: int | None = None
    spinning: bool = False

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        told = "its own number of threads" if self.threads is None else f"{self.threads} thread{plural}"
        return f"{told}, spinning" if self.spinning else told


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the operators of a program run, as the runtime itself tells it.

    Attributes:
        parts: (provider, how many operators it took), the most first; empty where the runtime does not tell.
        outside: (operator, where it runs instead) for those that do not run on the target itself.
    """

    parts: tuple[tuple[str, int], ...] = ()
    outside: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if not self.parts:
            return "placement not told by this runtime"
        return ", ".join(f"{count} operator{'s' * (count != 1)} on {provider}" for provider, count in self.parts)


class Program(Protocol):
    """A graph made ready on one target; `run` may be called from several threads at once."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The arrays the graph takes."""
        ...

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The arrays the graph gives."""
        ...

    @property
    def placement(self) -> Placement:
        """Where its operators run."""
        ...

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph once.

        Args:
            arrays: one array per input, already checked against `inputs`.
            outputs: the names wanted, each one of `outputs`.

        Returns:
            The wanted arrays by name, in the order asked.

        Raises:
            InputMismatchError: if the graph finds the values or the lengths unusable.
            TargetLostError: if the target itself fails.
        """
        ...


class Target(Protocol):
    """A kind of place to run a graph.

    The `reference` target defines what a graph means. Any other target states its `tolerance`: for a graph in FP32,
    the largest difference it may show to the reference, as a share of the largest absolute value of that output.
    """

    @property
    def name(self) -> str:
        """What `Delegate(target=...)` calls it."""
        ...

    @property
    def tolerance(self) -> float:
        """Largest difference to the reference target, as a share of the output's largest absolute value."""
        ...

    def probe(self) -> Availability:
        """Say whether it can be used here, without importing its library."""
        ...

    def versions(self) -> dict[str, str]:
        """Name what an answer depends on besides the graph: libraries, drivers, the chip."""
        ...

    def compile(self, path: Path, threads: int | None = None) -> Program:
        """Make a graph ready to run.

        Args:
            path: an ONNX file.
            threads: how many threads one run may use; None leaves it to the target.

        Returns:
            The graph, ready.

        Raises:
            UnreadableGraphError: if the file is missing, cut off, or no graph.
            UnplaceableError: if the graph is sound, but this target cannot run it.
        """
        ...


@runtime_checkable
class Tunable(Protocol):
    """A target whose programs can be set up in several ways, so that the quickest is found by measuring."""

    def setups(self, processors: int) -> tuple[Setup, ...]:
        """Give the ways worth measuring on a machine with so many processors, the default first."""
        ...

    def compile_as(self, path: Path, setup: Setup) -> Program:
        """Make a graph ready in one of these ways; raises what `Target.compile` raises."""
        ...
