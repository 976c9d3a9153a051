"""A model's manifest: one TOML page that says what a model is, which files it has, and what may be done with it."""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError, UnknownModelError

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a model.

    Attributes:
        path: Where it lies.
        sha256: Its hash, in hexadecimal.
        bytes: Its size.
    """

    path: Path
    sha256: str
    bytes: int

    def check(self) -> None:
        """Compare size and hash with the manifest's.

        Raises:
            MissingFilesError: If the file is not there.
            ChecksumError: If it is another file than the manifest states.
        """
        if not self.path.is_file():
            raise MissingFilesError(
                f"{self.path.name} is missing; install Nearsight again: pip install --force-reinstall nearsight"
            )
        size = self.path.stat().st_size
        if size != self.bytes:
            raise ChecksumError(
                f"{self.path.name} has {size} bytes, its manifest states {self.bytes}; install Nearsight again"
            )
        digest = hashlib.sha256()
        with self.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != self.sha256:
            raise ChecksumError(
                f"{self.path.name} has SHA-256 {digest.hexdigest()[:12]}, its manifest states {self.sha256[:12]}; "
                "install Nearsight again"
            )


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
        golden: Role -> golden set for the proof at load.
        preprocessing: How a picture becomes pixels.
        settings: What the capability needs besides, as the SDK reads it.
        space: For `search`: the space its vectors belong to; only vectors of one space may be compared.
        dimensions: For `search`: width of a vector.
        tokenizer: For `search`: how a text becomes token ids.
        relevance: For `search`: coefficients of the calibrated relevance, as the SDK reads them.
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
    preprocessing: Preprocessing
    settings: dict[str, Any]
    space: str = ""
    dimensions: int = 0
    tokenizer: Tokenizer | None = None
    relevance: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        graphs = [file for variants in self.files.values() for file in variants.values()]
        return sum(file.bytes for file in (*graphs, *self.golden.values()))

    def check(self) -> None:
        """Compare every file's size and hash with what this page states.

        Raises:
            MissingFilesError: If a file is not there.
            ChecksumError: If a file is another one than stated.
        """
        for variants in self.files.values():
            for file in variants.values():
                file.check()
        for file in self.golden.values():
            file.check()


def root() -> Path:
    """The folder that holds `manifests/`, `embedded/` and `cards/`."""
    return Path(str(resources.files("nearsight_models")))


def names() -> list[str]:
    """Every model that has a manifest, in alphabetical order."""
    return sorted(path.stem for path in (root() / "manifests").glob("*.toml"))


def load(name: str, capability: str | None = None) -> Manifest:
    """Read the manifest of a model.

    Args:
        name: As `names()` lists it; with a capability also the name of a family, such as `nano`.
        capability: What the model shall serve; None takes the page of that very name.

    Raises:
        UnknownModelError: If no manifest bears this name, or none of that name serves the capability.
        MissingFilesError: If one of its files is not there.
    """
    pages = {page: _read(page) for page in names()}
    if name not in pages and name not in {page.get("family", title) for title, page in pages.items()}:
        raise UnknownModelError(
            f"no model is called {name!r}; there is: {', '.join(pages)} (see: nearsight models list)"
        )
    if capability is None and name in pages:
        return _built(pages[name], root())
    serving = {title: page for title, page in pages.items() if page.get("capability") == capability}
    for title, page in serving.items():
        if name in (title, page.get("family", title)):
            return _built(page, root())
    raise UnknownModelError(
        f"model {name!r} does not serve {capability!r}; what does: {', '.join(serving) or 'none'} "
        "(see: nearsight models list)"
    )


def _read(name: str) -> dict[str, Any]:
    return _toml((root() / "manifests" / f"{name}.toml").read_text(encoding="utf8"))


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"a manifest is not valid TOML: {error}") from error


def parse(text: str, folder: Path) -> Manifest:
    """Read a manifest's text; its paths are relative to `folder`.

    Raises:
        ModelError: If the page is not valid TOML or lacks a field.
        MissingFilesError: If a file that it names is not there.
    """
    return _built(_toml(text), folder)


def _built(page: dict[str, Any], folder: Path) -> Manifest:
    searches = page.get("capability") == "search"
    try:
        files = {
            role: {precision: _file(row, folder) for precision, row in variants.items()}
            for role, variants in page["files"].items()
        }
        shape = page["preprocessing"]
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
            files=files,
            golden={role: _file(row, folder) for role, row in page["golden"].items()},
            preprocessing=Preprocessing(
                size_wh=(shape["size_wh"][0], shape["size_wh"][1]),
                mode=_mode(shape["mode"]),
                resample=shape["resample"],
                **{key: float(shape[key]) for key in ("reducing_gap", "averaged_from") if key in shape},
            ),
            settings=page.get("settings", {}),
            **(_search_fields(page) if searches else {}),
        )
    except KeyError as error:
        raise ModelError(f"a manifest lacks the field {error.args[0]!r}") from error
    except (TypeError, IndexError) as error:
        raise ModelError(f"a manifest has a field of the wrong shape: {error}") from error
    for variants in files.values():
        for file in variants.values():
            if not file.path.is_file():
                raise MissingFilesError(
                    f"model {manifest.name!r} lacks its file {file.path.name}; "
                    "install Nearsight again: pip install --force-reinstall nearsight"
                )
    return manifest


def _search_fields(page: dict[str, Any]) -> dict[str, Any]:
    return {
        "space": page["space"],
        "dimensions": page["dimensions"],
        "tokenizer": Tokenizer(**page["tokenizer"]),
        "relevance": page["relevance"],
    }


def _mode(text: str) -> Literal["stretch", "crop"]:
    if text not in ("stretch", "crop"):
        raise ModelError(f"a manifest states the mode {text!r}; there is stretch, crop")
    return cast('Literal["stretch", "crop"]', text)


def _file(row: dict[str, Any], folder: Path) -> File:
    return File(path=folder / row["path"], sha256=row["sha256"], bytes=row["bytes"])
