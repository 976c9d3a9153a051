"""Which models there are and how to get them: pages, files and hashes, licences, the catalogue.

What only a pull or a recommendation needs is loaded at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nearsight_models.errors import ChecksumError, MissingFilesError, ModelError, UnknownModelError, UsageError
from nearsight_models.manifest import File, Manifest, Preprocessing, Source, Tokenizer
from nearsight_models.store import embedded, installed, load, models_folder, names

if TYPE_CHECKING:
    from nearsight_models.catalogue import Entry, Published, available, entry
    from nearsight_models.choosing import Candidate, Choice, candidates, recommended
    from nearsight_models.pulling import Progress, pull

_HOME = {
    **dict.fromkeys(("Entry", "Published", "available", "entry"), "nearsight_models.catalogue"),
    **dict.fromkeys(("Candidate", "Choice", "candidates", "recommended"), "nearsight_models.choosing"),
    **dict.fromkeys(("Progress", "pull"), "nearsight_models.pulling"),
}

__all__ = [
    "Candidate",
    "ChecksumError",
    "Choice",
    "Entry",
    "File",
    "Manifest",
    "MissingFilesError",
    "ModelError",
    "Preprocessing",
    "Progress",
    "Published",
    "Source",
    "Tokenizer",
    "UnknownModelError",
    "UsageError",
    "available",
    "candidates",
    "embedded",
    "entry",
    "installed",
    "load",
    "models_folder",
    "names",
    "pull",
    "recommended",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'nearsight_models' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
