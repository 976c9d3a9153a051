"""What may be pulled or exported: one TOML page a model, with its licence, its size and where it is to be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from nearsight_models import manifest as manifests
from nearsight_models.errors import ModelError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Bytes of one weight. Source: ONNX tensor types; 4-bit blocks of 32 carry one FP16 scale (onnxruntime, MatMulNBits).
BYTES_OF_A_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "q4": 0.5625, "q4f16": 0.5625}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """One file of a repository on the hub.

    Attributes:
        path: Its name there, such as `onnx/vision_model.onnx`.
        name: What the family looks it up by, where that is another name than the path.
        bytes: Its size; None where it is not known.
        sha256: Its hash; empty where the first pull shall record it.
        beside: Files that belong to it, such as external data of a graph.
    """

    path: str
    name: str = ""
    bytes: int | None = None
    sha256: str = ""
    beside: tuple[HubFile, ...] = ()

    def parts(self) -> tuple[HubFile, ...]:
        """Give this file and those that belong to it."""
        return (self, *self.beside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """Ready graphs on the hub.

    Attributes:
        repo: `owner/name`.
        revision: The commit that is pinned; empty where none is known, and then `main` is resolved once and recorded.
        files: Role -> precision -> file; within a role the preferred precision comes first.
        assets: Configuration and tokenizer.
        confirmed: Whether repository, revision and names of files were found in public sources.
    """

    repo: str
    revision: str
    files: dict[str, dict[str, HubFile]]
    assets: tuple[HubFile, ...]
    confirmed: bool

    def precisions(self) -> list[str]:
        """Every precision that some graph comes in, the preferred ones first."""
        return list(dict.fromkeys(one for variants in self.files.values() for one in variants))

    def chosen(self, precision: str | None = None) -> dict[str, dict[str, HubFile]]:
        """Give the one file of each role that a pull takes.

        Args:
            precision: Which is wished; a role that lacks it, and None, takes what is preferred.
        """
        taken = {}
        for role, variants in self.files.items():
            one = precision if precision in variants else next(iter(variants))
            taken[role] = {one: variants[one]}
        return taken

    def bytes(self, precision: str | None = None) -> int | None:
        """Size of a pull's graphs; None where one is not known."""
        graphs = {file.path: file for row in self.chosen(precision).values() for file in row.values()}
        sizes = [part.bytes for file in graphs.values() for part in file.parts()]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What `export` starts from.

    Attributes:
        library: Which library builds the model: `transformers` or `open_clip`.
        repo: The hub's name of the weights.
        revision: The commit that is pinned; empty where none is known.
        model: For `open_clip`: name of the architecture.
        tag: For `open_clip`: name of the weights.
        confirmed: Whether these names were found in public sources.
    """

    library: Literal["transformers", "open_clip"]
    repo: str
    revision: str = ""
    model: str = ""
    tag: str = ""
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A figure that somebody published about a model; nobody measured it here.

    Attributes:
        measure: What was measured, such as `R@1 text to image`.
        data: On which data set.
        language: In which language, as ISO 639-1 code; empty where it does not matter.
        value: The figure, as a fraction of 1.
        source: Where it stands.
    """

    measure: str
    data: str
    language: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the catalogue.

    Attributes:
        name: The name a user writes.
        capability: `search`, `detect`, `caption` or `plan`.
        architecture: Which family of the SDK reads it.
        summary: One line.
        languages: ISO 639-1 codes.
        licence: SPDX expression of the weights.
        trained_on: One line for each data set.
        research_only: Whether the licence, or what it was trained on, is for research only or non-commercial.
        parameters: Number of weights.
        hub: Ready graphs; None where there are none that a leaf of the SDK reads.
        weights: What `export` starts from; None where it cannot be exported.
        dimensions: For `search`: width of a vector.
        settings: What the family needs besides.
        published: Figures others published.
        memory_mb: Precision -> memory in MB of a run, where it was measured; see `weights_mb` for the others.
        notes: What a user should know, such as what could not be confirmed.
    """

    name: str
    capability: str
    architecture: str
    summary: str
    languages: tuple[str, ...]
    licence: str
    trained_on: tuple[str, ...]
    research_only: bool
    parameters: int
    hub: Hub | None
    weights: Weights | None
    dimensions: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    memory_mb: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def weights_mb(self, precision: str) -> float:
        """Give the weights' size in MB at a precision: their number times the bytes of one.

        Args:
            precision: A key of `BYTES_OF_A_WEIGHT`.
        """
        return self.parameters * BYTES_OF_A_WEIGHT[precision] / 1e6


def folder() -> Path:
    """The folder of the catalogue's pages."""
    return manifests.root() / "catalogue"


def available() -> list[str]:
    """Every model of the catalogue, in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def entries() -> Iterator[Entry]:
    """Read every page of the catalogue."""
    for name in available():
        yield entry(name)


def entry(name: str) -> Entry:
    """Read one page of the catalogue.

    Args:
        name: As `available()` lists it.

    Raises:
        UnknownModelError: If the catalogue has no such model.
        ModelError: If its page is not readable.
    """
    if name not in available():
        raise UnknownModelError(
            f"the catalogue has no model {name!r}; it has: {', '.join(available())} (see: nearsight models list)"
        )
    return read(manifests.toml((folder() / f"{name}.toml").read_text(encoding="utf8")))


def read(page: dict[str, Any]) -> Entry:
    """Make an entry of a page whose TOML was read.

    Raises:
        ModelError: If the page lacks a field, or has one of the wrong shape.
    """
    try:
        return Entry(
            name=page["name"],
            capability=page["capability"],
            architecture=page["architecture"],
            summary=page["summary"],
            languages=tuple(page["languages"]),
            licence=page["licence"],
            trained_on=tuple(page["trained_on"]),
            research_only=page["research_only"],
            parameters=page["parameters"],
            hub=_hub(page["hub"]) if "hub" in page else None,
            weights=_weights(page["weights"]) if "weights" in page else None,
            dimensions=page.get("dimensions", 0),
            settings=page.get("settings", {}),
            published=tuple(Published(**row) for row in page.get("published", ())),
            memory_mb=page.get("memory_mb", {}),
            notes=tuple(page.get("notes", ())),
        )
    except KeyError as error:
        raise ModelError(f"a page of the catalogue lacks the field {error.args[0]!r}") from error
    except (TypeError, AttributeError) as error:
        raise ModelError(f"a page of the catalogue has a field of the wrong shape: {error}") from error


def _hub(row: dict[str, Any]) -> Hub:
    return Hub(
        repo=row["repo"],
        revision=row["revision"],
        files={
            role: {precision: _hub_file(file) for precision, file in variants.items()}
            for role, variants in row["files"].items()
        },
        assets=tuple(_hub_file({"path": file} if isinstance(file, str) else file) for file in row["assets"]),
        confirmed=row["confirmed"],
    )


def _hub_file(row: dict[str, Any]) -> HubFile:
    return HubFile(
        path=manifests.inside(row["path"]),
        name=row.get("name", ""),
        bytes=row.get("bytes"),
        sha256=row.get("sha256", ""),
        beside=tuple(_hub_file(other) for other in row.get("beside", ())),
    )


def _weights(row: dict[str, Any]) -> Weights:
    if row["library"] not in ("transformers", "open_clip"):
        raise ModelError(
            f"a page of the catalogue names the library {row['library']!r}; there is transformers, open_clip"
        )
    return Weights(**{**row, "library": cast('Literal["transformers", "open_clip"]', row["library"])})
