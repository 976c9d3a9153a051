"""Exports a Chinese-CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight.exporting.hubtowers import exported_by_transformers
from nearsight.families.chinese_clip import LONGEST

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.exporting.writing import Exported


def export(
    source: Path | str,
    out: Path,
    *,
    batch: int | None = None,
    canvas: tuple[int, int] | None = None,  # noqa: ARG001  (a Chinese-CLIP has one size)
) -> Exported:
    """Write the graphs of a Chinese-CLIP.

    Args:
        source: A folder saved by transformers, or a name on the hub.
        out: The folder to write to.
        batch: How many a run takes; None lets it vary.
        canvas: Not used.

    Raises:
        ModelError: If the library is missing or the source cannot be read.
    """
    return exported_by_transformers(source, out, kinds=("ChineseCLIPModel",), longest=LONGEST, batch=batch, masked=True)
