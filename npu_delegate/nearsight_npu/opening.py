"""Opens one file on one target: the right file, compiled, placed where it was to be, and proven."""

from __future__ import annotations

import glob
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.errors import DelegateError, ProofFailedError, UnplaceableError, UnreadableGraphError
from nearsight_npu.footprint import release
from nearsight_npu.golden import DEFAULT_FLOORS, Golden
from nearsight_npu.memory import file_hash
from nearsight_npu.proof import ProofKey, ProofReport, examine
from nearsight_npu.targets.graphfile import graph_file
from nearsight_npu.targets.probe import target_named
from nearsight_npu.targets.target import Setup, Tunable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from nearsight_npu.admission import Budget
    from nearsight_npu.memory import Memory
    from nearsight_npu.targets.target import Program, Target

    GoldenSource = Golden | str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What one call of `load` asks for.

    Attributes:
        title: what messages call the model.
        paths: precision -> file, in the order of preference.
        hashes: precision -> the SHA-256 that its file must have, for those that must have one.
        golden: the golden set, or its file; None proves nothing.
    """

    title: str
    paths: Mapping[str, Path]
    hashes: Mapping[str, str]
    golden: GoldenSource | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to run a model.

    Attributes:
        target: the target's name.
        precision: the variant of the model.
        setup: how runs use the processor; None leaves it to the target.
        key: what its proof holds for; with its file's hash.
        proof: what the proof found; None without a golden set.
        reason: why this one, in one line.
    """

    target: str
    precision: str
    setup: Setup | None
    key: ProofKey
    proof: ProofReport | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model that is ready to run.

    Attributes:
        program: the graph on its target.
        way: what else is known of it, which may be kept when the program is let go.
    """

    program: Program
    way: Way

    @property
    def placement(self) -> str:
        """Which provider took how many operators, how many threads run them, and how often it was loaded: one line."""
        setup, loaded = self.way.setup, getattr(self.program, "note", "")
        parts = (f"{self.way.target}: {self.program.placement}", "" if setup is None else str(setup), loaded)
        return "; ".join(part for part in parts if part)

    def because(self, reason: str) -> Opened:
        """Give the same with another reason; an empty one leaves it."""
        return replace(self, way=replace(self.way, reason=reason)) if reason else self


class Opener:
    """Opens the files of one request."""

    def __init__(
        self,
        request: Request,
        memory: Memory,
        *,
        threads: int | None = None,
        strict: bool = False,
        budget: Budget | None = None,
    ) -> None:
        """Say how to open.

        Args:
            request: what is to be opened.
            memory: where proofs and hashes are remembered.
            threads: how many threads one run may use; None leaves it to the target.
            strict: whether an operator outside the target refuses it.
            budget: what all models together may fill; None without a limit.
        """
        self.request = request
        self.memory = memory
        self.threads = threads
        self._strict = strict
        self._budget = budget
        self._golden_hash: str | None = None
        self._golden: Golden | None = None
        self._versions: dict[str, dict[str, str]] = {}

    def digest(self, precision: str) -> str:
        """Give the SHA-256 of a variant's file.

        Raises:
            UnreadableGraphError: if it cannot be read, or is not the one it must be.
        """
        path, expected = self.request.paths[precision], self.request.hashes.get(precision)
        digest = file_hash(path, self.memory)
        if expected is not None and digest != expected.lower():
            raise UnreadableGraphError(
                f"{self.request.title} ({precision}) was to be loaded; {path.name} has SHA-256 {digest[:12]}..., and "
                f"{expected[:12]}... is expected; fetch the file again (nearsight models verify)"
            )
        return digest

    def bytes(self, precision: str) -> int:
        """Give the size of a variant's file and of the weights beside it; 0 where there is none."""
        path = self.request.paths[precision]
        return sum(file.stat().st_size for file in (path, *_weights_beside(path, self.memory)) if file.is_file())

    def golden(self) -> Golden | None:
        """Give the golden set, read when it is first needed.

        Raises:
            UnreadableGoldenError: if it cannot be read.
        """
        golden, given = self._golden, self.request.golden  # one look: another thread may `forget` at any time
        if golden is None and given is not None:
            golden = self._golden = given if isinstance(given, Golden) else Golden.load(given)
        return golden

    def forget(self) -> None:
        """Let the golden set go until it is needed again."""
        self._golden = None

    def golden_hash(self) -> str:
        """Give the SHA-256 of the golden set, or nothing where there is none."""
        if self._golden_hash is None:
            self._golden_hash = golden_hash(self.request.golden, self.memory)
        return self._golden_hash

    def versions(self, target: Target) -> dict[str, str]:
        """Name what all answers on a target depend on."""
        if target.name not in self._versions:
            self._versions[target.name] = target.versions()
        return self._versions[target.name]

    def usual(self, target: Target) -> Setup | None:
        """Give the setup that a target has by itself with the threads that were asked for; None where it has none."""
        return Setup(threads=self.threads) if isinstance(target, Tunable) else None

    def compiled(self, target: Target, precision: str, setup: Setup | None) -> Program:
        """Make a variant ready on a target.

        Raises:
            UnreadableGraphError: if its file cannot be read, or is not the one it must be.
            UnplaceableError: if the target cannot run it, or a strict policy forbids where its operators run.
            TargetLostError: if the target gives no answer before its deadline.
        """
        path, what = self.request.paths[precision], f"{self.request.title} ({precision}) on {target.name}"
        digests = self.digest(precision), beside(path, self.memory)

        def load() -> Program:
            if (self.digest(precision), beside(path, self.memory)) != digests:
                raise UnreadableGraphError(
                    f"{what} was to be loaded; {path.name} is no longer the file that was proven; load it as a new one"
                )
            return compiled(target, path, setup, self.threads)

        program = load() if self._budget is None else self._budget.admit(load, self.bytes(precision), what)
        if self._strict and program.placement.outside:
            let_go(program)
            elsewhere = ", ".join(f"{operator} on {place}" for operator, place in program.placement.outside)
            raise UnplaceableError(
                f"{self.request.title} ({precision}) was to run on {target.name} and nowhere else; {elsewhere} would "
                "not; export the model without these operators, use another target, or leave strict out"
            )
        return program

    def opened(self, program: Program, target: Target, precision: str, setup: Setup | None, reason: str) -> Opened:
        """Prove a program, if there is anything to prove it by, and give it with all that is known of it.

        Raises:
            ProofFailedError: if it does not give the golden answers.
            UnreadableGoldenError: if the golden set cannot be read.
        """
        request = self.request
        key = ProofKey(
            name=request.title,
            target=target.name,
            precision=precision,
            model_hash=self.digest(precision),
            golden_hash=self.golden_hash(),
            versions={**self.versions(target), **beside(request.paths[precision], self.memory)},
        )
        report = None
        if request.golden is not None:
            report = _remembered(key, self.memory)
        if report is None and (golden := self.golden()) is not None:
            report = proven(program, golden, key, self.memory)
        if report is not None and not report.passed:
            remedy = "fetch the model again or use another target (nearsight models verify)"
            golden = self.golden()
            if golden is not None and precision not in {*DEFAULT_FLOORS, *golden.floors}:
                remedy = (
                    f"held to the floors of fp32; say what it is, precision={' or '.join(map(repr, DEFAULT_FLOORS))}"
                )
            raise ProofFailedError(
                f"{request.title} ({precision}) was to run on {target.name}; it does not give its golden answers "
                f"there: {report.reason}; {remedy}"
            )
        way = Way(target=target.name, precision=precision, setup=setup, key=key, proof=report, reason=reason)
        return Opened(program=program, way=way)


