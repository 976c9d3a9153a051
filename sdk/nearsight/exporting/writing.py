"""Makes an exported model installable: golden sets, hashes, and the page that says so, which is written last."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from nearsight.errors import ModelError, translated
from nearsight_models import File, Manifest, Source, pages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.golden import Golden


class Described(Protocol):
    """What must be known of a model besides its files; a page of the catalogue is one."""

    @property
    def name(self) -> str:
        """What a user writes."""

    @property
    def capability(self) -> str:
        """`search`, `detect` or `caption`."""

    @property
    def architecture(self) -> str:
        """Which leaf of `nearsight.families` reads it."""

    @property
    def summary(self) -> str:
        """One line for people."""

    @property
    def languages(self) -> Sequence[str]:
        """ISO 639-1 codes."""

    @property
    def licence(self) -> str:
        """SPDX expression of the weights."""

    @property
    def trained_on(self) -> Sequence[str]:
        """One line for each data set."""

    @property
    def research_only(self) -> bool:
        """Whether the weights are for research only."""

    @property
    def parameters(self) -> int:
        """How many numbers were learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What a family's exporter left in a folder.

    Attributes:
        graphs: Role -> FP32 graph, written in the folder; what lies beside it under its name (`NAME_data`) is its own.
        golden: Role -> inputs, and the answers that torch itself gave for them.
        settings: What the leaf needs besides the model's own files.
        assets: Names of the model's own files in the folder, such as `tokenizer.json`.
        variants: Role -> precision -> graph: the same in other precisions.
        dimensions: Width of a vector; 0 where there is none.
        weights: A hash of the weights in hexadecimal; empty for the hash of the graphs. It names an encoder's space.
        repo: Where the weights come from: what the exporter was given, as `origin` takes it.
    """

    graphs: Mapping[str, Path]
    golden: Mapping[str, Golden]
    settings: Mapping[str, Any] = field(default_factory=dict)
    assets: Sequence[str] = ()
    variants: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    dimensions: int = 0
    weights: str = ""
    repo: str = ""


def written(entry: Described, exported: Exported, out: Path) -> Path:
    """Write golden sets and page of an exported model.

    Args:
        entry: Who the model is.
        exported: Its files, below `out`.
        out: The model's folder.

    Returns:
        The page, `manifest.toml`. It is written last and appears whole or not at all: without it there is no model.

    Raises:
        ModelError: If the page would name a file that is not there or lies outside the folder.
    """
    (out / pages.PAGE).unlink(missing_ok=True)
    golden = {}
    for role, made in exported.golden.items():
        path = out / "golden" / f"{role}.npz"
        path.parent.mkdir(exist_ok=True)
        made.save(path)
        golden[role] = _file(path)
    files = {
        role: {precision: _file(path) for precision, path in {"fp32": graph, **exported.variants.get(role, {})}.items()}
        for role, graph in exported.graphs.items()
    }
    weights = exported.weights or _of_graphs(files)
    repo, revision = origin(exported.repo)
    page = Manifest(
        name=entry.name,
        family=entry.name,
        architecture=entry.architecture,
        capability=entry.capability,
        summary=entry.summary,
        languages=tuple(entry.languages),
        licence=entry.licence,
        trained_on=tuple(entry.trained_on),
        research_only=entry.research_only,
        parameters=entry.parameters,
        files=files,
        golden=golden,
        preprocessing=None,
        settings=dict(exported.settings),
        space=f"{entry.name}-{weights[:8]}" if entry.capability == "search" else "",
        dimensions=exported.dimensions,
        assets={name: _file(out / name) for name in exported.assets},
        source=Source(repo=repo, revision=revision, how="export"),
    )
    with translated():
        return pages.save(page, out)


def origin(source: Path | str) -> tuple[str, str]:
    """Split `OWNER/NAME@REVISION`; a folder, and a name without a revision, have none.

    Example:
        >>> origin("openai/clip-vit-base-patch32@3d74acf")
        ('openai/clip-vit-base-patch32', '3d74acf')
        >>> origin("openai/clip-vit-base-patch32")
        ('openai/clip-vit-base-patch32', '')
    """
    name, at, revision = str(source).rpartition("@")
    return (name, revision) if at and not os.path.exists(source) else (str(source), "")


def weights_hash(tensors: Iterable[tuple[str, Any]]) -> str:
    """Hash named torch tensors, whatever their order: equal weights make one space, in whichever file they came."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        array = tensor.detach().cpu().contiguous().float().numpy()
        whole.update(f"{name} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def _file(path: Path) -> File:
    if not path.is_file():
        raise ModelError(f"an export names {path.name}, and there is no such file in {path.parent}; export it again")
    data = sorted(other for other in path.parent.glob(f"{path.name}*data*") if other.is_file())
    return File.of(path, beside=tuple(data))


def _of_graphs(files: Mapping[str, Mapping[str, File]]) -> str:
    whole = hashlib.sha256()
    for _, variants in sorted(files.items()):
        for part in variants["fp32"].parts():
            whole.update(part.sha256.encode())
    return whole.hexdigest()
