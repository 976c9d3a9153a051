"""Exports BLIP: what the picture means to each layer of the decoder is worked out once, not at every token."""

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
    drawn_ids,
    examples,
    flattened,
    names,
    paired,
    pictures,
)
from nearsight.exporting.hubfolder import kept_files, loaded, pictures_file
from nearsight.exporting.tracing import Graphs, samples
from nearsight.exporting.writing import Exported, weights_hash

if TYPE_CHECKING:
    from pathlib import Path

CAPTIONS, ANSWERS = "BlipForConditionalGeneration", "BlipForQuestionAnswering"


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export a BLIP that captions, or one that answers questions.

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: How many pictures the vision graph takes at once; None for any number. `Captioner` gives it one.
        canvas: Width and height of the pictures; BLIP has one size, so None, or that.

    Raises:
        InputError: If another canvas is asked for.
        ModelError: If the source cannot be read.
    """
    model = loaded(source, (CAPTIONS, ANSWERS))
    text, side = model.config.text_config, model.config.vision_config.image_size
    if canvas not in (None, (side, side)):
        raise InputError(f"a canvas of {canvas} was asked for; {source} takes {side} x {side} pixels; leave it out")
    graphs = Graphs(out)
    crossed = names(PRESENT, text.num_hidden_layers, CROSS)
    answers = type(model).__name__ == ANSWERS
    seen = ["image_embeds"] if answers else crossed
    free = {0: "batch"} if batch is None else {}
    graphs.add(
        "vision",
        "vision_model",
        _Vision(model, answers=answers),
        lambda more: {"pixel_values": pictures(samples(batch, more), side, side)},
        seen,
        varying={"pixel_values": free, **dict.fromkeys(seen, free)},
        compared=seen[-1:],
    )
    if answers:
        _add_question(graphs, model)
    _add_decoder(graphs, model)
    return Exported(
        graphs=graphs.paths,
        golden=graphs.golden,
        assets=[*kept_files(source, out), pictures_file(source, out)],
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


def _add_question(graphs: Graphs, model: Any) -> None:
    text, vision = model.config.text_config, model.config.vision_config
    crossed = names(PRESENT, text.num_hidden_layers, CROSS)
    cells = (vision.image_size // vision.patch_size) ** 2 + 1

    def given(more: int) -> dict[str, torch.Tensor]:
        shape = (2 + more, 6 + more)
        return {
            "input_ids": drawn_ids(shape, text.vocab_size),
            "attention_mask": torch.ones(shape, dtype=torch.int64),
            "image_embeds": drawn((2 + more, cells, vision.hidden_size)),
        }

    words = {0: "batch", 1: "words"}
    varying = {"input_ids": words, "attention_mask": words, "image_embeds": {0: "batch"}}
    graphs.add(
        "question",
        "question_encoder",
        _Question(model),
        given,
        crossed,
        varying=varying | axes(crossed, "words"),
        compared=crossed[-1:],
    )


def _add_decoder(graphs: Graphs, model: Any) -> None:
    text = model.config.text_config
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    past, cross, present = names(PAST, layers, SELF), names(PAST, layers, CROSS), names(PRESENT, layers, SELF)
    deep = text.hidden_size // heads

    def given(more: int) -> dict[str, torch.Tensor]:
        batch = 2 + more
        return {
            "input_ids": drawn_ids((batch, 3 + more), text.vocab_size),
            **examples(past, (batch, heads, 4 + more, deep)),
            **examples(cross, (batch, heads, 5 + 2 * more, deep)),
        }

    varying = {"input_ids": {0: "batch", 1: "new"}, "logits": {0: "batch"}}
    varying |= axes(past, "past") | axes(cross, "seen") | axes(present, "said")
    graphs.add(
        "decoder",
        "decoder_model",
        _Decoder(model.text_decoder, layers),
        given,
        ["logits", *present],
        varying=varying,
        compared=["logits", present[-1]],
    )


class _Vision(nn.Module):
    def __init__(self, model: Any, *, answers: bool) -> None:
        super().__init__()
        self.model, self.answers = model, answers

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen = self.model.vision_model(pixel_values=pixel_values).last_hidden_state
        return (seen,) if self.answers else _crossed(self.model.text_decoder, seen)


class _Question(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, image_embeds: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        read = self.model.text_encoder(
            input_ids=input_ids, attention_mask=attention_mask, encoder_hidden_states=image_embeds
        ).last_hidden_state
        return _crossed(self.model.text_decoder, read)


class _Decoder(nn.Module):
    def __init__(self, decoder: Any, layers: int) -> None:
        super().__init__()
        self.decoder, self.layers = decoder, layers

    def forward(self, input_ids: torch.Tensor, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
        said, seen = paired(flat[: 2 * self.layers]), paired(flat[2 * self.layers :])
        cache = EncoderDecoderCache(DynamicCache(said), DynamicCache(seen))
        # The layers only ask whether there is an encoder; what they look at is in the cache.
        found = self.decoder(input_ids=input_ids, encoder_hidden_states=seen[0][0], cache=cache, use_cache=True)
        return found.logits[:, -1:], *flattened(found.cache.self_attention_cache.layers)


def _crossed(decoder: Any, seen: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Give each layer's keys and values of what was seen (batch, cells, width)."""
    looking = [layer.crossattention.self for layer in decoder.bert.encoder.layer]
    return tuple(
        projection(seen).view(seen.shape[0], seen.shape[1], -1, one.attention_head_size).transpose(1, 2)
        for one in looking
        for projection in (one.key, one.value)
    )
