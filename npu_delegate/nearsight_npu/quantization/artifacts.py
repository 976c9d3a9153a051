"""Quantized files that were made before, so that the same wish is granted at once; each is verified when it is taken.

A file lies under its own hash, beside one small JSON file for each wish that led to it. The least recently used leave
when the folder outgrows its bound. All of it may be lost at any time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import string
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight_npu.memory import bound, removed, touch
from nearsight_npu.targets.machine import Machine

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from nearsight_npu.arrays import Array

RULES = 5  # raised when a writer or an allocation changes, so that older files are made again
MOST_BYTES = 4_000_000_000
_DIGITS = 64  # of a SHA-256
_LIBRARIES = ("nearsight", "numpy", "onnx", "onnxruntime")


class Artifacts:
    """A folder of quantized files, bounded in number and size.

    Args:
        folder: None is the user's cache folder for "nearsight"; it need not exist.
        most_bytes: the most that the files may take together.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, most_bytes: int = MOST_BYTES) -> None:
        if folder is None:
            import platformdirs

            folder = platformdirs.user_cache_dir("nearsight")
        self._folder = Path(folder).expanduser() / "quantized"
        self._most_bytes = most_bytes

    def take(self, key: str, into: Path) -> dict[str, Any] | None:
        """Copy the file of an earlier wish, if it is there and still what it was.

        Args:
            key: what it was made of; see `wish`.
            into: where to copy it.

        Returns:
            The facts that were kept with it; None where there is none, or it was damaged, which removes it.
        """
        page = self._page(key)
        try:
            known = json.loads(page.read_text(encoding="utf-8"))
            digest, facts = str(known["sha256"]), known["facts"]
            if known != _page(digest, key, facts):
                removed(page)  # damaged, or of another wish; what it names may lie anywhere
                return None
            file = self._folder / f"{digest}.onnx"
            shutil.copyfile(file, into)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a cache that cannot be read is an empty one
        if sha256_of(into) != digest:
            removed(file, page)
            return None
        touch(file, page)
        return dict(facts)

    def keep(self, key: str, made: Path, facts: Mapping[str, object]) -> str | None:
        """Keep a file for the next time, in one step: another process sees all of it or nothing.

        Args:
            key: what it was made of.
            made: the file.
            facts: what to keep with it; `json.dumps` takes it.

        Returns:
            None, or why it could not be kept.
        """
        size = made.stat().st_size
        if size > self._most_bytes:
            return f"{size / 1e6:.0f} MB are more than the cache holds ({self._most_bytes / 1e6:.0f} MB)"
        digest = sha256_of(made)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".") as part:
                file, page = Path(part) / "file", Path(part) / "page"
                shutil.copyfile(made, file)
                page.write_text(json.dumps(_page(digest, key, facts)), encoding="utf-8")
                file.replace(self._folder / f"{digest}.onnx")
                page.replace(self._page(key))
        except OSError as error:
            return f"{error.strerror or error} ({self._folder})"
        self._bound()
        return None

    def _page(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"

    def _bound(self) -> None:
        """Let the least recently used files go until the others fit, and pages without a file with them."""
        bound(self._folder, "*.onnx", ".*", most_bytes=self._most_bytes)
        for page in self._folder.glob("*.json"):
            try:
                held = (self._folder / f"{json.loads(page.read_text(encoding='utf-8'))['sha256']}.onnx").exists()
            except (OSError, ValueError, KeyError, TypeError):
                held = False
            if not held:
                removed(page)
        bound(self._folder, "*.json", ".*")  # a file may be that of many wishes


def wish(model: Path, settings: Mapping[str, object], samples: Sequence[Mapping[str, Array]]) -> str:
    """Write in one line all that a quantized file depends on.

    Args:
        model: the file to be quantized.
        settings: what is asked for, with nothing in it that `json.dumps` does not take.
        samples: what it is calibrated with.

    Returns:
        The line: a change in any of it gives another one.
    """
    machine = Machine()
    versions = {name: machine.installed(name) for name in _LIBRARIES}
    parts = {
        "rules": RULES,
        "model": sha256_of(model),
        "settings": settings,
        "calibration": samples_hash(samples),
        "versions": versions,
    }
    return json.dumps(parts, sort_keys=True)


def samples_hash(samples: Sequence[Mapping[str, Array]]) -> str:
    """Give the SHA-256 of samples: of their number, names, types, shapes and values, in order."""
    import numpy as np

    digest = hashlib.sha256()
    for sample in samples:
        for name, array in sorted(sample.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file: 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _page(digest: str, key: str, facts: Mapping[str, object]) -> dict[str, object]:
    """Give what is written down of a file, with a hash over all of it.

    Raises:
        ValueError: if the file's own hash is none, so that no path can stand in its place.
    """
    if len(digest) != _DIGITS or set(digest) - set(string.hexdigits):
        raise ValueError(digest)
    parts: dict[str, object] = {"sha256": digest, "key": key, "facts": facts}
    seal = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return parts | {"seal": seal}
