"""Finds a target and a precision for a model, proves that they give its answers, and hands out sessions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

from nearsight_npu.admission import shared_budget
from nearsight_npu.candidates import Candidates
from nearsight_npu.errors import (
    DelegateError,
    InputMismatchError,
    NearsightDelegateWarning,
    ProofFailedError,
    TargetLostError,
    UnplaceableError,
    UnreadableGraphError,
    one_line,
)
from nearsight_npu.footprint import release
from nearsight_npu.golden import UNSTATED, Golden
from nearsight_npu.memory import Memory, file_hash
from nearsight_npu.opening import Opener, Request, available, beside, compiled, golden_hash, let_go, proven
from nearsight_npu.policy import Policy
from nearsight_npu.proof import ProofKey, ProofReport
from nearsight_npu.session import Session
from nearsight_npu.targets.probe import AUTO, FALLBACK, automatic, target_named
from nearsight_npu.targets.target import Setup, Tunable

if TYPE_CHECKING:
    from nearsight_npu.candidates import Refusal
    from nearsight_npu.opening import GoldenSource
    from nearsight_npu.targets.target import Target

    Wish = str | Target


class Delegate:
    """Loads models where they can run.

    Example:
        >>> npu = Delegate(target="auto")
        >>> session = npu.load("model.onnx", golden="model.golden.npz")  # doctest: +SKIP
        >>> outputs, decision = session.run({"pixels": pixels})  # doctest: +SKIP
    """

    def __init__(
        self,
        target: Wish | Sequence[Wish] = AUTO,
        policy: Policy | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> None:
        """Choose how to choose.

        What is left open is measured once on this machine and remembered: with "auto" the target and how its runs use
        the processor (threads, spinning), with `precision="auto"` the file, among those that a golden set admits.

        Args:
            target: "auto" for the quickest that is here; the name of a target; an object of your own that follows the
                `Target` protocol; or a sequence of such names and objects for the quickest of these.
            policy: how far an answer may go; None is `Policy()`.
            cache_dir: where proofs and measurements are remembered; None is the user's cache folder.
            threads: how many threads one run may use; None leaves it open.

        Raises:
            UnplaceableError: if no target bears the name.
            InputMismatchError: if `threads` is not a positive whole number, no target is named, or an argument is of
                another kind.
        """
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise InputMismatchError(
                f"threads={threads!r} was asked for; it is a whole number from 1, or None; give one"
            )
        several = isinstance(target, Sequence) and not isinstance(target, str)
        self._wishes: tuple[Wish, ...] = tuple(target) if several else (target,)  # type: ignore[arg-type, assignment]
        if not self._wishes:
            raise InputMismatchError("target=() was asked for; it names the targets to choose among; give one or more")
        for wish in self._wishes:
            if isinstance(wish, str) and self._wishes != (AUTO,):
                target_named(wish)
            _check_target(wish)
        self._open = several or target == AUTO
        self._requested = ", ".join(wish if isinstance(wish, str) else wish.name for wish in self._wishes)
        if not isinstance(policy, (Policy, NoneType)):
            raise _refusal("policy", policy, "a nearsight_npu.Policy, such as Policy(strict=True)")
        self._policy = policy or Policy()
        self._memory = Memory(cache_dir)
        self._threads = threads
        self._budget = None
        if self._policy.max_memory_mb is not None:
            self._budget = shared_budget(self._policy.max_memory_mb)

    def load(
        self,
        files: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
        precision: str = AUTO,
        golden: GoldenSource | None = None,
        name: str | None = None,
        model_hash: str | Mapping[str, str] | None = None,
    ) -> Session:
        """Load a model where it can run, and prove it.

        Where the choice is open, every file on every target is timed once, the slower ones briefly, and the quickest
        that holds is taken and remembered; without a golden set files keep their order, and only targets are compared.
        What was asked for and does not hold is refused: something else runs instead, a warning says so, and every
        decision of the session names it. With `Policy(strict=True)` the first such refusal is raised.

        Args:
            files: an ONNX file, or precision -> file in the order of preference.
            precision: "auto" for the quickest that the golden set admits, or the first that loads where there is none;
                or one of the precisions; or, for a single file, what it is.
            golden: the golden set, or its `.npz` file; None skips the proof.
            name: what messages call the model; None takes the file's name.
            model_hash: the SHA-256 that the file must have (or precision -> SHA-256); None accepts any file.

        Returns:
            A session that is ready to run.

        Raises:
            InputMismatchError: if there is no such precision, or an argument is of another kind.
            UnreadableGraphError: if no file can be read, or none has the hash it must have.
            UnreadableGoldenError: if the golden set cannot be read.
            UnplaceableError: if no target can run any of the files.
            ProofFailedError: if nothing that runs gives the golden answers.
            TargetLostError: if the only target that is left does not answer before its deadline.
        """
        paths = _wanted(files, precision)
        if golden is not None:
            _check_golden(golden)
        title = name or next(iter(paths.values())).name
        request = Request(title=title, paths=paths, hashes=_expected(model_hash, paths), golden=golden)
        strict = self._policy.strict
        opener = Opener(request, self._memory, threads=self._threads, strict=strict, budget=self._budget)
        candidates = Candidates(
            opener, self._groups(), tuned=self._open, strict=strict, memory_mb=self._policy.max_memory_mb
        )
        opened = candidates.following()
        if opened is None:
            raise _nothing_left(title, candidates.refused)
        told = [one for one in candidates.refused if one.told]
        if told:
            warnings.warn(
                f"{title} runs as {opened.way.precision} on {opened.way.target}, which was not the first choice; "
                f"refused: {_reasons(told)}",
                NearsightDelegateWarning,
                stacklevel=2,
            )
        # Loading a graph of 351 MB leaves 200 MB behind that nobody needs.
        release()
        return Session(opened, candidates, name=title, requested=self._requested, strict=strict)

    def _groups(self) -> tuple[tuple[Wish, ...], ...]:
        """Give the targets to choose among, and what stands in for a single one that was asked for."""
        if self._wishes == (AUTO,):
            return (automatic(),)
        if self._open or self._requested == FALLBACK:
            return (self._wishes,)
        return (self._wishes, (FALLBACK,))


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
        InputMismatchError: if an argument is of another kind.
        UnreadableGraphError: if the file cannot be read.
        UnreadableGoldenError: if the golden set cannot be read.
        UnplaceableError: if the target cannot run it.
        TargetLostError: if the target does not answer before its deadline.
    """
    if not _is_path(file):
        raise _refusal("file", file, "the path of an ONNX file")
    _check_golden(golden)
    _check_target(target)
    path, memory = Path(file), Memory(cache_dir)
    place = available(target, name or path.name)
    if isinstance(place, UnplaceableError):
        raise place
    key = ProofKey(
        name=name or path.name,
        target=place.name,
        precision=precision,
        model_hash=file_hash(path, memory),
        golden_hash=golden_hash(golden, memory),
        versions={**place.versions(), **beside(path, memory)},
    )
    usual = Setup(threads=threads) if isinstance(place, Tunable) else None
    program = compiled(place, path, usual, threads)
    try:
        return proven(program, golden if isinstance(golden, Golden) else Golden.load(golden), key, memory)
    finally:
        let_go(program)


