"""A model's manifest: one TOML page that says what a model is, which files it has, and what may be done with it."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, cast

from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

EMBEDDED_REMEDY = "install Nearsight again: pip install --force-reinstall nearsight"
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Give a file's SHA-256 in hexadecimal.

    Args:
        path: A file that can be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a model.

    Attributes:
        path: Where it lies.
        sha256: Its hash, in hexadecimal.
        bytes: Its size.
        beside: Files that belong to it and are checked with it, such as the external data of a graph.
        remedy: What mends it where it is not as stated.
    """

    path: Path
    sha256: str
    bytes: int
    beside: tuple[File, ...] = ()
    remedy: str = field(default=EMBEDDED_REMEDY, compare=False, repr=False)

    @classmethod
    def of(cls, path: Path, *, beside: tuple[Path, ...] = ()) -> File:
        """Describe a file that is there: its size and hash as they are now.

        Args:
            path: The file.
            beside: Files that belong to it.
        """
        return cls(
            path=path,
            sha256=sha256_of(path),
            bytes=path.stat().st_size,
            beside=tuple(cls.of(other) for other in beside),
        )

    def parts(self) -> tuple[File, ...]:
        """Give this file and those that belong to it."""
        return (self, *self.beside)

    def look(self, whose: str = "") -> None:
        """See whether the file is there in its full size, which is quick; `check` reads it.

        Args:
            whose: What it belongs to, for the error's text.

        Raises:
            MissingFilesError: If the file is not there.
            ChecksumError: If it has another size than the manifest states.
        """
        if not self.path.is_file():
            name = self.path.name
            told = f"{whose} lacks its file {name}" if whose else f"{name} is missing"
            raise MissingFilesError(f"{told}; {self.remedy}")
        size = self.path.stat().st_size
        if size != self.bytes:
            raise ChecksumError(f"{self.path.name} has {size} bytes, its manifest states {self.bytes}; {self.remedy}")

    def check(self) -> None:
        """Compare size and hash with the manifest's, of this file and of those that belong to it.

        Raises:
            MissingFilesError: If a file is not there.
            ChecksumError: If it is another file than the manifest states.
        """
        self.look()
        digest = sha256_of(self.path)
        if digest != self.sha256:
            raise ChecksumError(
                f"{self.path.name} has SHA-256 {digest[:12]}, its manifest states {self.sha256[:12]}; {self.remedy}"
            )
        for other in self.beside:
            other.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an installed model came from.

    Attributes:
        repo: The hub's name of it, `owner/name`; or what `export` was given.
        revision: The commit that was pinned; empty where there is none, as for a local folder.
        how: `pull` (ready graphs) or `export` (made here).
    """

    repo: str
    revision: str
    how: Literal["pull", "export"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes pixels.

    Attributes:
        size_wh: Width and height in pixels.
        mode: `stretch` (the whole picture, its side ratio given up) or `crop` (the centre).
        resample: Name of the filter.
        reducing_gap: How many times the wanted size a quick box filter may leave for that filter; the fewer, the
            faster a large picture is fitted, and the less finely.
        averaged_from: From how many times the wanted size on, on both sides, a picture is averaged instead.
    """

    size_wh: tuple[int, int]
    mode: Literal["stretch", "crop"]
    resample: str
    reducing_gap: float = 3.0
    averaged_from: float = math.inf

    @property
    def key(self) -> str:
        """A short text that is equal only for equal preprocessing."""
        return f"{self.size_wh[0]}x{self.size_wh[1]}-{self.mode}-{self.resample}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """How a text becomes token ids.

    Attributes:
        kind: `sentencepiece`.
        prefix: Written before every text.
        longest: Most tokens of one text, the specials included.
        bos: Id that begins a text.
        eos: Id that ends it.
        pad: Id that fills a batch.
    """

    kind: str
    prefix: str
    longest: int
    bos: int
    eos: int
    pad: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest page says.

    Attributes:
        name: Name of the page.
        family: The name a user writes; several pages share it, one for each capability.
        capability: What it serves: `search`, `detect` or `caption`.
        languages: ISO 639-1 codes.
        licence: SPDX expression of the weights.
        trained_on: One line for each data set and set of weights that went in.
        research_only: Whether part of what it was trained on is for research only.
        files: Role -> precision -> file; within a role the preferred precision comes first.
        golden: Role -> golden set for the proof at load; a role that was pulled without one is missing.
        preprocessing: How a picture becomes pixels; None where the model's own `preprocessor_config.json` says it.
        settings: What the capability needs besides, as the SDK reads it.
        space: For `search`: the space its vectors belong to; only vectors of one space may be compared.
        dimensions: For `search`: width of a vector.
        tokenizer: For `search`: how a text becomes token ids.
        relevance: For `search`: coefficients of the calibrated relevance, as the SDK reads them; may be empty.
        architecture: Which family of the SDK reads it: `nano`, `clip`, `owlv2`, ...
        assets: The hub's name of a file -> file, such as `tokenizer.json`.
        source: Where it came from; None for what is in the wheel.
    """

    name: str
    family: str
    capability: str
    summary: str
    languages: tuple[str, ...]
    licence: str
    trained_on: tuple[str, ...]
    research_only: bool
    parameters: int
    files: dict[str, dict[str, File]]
    golden: dict[str, File]
    preprocessing: Preprocessing | None
    settings: dict[str, Any]
    space: str = ""
    dimensions: int = 0
    tokenizer: Tokenizer | None = None
    relevance: dict[str, Any] = field(default_factory=dict)
    architecture: str = "nano"
    assets: dict[str, File] = field(default_factory=dict)
    source: Source | None = None

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(part.bytes for file in self.every_file() for part in file.parts())

    def every_file(self) -> Iterator[File]:
        """Give each file that this page names, once."""
        graphs = [file for variants in self.files.values() for file in variants.values()]
        yield from {file.path: file for file in (*graphs, *self.golden.values(), *self.assets.values())}.values()

    def check(self) -> None:
        """Compare every file's size and hash with what this page states.

        Raises:
            MissingFilesError: If a file is not there.
            ChecksumError: If a file is another one than stated.
        """
        for file in self.every_file():
            file.check()


