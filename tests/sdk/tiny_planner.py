"""A language model in the hub's layout that says one thing, whatever it is asked, and then ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tiny_speaker import Entry
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from nearsight.exporting.writing import Exported, written

if TYPE_CHECKING:
    from pathlib import Path

END = "<|im_end|>"


def installed(folder: Path, said: str, architecture: str = "qwen2", window: int = 2048) -> Path:
    """Install it."""
    home = folder / "tiny-planner"
    (home / "onnx").mkdir(parents=True)
    pieces = [END, "<|im_start|>", "[unk]", "assistant", said]
    words = Tokenizer(models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="[unk]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([AddedToken(mark, special=True) for mark in pieces[:2]])
    words.save(str(home / "tokenizer.json"))
    (home / "config.json").write_text(json.dumps({"eos_token_id": 0, "max_position_embeddings": window}))
    model = helper.make_model(_decoder(len(pieces)), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, home / "onnx" / "model.onnx")
    entry = Entry(name="tiny-planner", architecture=architecture, capability="plan")
    exported = Exported(
        graphs={"decoder": home / "onnx" / "model.onnx"}, golden={}, assets=("tokenizer.json", "config.json")
    )
    written(entry, exported, home)
    return home


def _decoder(size: int) -> object:
    """After `assistant` comes what is said, and after that the end; keys and values are only handed on."""
    table = np.zeros((size, size), np.float32)
    table[3, 4] = table[4, 0] = 10
    port = helper.make_tensor_value_info
    past = [port(f"past_key_values.0.{part}", TensorProto.FLOAT, ["b", 1, "p", 1]) for part in ("key", "value")]
    present = [port(f"present.0.{part}", TensorProto.FLOAT, ["b", 1, "q", 1]) for part in ("key", "value")]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["logits"]),
        helper.make_node("Cast", ["position_ids"], ["places"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["places", "axes"], ["new"]),
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "new"], ["present.0.value"], axis=2),
        helper.make_node("Identity", ["attention_mask"], ["mask"]),
    ]
    return helper.make_graph(
        nodes,
        "planner",
        [
            port("input_ids", TensorProto.INT64, ["b", "t"]),
            port("attention_mask", TensorProto.INT64, ["b", "q"]),
            port("position_ids", TensorProto.INT64, ["b", "t"]),
            *past,
        ],
        [
            port("logits", TensorProto.FLOAT, ["b", "t", size]),
            *present,
            port("mask", TensorProto.INT64, ["b", "q"]),
        ],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1, 3]), "axes")],
    )