def compiled(target: Target, path: Path, setup: Setup | None, threads: int | None) -> Program:
    """Compile a file, behind a guard where the target declares a deadline in seconds (`deadline_s`)."""

    def make() -> Program:
        if setup is not None and isinstance(target, Tunable):
            return target.compile_as(path, setup)
        return target.compile(path, threads)

    deadline_s = getattr(target, "deadline_s", None)
    if deadline_s is None:
        return make()
    from nearsight_npu.targets.guard import Guarded

    return Guarded(make, deadline_s, f"{path.name} on {target.name}")


def let_go(program: Program) -> None:
    """Free a program, and give its memory back to the system; one that has no `close` goes with its last holder."""
    close = getattr(program, "close", None)
    if close is not None:
        close()
    release()


def untraced(error: DelegateError) -> DelegateError:
    """Take an error's tracebacks away: they know the frames it came through, and these know programs to be freed."""
    known: BaseException | None = error
    while known is not None:
        known.__traceback__ = None
        known = known.__cause__ or known.__context__
    return error


def available(choice: str | Target, title: str) -> Target | UnplaceableError:
    """Give the target that a choice means, or why it cannot be used here."""
    try:
        target = target_named(choice) if isinstance(choice, str) else choice
    except UnplaceableError as error:
        return error
    found = target.probe()
    if found.available:
        return target
    return UnplaceableError(f"{title} was to run on {target.name}; {found.reason}; {found.remedy}")


def beside(path: Path, memory: Memory) -> dict[str, str]:
    """Name the weights kept beside a file ("model.onnx.data"), each with its hash."""
    return {f"beside {place.name}": file_hash(place, memory) for place in _weights_beside(path, memory)}


def _weights_beside(path: Path, memory: Memory) -> list[Path]:
    """Find the files that a graph keeps its weights in, whatever they are called."""
    try:
        digest = file_hash(path, memory)
        names = (memory.read("beside", digest) or {}).get("names")
        if not isinstance(names, list):
            names = [*graph_file(path, "nearsight").beside]
            memory.write("beside", digest, {"names": names})
    except DelegateError:
        # Whoever opens it says what is wrong with it.
        names = []
    places = {path.parent / str(name) for name in names} | {*path.parent.glob(f"{glob.escape(path.name)}*data*")}
    return sorted(place for place in places if place.is_file())


def golden_hash(golden: GoldenSource | None, memory: Memory) -> str:
    """Hash a golden set; a file is hashed as it lies, so that a remembered proof need not open it."""
    if golden is None:
        return ""
    if isinstance(golden, Golden):
        return golden.digest()
    try:
        return file_hash(Path(golden), memory)
    except UnreadableGraphError:
        # The set's own reader says what is wrong with it.
        return Golden.load(golden).digest()


def proven(program: Program, golden: Golden, key: ProofKey, memory: Memory) -> ProofReport:
    """Prove a program, and remember what was found."""
    report = examine(program, golden, key)
    trouble = memory.write("proofs", key.text(), {"key": key.text(), "report": report.to_dict()})
    return report if trouble is None else replace(report, flags=(*report.flags, f"could not be remembered: {trouble}"))


def _remembered(key: ProofKey, memory: Memory) -> ProofReport | None:
    """Give the earlier proof for exactly this key, if it passed; a failure is always looked at again."""
    entry = memory.read("proofs", key.text())
    if entry is None or entry.get("key") != key.text():
        return None
    report = ProofReport.from_dict(entry.get("report"))
    return report if report is not None and report.passed else None