def root() -> Path:
    """The folder that holds `manifests/`, `embedded/` and `cards/`."""
    return Path(str(resources.files("nearsight_models")))


def parse(text: str, folder: Path, *, remedy: str = EMBEDDED_REMEDY) -> Manifest:
    """Read a manifest's text; its paths are relative to `folder`.

    Args:
        text: The page.
        folder: Where its files lie.
        remedy: What mends a file that is not as stated.

    Raises:
        ModelError: If the page is not valid TOML or lacks a field.
        MissingFilesError: If a file that it names is not there.
    """
    return built(toml(text), folder, remedy=remedy)


def toml(text: str) -> dict[str, Any]:
    """Read a page's TOML.

    Raises:
        ModelError: If it is not valid.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # besides the reader's own: numbers too long, tables too deep
        raise ModelError(f"a manifest is not valid TOML: {error}") from error


def built(page: dict[str, Any], folder: Path, *, remedy: str = EMBEDDED_REMEDY) -> Manifest:
    """Make a manifest of a page whose TOML was read.

    Raises:
        ModelError: If the page lacks a field, or has one of the wrong shape.
        MissingFilesError: If a file that it names is not there.
    """
    try:
        manifest = Manifest(
            name=page["name"],
            family=page.get("family", page["name"]),
            capability=page["capability"],
            summary=page["summary"],
            languages=tuple(page["languages"]),
            licence=page["licence"],
            trained_on=tuple(page["trained_on"]),
            research_only=page["research_only"],
            parameters=page["parameters"],
            files={
                role: {precision: _file(row, folder, remedy) for precision, row in variants.items()}
                for role, variants in page["files"].items()
            },
            golden={role: _file(row, folder, remedy) for role, row in page["golden"].items()},
            settings=page.get("settings", {}),
            architecture=page.get("architecture", "nano"),
            assets={name: _file(row, folder, remedy) for name, row in page.get("assets", {}).items()},
            source=_source(page["source"]) if "source" in page else None,
            preprocessing=_preprocessing(page),
            **(_search_fields(page) if page.get("capability") == "search" else {}),
        )
    except KeyError as error:
        raise ModelError(f"a manifest lacks the field {error.args[0]!r}") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ModelError(f"a manifest has a field of the wrong shape: {error}") from error
    if not isinstance(manifest.parameters, int):
        raise ModelError("a manifest has a field of the wrong shape: parameters")
    for file in manifest.every_file():
        for part in file.parts():
            part.look(f"model {manifest.name!r}")
    return manifest


def _search_fields(page: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {"space": page["space"], "dimensions": page["dimensions"]}
    if not _has_own_files(page) or "tokenizer" in page:
        fields["tokenizer"] = Tokenizer(**page["tokenizer"])
    if not _has_own_files(page) or "relevance" in page:
        fields["relevance"] = page["relevance"]
    return fields


def _has_own_files(page: dict[str, Any]) -> bool:
    """Tell whether preprocessing and tokenizer are the model's own files, not fields of the page."""
    return bool(page.get("architecture", "nano") != "nano")


def _preprocessing(page: dict[str, Any]) -> Preprocessing | None:
    if _has_own_files(page) and "preprocessing" not in page:
        return None
    shape = page["preprocessing"]
    return Preprocessing(
        size_wh=(shape["size_wh"][0], shape["size_wh"][1]),
        mode=_mode(shape["mode"]),
        resample=shape["resample"],
        **{key: float(shape[key]) for key in ("reducing_gap", "averaged_from") if key in shape},
    )


def _mode(text: str) -> Literal["stretch", "crop"]:
    if text not in ("stretch", "crop"):
        raise ModelError(f"a manifest states the mode {text!r}; there is stretch, crop")
    return cast('Literal["stretch", "crop"]', text)


def _source(row: dict[str, Any]) -> Source:
    if row["how"] not in ("pull", "export"):
        raise ModelError(f"a manifest states that it came by {row['how']!r}; there is pull, export")
    return Source(repo=row["repo"], revision=row["revision"], how=row["how"])


def inside(path: str) -> str:
    """Give a page's path of a file back, if it stays within the model's folder.

    Raises:
        ModelError: If it does not.
    """
    parts = PurePosixPath(path)
    if not path or parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ModelError(f"a manifest names the file {path!r}, which is outside the model's folder")
    return path


def _file(row: dict[str, Any], folder: Path, remedy: str) -> File:
    if not isinstance(row["sha256"], str) or not isinstance(row["bytes"], int):
        raise TypeError(f"hash and size of {row['path']!r}")
    return File(
        path=folder / inside(row["path"]),
        sha256=row["sha256"],
        bytes=row["bytes"],
        beside=tuple(_file(other, folder, remedy) for other in row.get("beside", ())),
        remedy=remedy,
    )
