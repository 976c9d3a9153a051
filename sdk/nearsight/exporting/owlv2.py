"""Exports OWLv2 with the words outside the graph that looks at the picture: a vector for each box comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nearsight.errors import InputError
from nearsight.exporting.hubfolder import kept_files, loaded, pictures_file
from nearsight.exporting.painting import few, painted
from nearsight.exporting.tracing import Graphs
from nearsight.exporting.writing import Exported, weights_hash

if TYPE_CHECKING:
    from pathlib import Path

SEEN = ("class_embeds", "logit_shift", "logit_scale", "pred_boxes", "objectness_logits")


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export an OWLv2.

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: How many pictures a run takes; None lets it vary. Texts always come in any number.
        canvas: Width and height of what it looks at, a square of whole patches; None for the model's own. A smaller
            one is faster and sees less.

    Raises:
        InputError: If the canvas is no square of whole patches.
        ModelError: If the source cannot be read.
    """
    model = loaded(source, ("Owlv2ForObjectDetection",))
    model.set_attn_implementation("sdpa")
    vision, text = model.config.vision_config, model.config.text_config
    own = (vision.image_size, vision.image_size)
    side, high = canvas or own
    if side != high or side < vision.patch_size or side % vision.patch_size:
        raise InputError(
            f"a canvas of {side} x {high} was asked for; OWLv2 takes squares of whole patches of {vision.patch_size} "
            f"pixels, such as {own[0]}x{own[0]}"
        )
    graphs = Graphs(out)
    free = {0: "batch_size"} if batch is None else {}
    graphs.add(
        "image",
        "vision_model",
        _Image(model, resized=(side, high) != own),
        lambda more: {"pixel_values": painted((side, high), few(batch, more))},
        SEEN,
        varying={"pixel_values": free, **dict.fromkeys(SEEN, free)},
    )
    graphs.add(
        "text",
        "text_model",
        _Text(model),
        lambda more: _texts(text, 4 + more),
        ["text_embeds"],
        varying={name: {0: "text_batch_size"} for name in ("input_ids", "attention_mask", "text_embeds")},
    )
    return Exported(
        graphs=graphs.paths,
        golden=graphs.golden,
        settings={"canvas": [side, high]},
        assets=[*kept_files(source, out), pictures_file(source, out)],
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


def _texts(text: Any, count: int) -> dict[str, torch.Tensor]:
    """Draw texts of different lengths, each ended by the last id and filled with zeros."""
    drawn = torch.Generator().manual_seed(1)
    long = text.max_position_embeddings
    ids, mask = torch.zeros((count, long), dtype=torch.int64), torch.zeros((count, long), dtype=torch.int64)
    for row in range(count):
        width = max(2, long - 3 * row)
        ids[row, :width] = torch.randint(1, text.vocab_size - 2, (width,), generator=drawn)
        ids[row, width - 1] = text.vocab_size - 1
        mask[row, :width] = 1
    return {"input_ids": ids, "attention_mask": mask}


class _Image(nn.Module):
    def __init__(self, model: Any, *, resized: bool) -> None:
        super().__init__()
        self.model, self.resized = model, resized

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cells, _ = self.model.image_embedder(pixel_values=pixel_values, interpolate_pos_encoding=self.resized)
        rows = cells.flatten(1, 2)
        head = self.model.class_head
        return (
            head.dense0(rows),
            head.logit_shift(rows)[..., 0],
            head.elu(head.logit_scale(rows))[..., 0] + 1,
            self.model.box_predictor(rows, cells, self.resized),
            self.model.objectness_predictor(rows),
        )


class _Text(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        towers = self.model.owlv2
        read = towers.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        vectors = towers.text_projection(read)
        return (vectors / torch.linalg.norm(vectors, ord=2, dim=-1, keepdim=True),)
