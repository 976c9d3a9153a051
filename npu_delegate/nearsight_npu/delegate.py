"""Finds a target and a precision for a model, proves that they give its answers, and hands out sessions."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.errors import (
    DelegateError,
    InputMismatchError,
    NearsightDelegateWarning,
    ProofFailedError,
    UnplaceableError,
    UnreadableGraphError,
)
from nearsight_npu.golden import UNSTATED, Golden
from nearsight_npu.memory import Memory, file_hash
from nearsight_npu.policy import Policy, Rejected
from nearsight_npu.proof import ProofKey, ProofReport, examine
from nearsight_npu.session import Session
from nearsight_npu.targets.probe import AUTO, FALLBACK, known, target_named

if TYPE_CHECKING:
    import os

    from nearsight_npu.targets.target import Program, Target

    GoldenSource = Golden | str | os.PathLike[str]

_REFUSALS = (UnplaceableError, UnreadableGraphError, ProofFailedError)


class Delegate:
    """Loads models where they can run.

    Example:
        >>> npu = Delegate(target="auto")
        >>> session = npu.load("model.onnx", golden="model.golden.npz")  # doctest: +SKIP
        >>> outputs, decision = session.run({"pixels": pixels})  # doctest: +SKIP
    """

    def __init__(
        self,
        target: str | Target = AUTO,
        policy: Policy | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        """Choose how to choose.

        Args:
            target: "auto", the name of a target, or an object of your own that follows the `Target` protocol.
            policy: how far an answer may go; None is `Policy()`.
            cache_dir: where proofs are remembered; None is the user's cache folder.
            threads: how many threads one run may use; None leaves it to the target.

        Raises:
            UnplaceableError: if no target bears the name.
            InputMismatchError: if `threads` is not a positive whole number.
        """
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InputMismatchError(
                f"threads={threads!r} was asked for; it is a whole number from 1, or None; give one"
            )
        if isinstance(target, str) and target != AUTO and not known(target):
            target_named(target)
        self._target = target
        self._policy = policy or Policy()
        self._memory = Memory(cache_dir)
        self._threads = threads

    def load(
        self,
        files: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
        precision: str = AUTO,
        golden: GoldenSource | None = None,
        name: str | None = None,
        model_hash: str | Mapping[str, str] | None = None,
    ) -> Session:
        """Load a model where it can run, and prove it.

        A precision or target that does not hold is refused; the next one is tried, a warning says so, and every
        decision of the session names what was refused. With `Policy(strict=True)` the first refusal is raised.

        Args:
            files: an ONNX file, or precision -> file in the order of preference.
            precision: "auto" for the first that holds; or one of the precisions; or, for a single file, what it is.
            golden: the golden set, or its `.npz` file; None skips the proof.
            name: what messages call the model; None takes the file's name.
            model_hash: the SHA-256 that the file must have (or precision -> SHA-256); None accepts any file.

        Returns:
            A session that is ready to run.

        Raises:
            InputMismatchError: if there is no such precision.
            UnreadableGraphError: if no file can be read, or none has the hash it must have.
            UnreadableGoldenError: if the golden set cannot be read.
            UnplaceableError: if no target can run any of the files.
            ProofFailedError: if nothing that runs gives the golden answers.
        """
        paths = _wanted(files, precision)
        request = _Request(
            title=name or next(iter(paths.values())).name,
            paths=paths,
            hashes=_expected(model_hash, paths),
            golden=golden,
        )
        refused: list[tuple[Rejected, DelegateError]] = []
        for choice in self._choices():
            target = _available(choice, request.title)
            if isinstance(target, UnplaceableError):
                self._refuse(refused, choice if isinstance(choice, str) else choice.name, "", target)
                continue
            for variant in paths:
                try:
                    program, key, report = self._opened(target, variant, request)
                except _REFUSALS as error:
                    self._refuse(refused, target.name, variant, error)
                    continue
                if refused:
                    warnings.warn(
                        f"{key.name} runs as {variant} on {target.name}, which was not the first choice; "
                        f"refused: {_reasons(refused)}",
                        NearsightDelegateWarning,
                        stacklevel=2,
                    )
                return Session(
                    program,
                    name=key.name,
                    requested=self._target if isinstance(self._target, str) else self._target.name,
                    target=target.name,
                    precision=variant,
                    model_hash=key.model_hash,
                    proof=report,
                    rejected=tuple(rejected for rejected, _ in refused),
                )
        raise _nothing_left(request.title, refused)

    def _choices(self) -> tuple[str | Target, ...]:
        """Give the targets to try, in order; "auto" is the processor, since nothing faster can be run on yet."""
        first = FALLBACK if self._target == AUTO else self._target
        name = first if isinstance(first, str) else first.name
        return (first,) if name == FALLBACK else (first, FALLBACK)

    def _refuse(
        self, refused: list[tuple[Rejected, DelegateError]], target: str, precision: str, error: DelegateError
    ) -> None:
        if self._policy.strict:
            raise error
        refused.append((Rejected(target=target, precision=precision, reason=str(error)), error))

    def _opened(
        self, target: Target, precision: str, request: _Request
    ) -> tuple[Program, ProofKey, ProofReport | None]:
        path, expected = request.paths[precision], request.hashes.get(precision)
        digest = file_hash(path, self._memory)
        if expected is not None and digest != expected.lower():
            raise UnreadableGraphError(
                f"{request.title} ({precision}) was to be loaded; {path.name} has SHA-256 {digest[:12]}..., and "
                f"{expected[:12]}... is expected; fetch the file again (nearsight models verify)"
            )
        program = target.compile(path, self._threads)
        key = ProofKey(
            name=request.title,
            target=target.name,
            precision=precision,
            model_hash=digest,
            golden_hash=_golden_hash(request.golden, self._memory),
            versions=_versions(target, path, self._memory),
        )
        if request.golden is None:
            return program, key, None
        report = _remembered(key, self._memory) or _proven(program, request.golden, key, self._memory)
        if not report.passed:
            raise ProofFailedError(
                f"{request.title} ({precision}) was to run on {target.name}; it does not give its golden answers "
                f"there: {report.reason}; fetch the model again or use another target (nearsight models verify)"
            )
        return program, key, report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What one call of `load` asks for."""

    title: str
    paths: Mapping[str, Path]
    hashes: Mapping[str, str]
    golden: GoldenSource | None


