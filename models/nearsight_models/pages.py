"""Writes a manifest as its TOML page: last, and in one step, so that a model whose page is there is whole."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nearsight_models.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight_models.manifest import File, Manifest

PAGE = "manifest.toml"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def written(manifest: Manifest, folder: Path) -> str:
    """Give the page of a manifest; `manifest.parse` reads it again.

    Args:
        manifest: What the page shall say.
        folder: Where the model's files lie; the page's paths are relative to it.

    Raises:
        ModelError: If a file lies outside the folder.
    """
    page: dict[str, Any] = {
        "name": manifest.name,
        "family": manifest.family,
        "capability": manifest.capability,
        "architecture": manifest.architecture,
        "summary": manifest.summary,
        "languages": manifest.languages,
        "licence": manifest.licence,
        "research_only": manifest.research_only,
        "parameters": manifest.parameters,
        "trained_on": manifest.trained_on,
    }
    if manifest.capability == "search":
        page |= {"space": manifest.space, "dimensions": manifest.dimensions}
    tables: dict[str, Any] = {
        "source": asdict(manifest.source) if manifest.source else {},
        "preprocessing": asdict(manifest.preprocessing) if manifest.preprocessing else {},
        "tokenizer": asdict(manifest.tokenizer) if manifest.tokenizer else {},
        "relevance": manifest.relevance,
        "settings": manifest.settings,
    }
    rows: dict[str, Any] = {
        **{
            f"files.{_key(role)}": {precision: _row(file, folder) for precision, file in variants.items()}
            for role, variants in manifest.files.items()
        },
        "golden": {role: _row(file, folder) for role, file in manifest.golden.items()},
        "assets": {name: _row(file, folder) for name, file in manifest.assets.items()},
    }
    lines = [f"{key} = {_value(value)}" for key, value in page.items()]
    for title, table in {**{name: table for name, table in tables.items() if table}, **rows}.items():
        lines += ["", f"[{title}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def save(manifest: Manifest, folder: Path) -> Path:
    """Write a manifest's page into the folder of its files: a temporary name, flushed to the disk, then renamed.

    Args:
        manifest: What the page shall say; its files are there.
        folder: Where they lie.

    Returns:
        The page's path.
    """
    path, waiting = folder / PAGE, folder / f".{PAGE}.{os.getpid()}"
    with waiting.open("w", encoding="utf-8") as stream:
        stream.write(written(manifest, folder))
        stream.flush()
        os.fsync(stream.fileno())
    waiting.replace(path)
    _flush(folder)
    return path


def _flush(folder: Path) -> None:
    """Let the rename itself survive a power cut, where the system can flush a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _row(file: File, folder: Path) -> dict[str, Any]:
    if not file.path.is_relative_to(folder):
        raise ModelError(f"{file.path.name} does not lie in {folder}; a model's files lie in its folder")
    row: dict[str, Any] = {
        "path": file.path.relative_to(folder).as_posix(),
        "sha256": file.sha256,
        "bytes": file.bytes,
    }
    if file.beside:
        row["beside"] = [_row(other, folder) for other in file.beside]
    return row


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    # A JSON string is a TOML one, but for the one control character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
        case int():
            return str(value)
        case float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
        case dict():
            held = ", ".join(f"{_key(str(key))} = {_value(one)}" for key, one in value.items() if one is not None)
            return f"{{ {held} }}" if held else "{}"
        case _:
            raise ModelError(f"a manifest cannot hold {type(value).__name__}; it holds texts, numbers, lists")
