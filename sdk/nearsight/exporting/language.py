"""Exports language models that read from left to right: Qwen and Llama, or the part of SmolVLM that speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import DynamicCache

from nearsight.errors import InputError
from nearsight.exporting.caching import PAST, PRESENT, axes, drawn, drawn_ids, examples, flattened, names, paired
from nearsight.exporting.hubfolder import kept_files, loaded
from nearsight.exporting.tracing import Graphs
from nearsight.exporting.writing import Exported, weights_hash

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM")


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export a language model.

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: Not used: a language model takes any number of texts.
        canvas: None: there are no pictures.

    Raises:
        InputError: If a canvas is asked for.
        ModelError: If the source cannot be read.
    """
    del batch
    if canvas is not None:
        raise InputError(f"a canvas of {canvas} was asked for; {source} takes no pictures; leave it out")
    model = loaded(source, KINDS)
    graphs = Graphs(out)
    add_decoder(graphs, model.model, model.lm_head, model.config, embedded=False)
    return Exported(
        graphs=graphs.paths,
        golden=graphs.golden,
        assets=kept_files(source, out),
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


def add_embed(graphs: Graphs, model: Any) -> None:
    """Add the graph that makes vectors of ids."""
    table = model.get_input_embeddings()
    words = {0: "batch", 1: "words"}
    graphs.add(
        "embed",
        "embed_tokens",
        _Embed(table),
        lambda more: {"input_ids": drawn_ids((2 + more, 6 + more), table.num_embeddings)},
        ["inputs_embeds"],
        varying={"input_ids": words, "inputs_embeds": words},
    )


def add_decoder(graphs: Graphs, text: Any, head: Any, config: Any, *, embedded: bool) -> None:
    """Add the graph of a language model.

    Args:
        graphs: What it is added to.
        text: The layers, without the head.
        head: Makes logits of the last token's state; those of the prompt's other tokens nobody reads.
        config: The text part of the model's configuration.
        embedded: Whether it takes vectors, which may be a picture's, and not ids.
    """
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    deep = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    past, present = names(PAST, layers), names(PRESENT, layers)
    taken = "inputs_embeds" if embedded else "input_ids"

    def given(more: int) -> dict[str, torch.Tensor]:
        batch, new, before = 2 + more, 3 + more, 4 + more
        shape = (batch, new)
        return {
            taken: drawn((*shape, config.hidden_size)) if embedded else drawn_ids(shape, config.vocab_size),
            "attention_mask": torch.ones((batch, before + new), dtype=torch.int64),
            "position_ids": torch.arange(before, before + new).expand(shape).clone(),
            **examples(past, (batch, heads, before, deep)),
        }

    varying = {
        taken: {0: "batch", 1: "new"},
        "position_ids": {0: "batch", 1: "new"},
        "attention_mask": {0: "batch", 1: "total"},
        "logits": {0: "batch"},
    }
    varying |= axes(past, "past") | axes(present, "total")
    graphs.add(
        "decoder",
        "decoder_model_merged" if embedded else "model",
        _Decoder(text, head, embedded=embedded),
        given,
        ["logits", *present],
        varying=varying,
        compared=["logits", present[-1]],
    )


class _Embed(nn.Module):
    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed = embed

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.embed(input_ids),)


class _Decoder(nn.Module):
    def __init__(self, text: Any, head: Any, *, embedded: bool) -> None:
        super().__init__()
        self.text, self.head = text, head
        self.taken = "inputs_embeds" if embedded else "input_ids"

    def forward(
        self, new: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        found = self.text(
            **{self.taken: new},
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=DynamicCache(paired(past)),
            use_cache=True,
        )
        return self.head(found.last_hidden_state[:, -1:]), *flattened(found.cache.layers)