def remembered_proofs(cache_dir: str | os.PathLike[str] | None = None) -> tuple[ProofReport, ...]:
    """Give every proof that this machine remembers, the oldest first; damaged ones are left out.

    Args:
        cache_dir: where proofs are remembered; None is the user's cache folder.
    """
    read = (ProofReport.from_dict(entry.get("report")) for entry in Memory(cache_dir).all("proofs"))
    return tuple(sorted((report for report in read if report is not None), key=lambda report: report.proven_at))


def _wanted(files: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]], precision: str) -> dict[str, Path]:
    paths = [*files.values()] if isinstance(files, Mapping) else [files]
    if not paths or not all(map(_is_path, paths)):
        raise _refusal("files", files, "the path of an ONNX file, or precision -> path")
    if not isinstance(files, Mapping):
        return {UNSTATED if precision == AUTO else precision: Path(files)}
    if precision not in (AUTO, *files):
        raise InputMismatchError(
            f"precision {precision!r} was asked for; the files are of {', '.join(files)}; choose one of them"
        )
    return {name: Path(path) for name, path in files.items() if precision in (AUTO, name)}


def _is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))


def _check_golden(golden: object) -> None:
    if not isinstance(golden, Golden) and not _is_path(golden):
        raise _refusal("golden", golden, "a nearsight_npu.Golden, or the path of its .npz file")


def _check_target(wish: object) -> None:
    if not isinstance(wish, str) and (isinstance(wish, type) or not hasattr(wish, "compile")):
        what = f"the name of a target, such as {AUTO!r} or {FALLBACK!r}, or an object that follows nearsight_npu.Target"
        raise _refusal("target", wish, what)


def _refusal(name: str, value: object, what: str) -> InputMismatchError:
    return InputMismatchError(f"{name}={one_line(repr(value), 60)} was given; it is {what}; give one")


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


def _nothing_left(title: str, refused: Sequence[Refusal]) -> DelegateError:
    """Make one error of all refusals: the only one, or the kind that says most (a failed proof, a broken file)."""
    if not refused:
        return UnplaceableError(
            f"{title} was to be loaded; no target that may be chosen can be used here; use target='{FALLBACK}' "
            "(nearsight doctor shows what is missing)"
        )
    if len({str(one.error) for one in refused}) == 1:
        return refused[0].error
    kinds = {type(one.error) for one in refused}
    order = (ProofFailedError, UnreadableGraphError, UnplaceableError, TargetLostError)
    kind = next(kind for kind in order if kind in kinds)
    return kind(f"{title} was to be loaded; nothing holds: {_reasons(refused)}")


def _reasons(refused: Sequence[Refusal]) -> str:
    return " | ".join(f"{one.item.precision or 'anything'} on {one.item.target}: {one.item.reason}" for one in refused)
