"""Exports SmolVLM and Idefics3: the tower that sees one tile after another, and the language model that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nearsight.errors import InputError
from nearsight.exporting.caching import pictures
from nearsight.exporting.hubfolder import kept_files, loaded, pictures_file
from nearsight.exporting.language import add_decoder, add_embed
from nearsight.exporting.tracing import Graphs, samples
from nearsight.exporting.writing import Exported, weights_hash

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration")


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export a SmolVLM.

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: How many pictures the vision graph takes at once; None for any number. `Captioner` gives it one,
            of any number of tiles.
        canvas: Width and height of one tile; SmolVLM has one size, so None, or that.

    Raises:
        InputError: If another canvas is asked for.
        ModelError: If the source cannot be read.
    """
    model = loaded(source, KINDS)
    side = model.config.vision_config.image_size
    if canvas not in (None, (side, side)):
        raise InputError(f"a canvas of {canvas} was asked for; {source} takes {side} x {side} pixels; leave it out")
    graphs = Graphs(out)
    tiles = {1: "tiles"} if batch else {0: "batch", 1: "tiles"}
    graphs.add(
        "vision",
        "vision_encoder",
        _Vision(model),
        lambda more: {"pixel_values": pictures(samples(batch, more), side, side)[:, None]},
        ["image_features"],
        varying={"pixel_values": tiles, "image_features": {0: "tiles"}},
    )
    add_embed(graphs, model)
    add_decoder(graphs, model.model.text_model, model.lm_head, model.config.text_config, embedded=True)
    return Exported(
        graphs=graphs.paths,
        golden=graphs.golden,
        assets=[*kept_files(source, out), pictures_file(source, out)],
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


class _Vision(nn.Module):
    """The tower and the connector for tiles that are full of picture, so that every place has its own position."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower, self.connector = model.model.vision_model, model.model.connector

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        tiles = pixel_values.flatten(0, 1)
        embeddings = self.tower.embeddings
        seen = embeddings.patch_embedding(tiles).flatten(2).transpose(1, 2) + embeddings.position_embedding.weight
        seen = self.tower.encoder(inputs_embeds=seen, attention_mask=None).last_hidden_state
        return (self.connector(self.tower.post_layernorm(seen)),)
