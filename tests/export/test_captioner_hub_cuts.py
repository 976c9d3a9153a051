"""Florence-2 as the hub cuts it: an encoder that keeps no keys, and one merged decoder that makes them at first."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import tiny_captioners as tiny
import torch
import transformers
from onnx import TensorProto, helper
from PIL import Image
from test_captioners import CASES, LONGEST, SPEAK, generated
from transformers import DynamicCache, EncoderDecoderCache

from nearsight.exporting import export_model
from nearsight.exporting.caching import CROSS, PAST, PRESENT, SELF, axes, drawn, examples, names, paired
from nearsight.exporting.tracing import traced
from nearsight.exporting.writing import Exported, written

if TYPE_CHECKING:
    from pathlib import Path

HALVES = [(kind, part) for kind in (SELF, CROSS) for part in ("key", "value")]


class Encoder(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.model.language_model.encoder

    def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.encoder(inputs_embeds=inputs_embeds, attention_mask=attention_mask).last_hidden_state,)


class Decoder(torch.nn.Module):
    """One of the two branches: with a past, or without one and with all keys and values given."""

    def __init__(self, model: Any, layers: int, *, later: bool) -> None:
        super().__init__()
        self.decoder, self.head, self.layers, self.later = (
            model.model.language_model.decoder,
            model.lm_head,
            layers,
            later,
        )

    def forward(self, encoder_attention_mask: Any, encoder_hidden_states: Any, inputs_embeds: Any, *flat: Any) -> Any:
        past = (
            [DynamicCache(paired(flat[half : half + 2 * self.layers])) for half in (0, 2 * self.layers)] if flat else []
        )
        cache = EncoderDecoderCache(*past) if past else EncoderDecoderCache(DynamicCache(), DynamicCache())
        found = self.decoder(
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            cache=cache,
            use_cache=True,
        )
        told = [
            layer
            for kind in (found.cache.self_attention_cache, found.cache.cross_attention_cache)
            for layer in kind.layers
        ]
        # As optimum merges them: later steps give nothing for the encoder.
        kept = [part if not (self.later and place >= self.layers) else part[:, :, :0] for place, layer in enumerate(told) for part in (layer.keys, layer.values)]  # fmt: skip
        return self.head(found.last_hidden_state), *kept


def branch(path: Path, name: str) -> Any:
    """Make a traced graph a branch: what it takes comes from outside, and its weights are its own."""
    graph = onnx.load(path).graph
    return helper.make_graph(list(graph.node), name, [], list(graph.output), list(graph.initializer))


def merged(model: Any, folder: Path, layers: int) -> Path:
    """Write the decoder with `use_cache_branch`."""
    text = model.config.text_config
    heads, deep = text.decoder_attention_heads, text.d_model // text.decoder_attention_heads
    past, present = [[*names(prefix, layers, SELF), *names(prefix, layers, CROSS)] for prefix in (PAST, PRESENT)]
    given = {
        "encoder_attention_mask": torch.ones((2, 5), dtype=torch.int64),
        "encoder_hidden_states": drawn((2, 5, text.d_model)),
        "inputs_embeds": drawn((2, 3, text.d_model), 1),
    }
    caches = {**examples(past[: 2 * layers], (2, heads, 4, deep)), **examples(past[2 * layers :], (2, heads, 5, deep))}
    free = {
        "encoder_attention_mask": {0: "b", 1: "s"},
        "encoder_hidden_states": {0: "b", 1: "s"},
        "inputs_embeds": {0: "b", 1: "t"},
    }
    free |= {
        "logits": {0: "b", 1: "t"},
        **axes(past[: 2 * layers], "p"),
        **axes(past[2 * layers :], "e"),
        **axes(present, "q"),
    }
    for later, more in ((False, {}), (True, caches)):
        decoder = Decoder(model, layers, later=later)
        inputs = {**given, **more}
        kept = {name: axis for name, axis in free.items() if name in inputs or name not in past}
        traced(decoder, folder / f"{later}.onnx", inputs, ["logits", *present], kept)
    both = onnx.load(folder / "True.onnx").graph
    outputs = [onnx.ValueInfoProto.FromString(port.SerializeToString()) for port in both.output]
    node = helper.make_node(
        "If", ["later"], [port.name for port in outputs],
        then_branch=branch(folder / "True.onnx", "later_steps"), else_branch=branch(folder / "False.onnx", "first_step"),
    )  # fmt: skip
    for one in node.attribute:
        for port in one.g.output:
            port.name = one.name + port.name
        for inner in one.g.node:
            inner.output[:] = [
                one.name + name if name in {port.name for port in outputs} else name for name in inner.output
            ]
            inner.input[:] = [
                one.name + name if name in {port.name for port in outputs} else name for name in inner.input
            ]
    takes = {port.name: port for port in both.input}
    graph = helper.make_graph(
        [helper.make_node("Squeeze", ["use_cache_branch"], ["later"]), node],
        "merged",
        [*[wanted(name, text, takes) for name in given], *[takes[name] for name in past if name in takes],
         helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])],
        outputs,
    )  # fmt: skip
    path = folder / "decoder_model_merged.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def wanted(name: str, text: Any, takes: dict[str, Any]) -> Any:
    """An input of the first step, which tracing may have left out of the later ones."""
    if name == "encoder_attention_mask":
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
    return takes.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "s", text.d_model])


@pytest.mark.parametrize("beams", [1, 3])
def test_the_hubs_merged_decoder_says_what_transformers_says(beams, tmp_path, photos, entry, torchless):
    source = tiny.florence2(tmp_path / "source")
    page = entry("tiny", "florence-2", "caption")
    home = export_model(page, source, folder=tmp_path / "models")
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(source, attn_implementation="eager").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = merged(model, home / "onnx", model.config.text_config.decoder_layers)
        read = {"inputs_embeds": drawn((2, 7, 32)), "attention_mask": torch.ones((2, 7), dtype=torch.int64)}
        free = {name: {0: "b", 1: "s"} for name in (*read, "last_hidden_state")}
        traced(Encoder(model), home / "onnx" / "encoder_hub.onnx", read, ["last_hidden_state"], free)
    graphs = {
        role: home / "onnx" / f"{stem}.onnx" for role, stem in (("vision", "vision_encoder"), ("embed", "embed_tokens"))
    }
    graphs |= {"encoder": home / "onnx" / "encoder_hub.onnx", "decoder": decoder}
    assets = ("config.json", "generation_config.json", "tokenizer.json", "preprocessor_config.json")
    written(page, Exported(graphs=graphs, golden={}, assets=assets), home)
    path = tmp_path / "coffee.png"
    Image.open(photos / "coffee.jpg").convert("RGB").resize((91, 60)).save(path)

    found = torchless(SPEAK, tmp_path / "models", "tiny", json.dumps([str(path)]), "", beams)

    wishes = {"min_new_tokens": LONGEST} if beams == 1 else {}
    tokens, _ = generated(CASES["florence-2"], source, path, num_beams=beams, **wishes)
    assert found["tokens0"].tolist() == tokens
