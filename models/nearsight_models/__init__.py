"""Which models there are: manifests, their files and hashes, their licences."""

from __future__ import annotations

from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError, UnknownModelError
from nearsight_models.manifest import File, Manifest, Preprocessing, load, names

__all__ = ["ChecksumError", "File", "Manifest", "MissingFilesError", "ModelError", "Preprocessing", "UnknownModelError", "load", "names"]
