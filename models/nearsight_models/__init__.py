"""Which models there are: manifests, their files and hashes, their licences."""

from __future__ import annotations

from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError, UnknownModelError
from nearsight_models.manifest import File, Manifest, Preprocessing, Tokenizer, load, names

__all__ = [
    "ChecksumError",
    "File",
    "Manifest",
    "MissingFilesError",
    "ModelError",
    "Preprocessing",
    "Tokenizer",
    "UnknownModelError",
    "load",
    "names",
]
