"""Exports Florence-2: what was read means the same at every token, so the encoder's graph says it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache

from nearsight.errors import InputError
from nearsight.exporting.caching import (
    CROSS,
    PAST,
    PRESENT,
    SELF,
    axes,
    drawn,
    examples,
    flattened,
    names,
    paired,
    pictures,
)
from nearsight.exporting.hubfolder import kept_files, loaded, pictures_file, processor_size
from nearsight.exporting.language import add_embed
from nearsight.exporting.tracing import Graphs, samples
from nearsight.exporting.writing import Exported, weights_hash

if TYPE_CHECKING:
    from pathlib import Path

KIND = "Florence2ForConditionalGeneration"


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export a Florence-2 in the form in which transformers has it (`florence-community/...` on the hub).

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: How many pictures the vision graph takes at once; None for any number. `Captioner` gives it one.
        canvas: Width and height of the pictures; None for what the model's processor makes. A part of the graph is
            drawn up for that size, so one export takes one size.

    Raises:
        InputError: If another canvas is asked for.
        ModelError: If the source cannot be read.
    """
    model = loaded(source, (KIND,))
    assets = [*kept_files(source, out), pictures_file(source, out)]
    wide, high = processor_size(out)
    if canvas not in (None, (wide, high)):
        raise InputError(f"a canvas of {canvas} was asked for; {source} takes {wide} x {high} pixels; leave it out")
    graphs = Graphs(out)
    free = {0: "batch"} if batch is None else {}
    graphs.add(
        "vision",
        "vision_encoder",
        _Vision(model),
        lambda more: {"pixel_values": pictures(samples(batch, more), high, wide)},
        ["image_features"],
        varying={"pixel_values": free, "image_features": free},
    )
    add_embed(graphs, model)
    _add_encoder(graphs, model)
    _add_decoder(graphs, model)
    return Exported(
        graphs=graphs.paths,
        golden=graphs.golden,
        assets=assets,
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


def _add_encoder(graphs: Graphs, model: Any) -> None:
    text = model.config.text_config
    crossed = names(PRESENT, text.decoder_layers, CROSS)

    def given(more: int) -> dict[str, torch.Tensor]:
        shape = (2 + more, 7 + more)
        return {
            "inputs_embeds": drawn((*shape, text.d_model)),
            "attention_mask": torch.ones(shape, dtype=torch.int64),
        }

    read = {0: "batch", 1: "read"}
    varying = {"inputs_embeds": read, "attention_mask": read, "last_hidden_state": read} | axes(crossed, "read")
    outputs = ["last_hidden_state", *crossed]
    compared = ["last_hidden_state", crossed[-1]]
    graphs.add("encoder", "encoder_model", _Encoder(model), given, outputs, varying=varying, compared=compared)


def _add_decoder(graphs: Graphs, model: Any) -> None:
    text = model.config.text_config
    layers, heads = text.decoder_layers, text.decoder_attention_heads
    past, cross, present = names(PAST, layers, SELF), names(PAST, layers, CROSS), names(PRESENT, layers, SELF)
    deep = text.d_model // heads

    def given(more: int) -> dict[str, torch.Tensor]:
        batch = 2 + more
        return {
            "inputs_embeds": drawn((batch, 3 + more, text.d_model)),
            **examples(past, (batch, heads, 4 + more, deep)),
            **examples(cross, (batch, heads, 5 + 2 * more, deep)),
        }

    varying = {"inputs_embeds": {0: "batch", 1: "new"}, "logits": {0: "batch"}}
    varying |= axes(past, "past") | axes(cross, "read") | axes(present, "said")
    graphs.add(
        "decoder",
        "decoder_model",
        _Decoder(model, layers),
        given,
        ["logits", *present],
        varying=varying,
        compared=["logits", present[-1]],
    )


class _Vision(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.model.get_image_features(pixel_values).pooler_output,)


class _Encoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.language = model.model.language_model

    def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        read = self.language.encoder(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state
        crossed = [
            projection(read).view(read.shape[0], read.shape[1], -1, layer.encoder_attn.head_dim).transpose(1, 2)
            for layer in self.language.decoder.layers
            for projection in (layer.encoder_attn.k_proj, layer.encoder_attn.v_proj)
        ]
        return read, *crossed


class _Decoder(nn.Module):
    def __init__(self, model: Any, layers: int) -> None:
        super().__init__()
        self.decoder, self.head, self.layers = model.model.language_model.decoder, model.lm_head, layers

    def forward(self, inputs_embeds: torch.Tensor, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        said, read = paired(flat[: 2 * self.layers]), paired(flat[2 * self.layers :])
        cache = EncoderDecoderCache(DynamicCache(said), DynamicCache(read))
        # The layers only ask whether there is an encoder; what they look at is in the cache.
        found = self.decoder(inputs_embeds=inputs_embeds, encoder_hidden_states=read[0][0], cache=cache, use_cache=True)
        logits = self.head(found.last_hidden_state[:, -1:])
        return logits, *flattened(found.cache.self_attention_cache.layers)
