"""Names of the classes of a detector whose set of classes is fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.errors import ModelError
from nearsight.families import hubfiles

if TYPE_CHECKING:
    from nearsight_models import Manifest

CONFIG = "config.json"


def class_names(manifest: Manifest) -> tuple[str, ...]:
    """Give the names in the order of the model's scores: as its page states them, else as its `config.json` does.

    Raises:
        ModelError: If neither states any.
    """
    named = manifest.settings.get("classes")
    if named is None and CONFIG in manifest.assets:
        numbered = hubfiles.config(manifest, CONFIG).get("id2label") or {}
        named = [numbered[number] for number in sorted(numbered, key=int)]
    if not named:
        raise ModelError(
            f"model {manifest.name!r} names no classes, neither in {CONFIG} nor in its page; get it again: "
            f"nearsight models pull {manifest.name}"
        )
    return tuple(map(str, named))
