"""Makes ONNX graphs of full-size models with torch, here and now; the only part of Nearsight that imports it."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from nearsight.errors import InputError, ModelError, translated

if TYPE_CHECKING:
    from pathlib import Path
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
    replace: bool = False,
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
        replace: Whether a model of this name that was pulled gives way.

    Returns:
        The installed model's folder. What was installed under the name before stays until the new one is whole.

    Raises:
        InputError: If INT8 is asked for of another model than an encoder, or a pulled model has the name.
        ModelError: If no exporter makes the architecture, a library is missing, or the source cannot be read.
    """
    from nearsight.exporting.writing import written
    from nearsight_models import UsageError, store

    module = EXPORTERS.get(entry.architecture)
    if module is None:
        raise ModelError(
            f"{entry.name} was to be exported; there is no exporter for the architecture {entry.architecture!r}; "
            f"there is one for {', '.join(EXPORTERS)}; pull it instead: nearsight models pull {entry.name}"
        )
    if int8 and entry.capability != "search":
        raise InputError(f"{entry.name} was to be exported in INT8; that is made of search models only; leave it out")
    with translated(), ExitStack() as held:
        try:
            home = folder or store.models_folder()
            if not replace:
                store.mind(entry.name, "export", home)
        except UsageError as error:
            raise InputError(str(error)) from error
        # Beside its place, so that it appears there by one renaming.
        work = held.enter_context(store.in_the_making(entry.name, home, "made"))
        held.callback(shutil.rmtree, work, ignore_errors=True)
        _emptied(work)
        exporter = _exporter(module)
        exported = exporter.export(source, work, batch=batch, canvas=canvas)
        if int8:
            from nearsight.exporting.smaller import with_int8

            exported = with_int8(exported)
        written(entry, exported, work)
        store.put_in_place(entry.name, work)
    return home / entry.name


def _emptied(folder: Path) -> None:
    """Leave nothing of an earlier try, which may have been killed."""
    shutil.rmtree(folder)
    folder.mkdir()


def _exporter(module: str) -> ModuleType:
    try:
        return import_module(f"nearsight.exporting.{module}")
    except ImportError as error:
        raise ModelError(f"exporting needs torch; install it: pip install 'nearsight[export]' ({error})") from error
