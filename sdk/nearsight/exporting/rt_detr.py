"""Exports RT-DETR, first and second version: one graph of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nearsight.errors import InputError
from nearsight.exporting.hubfolder import loaded, pictures_file, processor_size
from nearsight.exporting.painting import few, painted, ranked
from nearsight.exporting.tracing import Graphs
from nearsight.exporting.writing import Exported, weights_hash

if TYPE_CHECKING:
    from pathlib import Path

FOUND = ("logits", "pred_boxes")


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export an RT-DETR.

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: How many pictures a run takes; None lets it vary.
        canvas: Width and height of what it looks at: None, or the size that its processor makes.

    Raises:
        InputError: If another canvas is asked for.
        ModelError: If the source cannot be read.
    """
    model = loaded(source, ("RTDetrV2ForObjectDetection", "RTDetrForObjectDetection"))
    model.config.save_pretrained(out)
    assets = ["config.json", pictures_file(source, out)]
    size_wh = processor_size(out)
    if canvas not in {None, size_wh}:
        raise InputError(f"a canvas of {canvas} was asked for; {source} takes {size_wh}; leave it out")
    graphs = Graphs(out)
    free = {0: "batch_size"} if batch is None else {}
    graphs.add(
        "detect",
        "model",
        _Whole(model),
        # Values of 0 to 1, as its processor makes them.
        lambda more: {"pixel_values": painted(size_wh, few(batch, more)).mul(0.25).add(0.5).clamp(0, 1)},
        FOUND,
        varying={"pixel_values": free, **dict.fromkeys(FOUND, free)},
    )
    return Exported(
        graphs=graphs.paths,
        golden=ranked(graphs.golden),
        assets=assets,
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


class _Whole(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(pixel_values=pixel_values)
        return found.logits, found.pred_boxes
