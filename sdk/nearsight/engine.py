"""Joins a model's files with the delegate: the one place where the two lower floors meet."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import nearsight_models
from nearsight.errors import InputError, translated
from nearsight_npu import Delegate, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from nearsight_models import Manifest
    from nearsight_npu import Decision, ProofReport, Session

AUTO = "auto"
GRAPH = ".onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What `verify_model` found for one graph.

    Attributes:
        model: Name of the model.
        role: Which of its graphs, such as `image` or `text`.
        precision: Which of that graph's files.
        target: Where it was proven.
        ok: Whether files and proof hold.
        reason: Why not, or an empty text.
        proof: The proof's figures; None where it could not be made.
    """

    model: str
    role: str
    precision: str
    target: str
    ok: bool
    reason: str
    proof: ProofReport | None

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-able values."""
        return {
            "model": self.model,
            "role": self.role,
            "precision": self.precision,
            "target": self.target,
            "ok": self.ok,
            "reason": self.reason,
            "proof": self.proof.to_dict() if self.proof else None,
        }


class Engine:
    """A model's graphs, each loaded and proven at its first use.

    Args:
        model: Name of a model that has a manifest, or of a family.
        capability: What it shall serve: `search`, `detect` or `caption`.
        target: Where to run, as `nearsight doctor` lists them; `auto` lets the delegate choose.
        precision: Which files to prefer; `auto` takes the quickest that the golden set admits, or without one the
            manifest's order.
        policy: How the delegate may behave.
        threads: Threads of one run; None leaves it to the delegate, which measures.

    Raises:
        UnknownModelError: If no manifest bears the name, or none of that name serves the capability.
        MissingFilesError: If one of the model's files is not there.
        InputError: If no graph of the model comes in the precision.
    """

    def __init__(
        self,
        model: str,
        *,
        capability: str,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> None:
        with translated():
            self.manifest: Manifest = nearsight_models.load(model, capability)
            self._delegate = Delegate(target=target, policy=policy, threads=threads)
        known = sorted({one for role in self.roles for one in self.manifest.files[role]})
        if precision not in {AUTO, *known}:
            raise InputError(
                f"model {model!r} has no precision {precision!r} to {capability} with; it has {', '.join(known)}"
            )
        self._precision = precision
        self._wishes = (target, precision, policy, threads)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    @classmethod
    def shared(cls, model: str, *, capability: str, **wishes: Any) -> Engine:
        """Give the engine that somebody in this process already holds for the same page and wishes, or a new one.

        Search and captioning stand on one picture tower: it is loaded once. The wishes are the constructor's.
        """
        made = cls(model, capability=capability, **wishes)
        # All that the page says, for its readers take settings, assets and space from the engine that they are given.
        return _held.setdefault((repr(made.manifest), made._wishes), made)

    @property
    def roles(self) -> tuple[str, ...]:
        """The model's graphs; other files of a page, such as a vocabulary, are none."""
        return tuple(
            role for role, files in self.manifest.files.items() if any(f.path.suffix == GRAPH for f in files.values())
        )

    def session(self, role: str) -> Session:
        """Load the graph of this role, or return the loaded one.

        Raises:
            DelegateError: If no file of it can be placed and proven.
        """
        with self._lock:
            files = self.manifest.files[role]
            # Two roles of one graph share what is loaded.
            role = next((other for other in self._sessions if self.manifest.files[other] == files), role)
            if role not in self._sessions:
                with translated():
                    for part in (part for file in files.values() for part in file.beside):
                        part.check()
                paths = {precision: file.path for precision, file in files.items()}
                hashes = {precision: file.sha256 for precision, file in files.items()}
                # A graph that was pulled comes without answers to prove it by; its hash is checked all the same.
                golden = self.manifest.golden[role].path if role in self.manifest.golden else None
                # The towers differ in the precisions they have; one without the wished precision is taken as it is.
                wished = self._precision if self._precision in paths else AUTO
                with translated():
                    name = f"{self.manifest.name}.{role}"
                    self._sessions[role] = self._delegate.load(
                        paths, precision=wished, golden=golden, name=name, model_hash=hashes
                    )
            return self._sessions[role]

    def loaded(self, role: str) -> Session | None:
        """Give the session of this role if its graph is loaded, without loading it."""
        files = self.manifest.files[role]
        return next((one for other, one in [*self._sessions.items()] if self.manifest.files[other] == files), None)

    def run(
        self, role: str, arrays: Mapping[str, np.ndarray[Any, Any]], outputs: Sequence[str] | None = None
    ) -> tuple[dict[str, np.ndarray[Any, Any]], Decision]:
        """Run one graph.

        Args:
            role: Which graph, as the manifest names it.
            arrays: Input name -> array.
            outputs: The outputs that are wanted; None for all.

        Raises:
            DelegateError: If the graph cannot be placed, proven or run.
        """
        session = self.session(role)
        with translated():
            return session.run(arrays, outputs)


_held: WeakValueDictionary[tuple[object, ...], Engine] = WeakValueDictionary()


def verify_model(name: str, *, target: str = "cpu") -> list[Verified]:
    """Hash a model's files and prove each of its graphs afresh on this machine.

    Args:
        name: Name of a model.
        target: Where to prove them.

    Raises:
        UnknownModelError: If no manifest bears the name.
        MissingFilesError: If one of its files is not there.
    """
    from nearsight_npu import prove
    from nearsight_npu.errors import DelegateError

    with translated():
        manifest = nearsight_models.load(name)
    found = []
    for role, variants in manifest.files.items():
        for precision, file in variants.items():
            proof, reason = None, ""
            try:
                file.check()
                if role in manifest.golden:
                    golden = manifest.golden[role]
                    golden.check()
                    proof = prove(file.path, golden.path, precision, target, name=f"{name}.{role}")
                    reason = "" if proof.passed else proof.reason
            except (nearsight_models.ModelError, DelegateError) as error:
                reason = str(error)
            row = Verified(
                model=name, role=role, precision=precision, target=target, ok=not reason, reason=reason, proof=proof
            )
            found.append(row)
    return found
