"""Exports a Chinese-CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.exporting.hubtowers import exported_by_transformers
from nearsight.exporting.towers import refuse_canvas
from nearsight.families.chinese_clip import LONGEST

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.exporting.writing import Exported


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Write the graphs of a Chinese-CLIP.

    Args:
        source: A folder saved by transformers, or a name on the hub.
        out: The folder to write to.
        batch: How many a run takes; None lets it vary.
        canvas: None: a Chinese-CLIP has one size.

    Raises:
        InputError: If a canvas is asked for.
        ModelError: If the library is missing or the source cannot be read.
    """
    refuse_canvas(canvas, source)
    return exported_by_transformers(source, out, kinds=("ChineseCLIPModel",), longest=LONGEST, batch=batch, masked=True)
