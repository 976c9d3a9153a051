"""How a manifest page names a file."""

from __future__ import annotations

import hashlib
from pathlib import Path


def row(root: Path, path: Path) -> str:
    """One inline table: path, SHA-256, size."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f'{{ path = "{path.relative_to(root).as_posix()}", sha256 = "{digest}", bytes = {path.stat().st_size} }}'
