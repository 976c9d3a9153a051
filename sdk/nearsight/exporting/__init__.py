"""Makes ONNX graphs of full-size models with torch, here and now; the only part of Nearsight that imports it."""

from __future__ import annotations

import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight.errors import InputError, ModelError, translated

if TYPE_CHECKING:
    from types import ModuleType

    from nearsight.exporting.writing import Described

__all__ = ["EXPORTERS", "export_model"]

# Architecture, as a page of the catalogue states it -> module of this package; each has a function `export`.
EXPORTERS = {
    "clip": "clip",
    "siglip": "siglip",
    "chinese-clip": "chinese_clip",
    "mobileclip": "mobileclip",
    "owlv2": "owlv2",
    "grounding-dino": "grounding_dino",
    "rt-detr": "rt_detr",
    "blip": "blip",
    "florence-2": "florence2",
    "smolvlm": "smolvlm",
    "qwen2": "language",
    "qwen3": "language",
    "llama": "language",
}


def export_model(
    entry: Described,
    source: Path | str,
    *,
    folder: Path | None = None,
    batch: int | None = None,
    canvas: tuple[int, int] | None = None,
    int8: bool = False,
) -> Path:
    """Make a model's graphs and install them.

    Args:
        entry: Who the model is; a page of the catalogue.
        source: Where its weights are: a folder saved the hub's way, `OWNER/NAME` or `OWNER/NAME@REVISION` on the hub,
            or, for open_clip, `open_clip:ARCHITECTURE/TAG`.
        folder: Where installed models lie; None is the models folder.
        batch: How many pictures or texts a run takes; None lets it vary.
        canvas: Width and height of what a detector looks at; None takes the model's own.
        int8: Whether to add INT8 files to an encoder's where they are much smaller and torch's answers hold;
            `precision="int8"` takes them.

    Returns:
        The installed model's folder. What was installed under the name before stays until the new one is whole.

    Raises:
        InputError: If INT8 is asked for of another model than an encoder.
        ModelError: If no exporter makes the architecture, a library is missing, or the source cannot be read.
    """
    from nearsight.exporting.writing import written
    from nearsight_models import models_folder

    module = EXPORTERS.get(entry.architecture)
    if module is None:
        raise ModelError(
            f"{entry.name} was to be exported; there is no exporter for the architecture {entry.architecture!r}; "
            f"there is one for {', '.join(EXPORTERS)}; pull it instead: nearsight models pull {entry.name}"
        )
    if int8 and entry.capability != "search":
        raise InputError(f"{entry.name} was to be exported in INT8; that is made of search models only; leave it out")
    with translated():
        home = folder or models_folder()
    home.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that it appears there by one renaming.
    work = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=home))
    try:
        exporter = _exporter(module)
        exported = exporter.export(source, work, batch=batch, canvas=canvas)
        if int8:
            from nearsight.exporting.smaller import with_int8

            exported = with_int8(exported)
        written(entry, exported, work)
        return _placed(work, home / entry.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _exporter(module: str) -> ModuleType:
    try:
        return import_module(f"nearsight.exporting.{module}")
    except ImportError as error:
        raise ModelError(f"exporting needs torch; install it: pip install 'nearsight[export]' ({error})") from error


def _placed(work: Path, place: Path) -> Path:
    """Put a whole model in its place; the one that was there goes only then."""
    if place.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{place.name}.old.", dir=place.parent))
        place.rename(old / place.name)
        work.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.rename(place)
    place.chmod(0o755)
    return place
