"""Exports a CLIP, as transformers or as open_clip keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.exporting.hubtowers import exported_by_transformers
from nearsight.exporting.openclip import exported_by_open_clip, is_open_clip
from nearsight.exporting.towers import refuse_canvas
from nearsight.families.clip import LONGEST

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.exporting.writing import Exported


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Write the graphs of a CLIP.

    Args:
        source: A folder saved by transformers or open_clip, a name on the hub, or `open_clip:ARCHITECTURE/TAG`.
        out: The folder to write to.
        batch: How many a run takes; None lets it vary.
        canvas: None: a CLIP has one size.

    Raises:
        InputError: If a canvas is asked for.
        ModelError: If the library is missing or the source cannot be read.
    """
    refuse_canvas(canvas, source)
    if is_open_clip(source):
        return exported_by_open_clip(source, out, batch=batch)
    return exported_by_transformers(source, out, kinds=("CLIPModel",), longest=LONGEST, batch=batch)