def prove(
    file: str | os.PathLike[str],
    golden: GoldenSource,
    precision: str = UNSTATED,
    target: str | Target = FALLBACK,
    *,
    name: str | None = None,
    threads: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ProofReport:
    """Prove a model file on a target anew, and remember the result; a failure is reported, not raised.

    Args:
        file: an ONNX file.
        golden: its golden set, or the `.npz` file.
        precision: whose floor applies.
        target: the name of a target, or an object that follows the `Target` protocol.
        name: what the report calls the model; None takes the file's name.
        threads: how many threads one run may use; None leaves it to the target.
        cache_dir: where proofs are remembered; None is the user's cache folder.

    Returns:
        What was found.

    Raises:
        UnreadableGraphError: if the file cannot be read.
        UnreadableGoldenError: if the golden set cannot be read.
        UnplaceableError: if the target cannot run it.
    """
    path, memory = Path(file), Memory(cache_dir)
    place = _available(target, name or path.name)
    if isinstance(place, UnplaceableError):
        raise place
    key = ProofKey(
        name=name or path.name,
        target=place.name,
        precision=precision,
        model_hash=file_hash(path, memory),
        golden_hash=_golden_hash(golden, memory),
        versions=_versions(place, path, memory),
    )
    return _proven(place.compile(path, threads), golden, key, memory)


def remembered_proofs(cache_dir: str | os.PathLike[str] | None = None) -> tuple[ProofReport, ...]:
    """Give every proof that this machine remembers, the oldest first; damaged ones are left out.

    Args:
        cache_dir: where proofs are remembered; None is the user's cache folder.
    """
    read = (ProofReport.from_dict(_mapping(entry.get("report"))) for entry in Memory(cache_dir).all("proofs"))
    return tuple(sorted((report for report in read if report is not None), key=lambda report: report.proven_at))


def _available(choice: str | Target, title: str) -> Target | UnplaceableError:
    """Give the target that a choice means, or why it cannot be used here."""
    try:
        target = target_named(choice) if isinstance(choice, str) else choice
    except UnplaceableError as error:
        return error
    found = target.probe()
    if found.available:
        return target
    return UnplaceableError(f"{title} was to run on {target.name}; {found.reason}; {found.remedy}")


def _versions(target: Target, path: Path, memory: Memory) -> dict[str, str]:
    """Name what answers depend on besides the file: libraries, and weights kept beside it ("model.onnx.data")."""
    beside = (place for place in path.parent.glob(f"{glob.escape(path.name)}*data*") if place.is_file())
    return {**target.versions(), **{f"beside {place.name}": file_hash(place, memory) for place in beside}}


def _golden_hash(golden: GoldenSource | None, memory: Memory) -> str:
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


def _remembered(key: ProofKey, memory: Memory) -> ProofReport | None:
    """Give the earlier proof for exactly this key, if it passed; a failure is always looked at again."""
    entry = memory.read("proofs", key.text())
    if entry is None or entry.get("key") != key.text():
        return None
    report = ProofReport.from_dict(_mapping(entry.get("report")))
    return report if report is not None and report.passed else None


def _proven(program: Program, golden: GoldenSource, key: ProofKey, memory: Memory) -> ProofReport:
    report = examine(program, golden if isinstance(golden, Golden) else Golden.load(golden), key)
    trouble = memory.write("proofs", key.text(), {"key": key.text(), "report": report.to_dict()})
    return report if trouble is None else replace(report, flags=(*report.flags, f"could not be remembered: {trouble}"))


def _wanted(files: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]], precision: str) -> dict[str, Path]:
    if not isinstance(files, Mapping):
        return {UNSTATED if precision == AUTO else precision: Path(files)}
    if not files or precision not in (AUTO, *files):
        raise InputMismatchError(
            f"precision {precision!r} was asked for; the files are of {', '.join(files) or 'none'}; choose one of them"
        )
    return {name: Path(path) for name, path in files.items() if precision in (AUTO, name)}


def _expected(model_hash: str | Mapping[str, str] | None, paths: Mapping[str, Path]) -> Mapping[str, str]:
    if model_hash is None:
        return {}
    if isinstance(model_hash, Mapping):
        return model_hash
    if len(paths) > 1:
        raise InputMismatchError(
            f"one model_hash was given for {len(paths)} files ({', '.join(paths)}); give precision -> hash"
        )
    return dict.fromkeys(paths, model_hash)


def _nothing_left(title: str, refused: list[tuple[Rejected, DelegateError]]) -> DelegateError:
    """Make one error of all refusals: the only one, or the kind that says most (a failed proof, a broken file)."""
    errors = [error for _, error in refused]
    if len(errors) == 1:
        return errors[0]
    kinds = {type(error) for error in errors}
    kind = next(kind for kind in (ProofFailedError, UnreadableGraphError, UnplaceableError) if kind in kinds)
    return kind(f"{title} was to be loaded; nothing holds: {_reasons(refused)}")


def _reasons(refused: list[tuple[Rejected, DelegateError]]) -> str:
    return " | ".join(f"{item.precision or 'anything'} on {item.target}: {item.reason}" for item, _ in refused)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
