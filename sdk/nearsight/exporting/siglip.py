"""Exports a SigLIP, or a SigLIP 2 of a fixed size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.exporting.hubtowers import exported_by_transformers
from nearsight.exporting.towers import refuse_canvas
from nearsight.families.siglip import LONGEST

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.exporting.writing import Exported


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Write the graphs of a SigLIP, with the scale and bias that make a chance of a cosine.

    Args:
        source: A folder saved by transformers, or a name on the hub.
        out: The folder to write to.
        batch: How many a run takes; None lets it vary.
        canvas: None: a fixed SigLIP has one size.

    Raises:
        InputError: If a canvas is asked for.
        ModelError: If the library is missing or the source cannot be read.
    """
    refuse_canvas(canvas, source)
    return exported_by_transformers(
        source, out, kinds=("SiglipModel",), longest=LONGEST, batch=batch, fixed_text=True, output="pooler_output"
    )
