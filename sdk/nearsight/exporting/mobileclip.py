"""Exports a MobileCLIP or MobileCLIP2, which open_clip builds; its picture tower's branches are folded first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.exporting.openclip import exported_by_open_clip
from nearsight.exporting.towers import refuse_canvas

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.exporting.writing import Exported


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Write the graphs of a MobileCLIP.

    Args:
        source: A folder saved by open_clip, `hf-hub:OWNER/NAME`, or `open_clip:ARCHITECTURE/TAG`.
        out: The folder to write to.
        batch: How many a run takes; None lets it vary.
        canvas: None: a MobileCLIP has one size.

    Raises:
        InputError: If a canvas is asked for.
        ModelError: If the library is missing or the source cannot be read.
    """
    refuse_canvas(canvas, source)
    return exported_by_open_clip(source, out, batch=batch)
