"""A captioner in the hub's layout whose answers can be worked out by hand: a word follows a word, or what was seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from nearsight.exporting.writing import Exported, written

if TYPE_CHECKING:
    from pathlib import Path

MARKS = ["<image>", "<end_of_utterance>", "<|im_start|>", "<fake_token_around_image>", "<global-img>", "<row_1_col_1>", "<row_1_col_2>"]  # fmt: skip
WORDS = ["[unk]", ":", "a", "red", "blue", "dog", "two", "many", "."]
PIECES = [*MARKS, *WORDS]
SIDE = 8
# How the tokenizer spells a piece, where that is not as the graphs call it.
SPELLED: dict[str, str] = {}
# What its configuration says besides how an answer ends.
CONFIG: dict[str, object] = {}
FLOATS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Who the model is."""

    name: str = "tiny-speaker"
    architecture: str = "smolvlm"
    capability: str = "caption"
    summary: str = "says what follows from a table"
    languages: tuple[str, ...] = ("en",)
    licence: str = "Apache-2.0"
    trained_on: tuple[str, ...] = ("nothing",)
    research_only: bool = False
    parameters: int = 1


def at(piece: str) -> int:
    return PIECES.index(piece)


def follows() -> np.ndarray:
    """(v, v): how much a word speaks for each next word; of red and blue neither is spoken for more than the other."""
    table = np.zeros((len(PIECES), len(PIECES)))
    for before, after in ((":", "a"), ("two", "dog"), ("red", "dog"), ("blue", "dog")):
        table[at(before), at(after)] = 10
    table[at("a"), [at("red"), at("blue")]] = 10
    table[at("dog"), at("<end_of_utterance>")] = 10
    return table


def remembered() -> np.ndarray:
    """(v, v): how much everything read so far speaks for each next word: what was seen for itself, "many" for "two"."""
    table = np.zeros((len(PIECES), len(PIECES)))
    table[at("red"), at("red")] = table[at("blue"), at("blue")] = 1
    table[at("many"), at("two")] = 30
    # Once said, it is not said again.
    table[at("two"), at("two")] = -40
    return table


def installed(folder: Path, kind: str = "float32") -> Path:
    """Install the model: float32 graphs as an export has them, or float16 as the hub has them too."""
    home = folder / "tiny-speaker"
    (home / "onnx").mkdir(parents=True)
    graphs = {"vision": _vision(kind), "embed": _embed(kind), "decoder": _decoder(kind)}
    for role, graph in graphs.items():
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        save(model, home / "onnx" / f"{role}.onnx")
    _words().save(str(home / "tokenizer.json"))
    processor = {
        "size": {"longest_edge": 2 * SIDE},
        "max_image_size": {"longest_edge": SIDE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (home / "preprocessor_config.json").write_text(json.dumps(processor))
    (home / "config.json").write_text(json.dumps({"eos_token_id": at("<end_of_utterance>"), **CONFIG}))
    exported = Exported(
        graphs={role: home / "onnx" / f"{role}.onnx" for role in graphs},
        golden={},
        assets=("tokenizer.json", "preprocessor_config.json", "config.json"),
    )
    written(Entry(), exported, home)
    return home


def _words() -> Tokenizer:
    made = Tokenizer(
        models.WordLevel({SPELLED.get(piece, piece): number for number, piece in enumerate(PIECES)}, unk_token="[unk]")
    )
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    made.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    return made


def _port(name: str, kind: int, *shape: int | str) -> object:
    return helper.make_tensor_value_info(name, kind, shape)


def _constant(name: str, array: np.ndarray, kind: str) -> object:
    return numpy_helper.from_array(array.astype(kind), name)


def _vision(kind: str) -> object:
    """The mean of red and of blue, in the vector's places for these words: (1, n, 3, h, w) to (n, 1, v)."""
    colours = np.zeros((3, len(PIECES)))
    colours[0, at("red")] = colours[2, at("blue")] = 1
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values"], ["colour"], axes=[3, 4], keepdims=0),
        helper.make_node("Squeeze", ["colour", "first"], ["row"]),
        helper.make_node("MatMul", ["row", "colours"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["image_features"]),
        helper.make_node("Cast", ["pixel_attention_mask"], ["mask"], to=TensorProto.FLOAT),
    ]
    return helper.make_graph(
        nodes,
        "vision",
        [
            _port("pixel_values", FLOATS[kind], "b", "n", 3, "h", "w"),
            _port("pixel_attention_mask", TensorProto.BOOL, "b", "n", "h", "w"),
        ],
        [_port("image_features", FLOATS[kind], "n", 1, len(PIECES)), _port("mask", TensorProto.FLOAT, "b", "n", "h", "w")],
        [_constant("colours", colours, kind), _constant("first", np.array([0]), "int64"), _constant("one", np.array([1]), "int64")],
    )  # fmt: skip


def _embed(kind: str) -> object:
    return helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["inputs_embeds"])],
        "embed",
        [_port("input_ids", TensorProto.INT64, "b", "t")],
        [_port("inputs_embeds", FLOATS[kind], "b", "t", len(PIECES))],
        [_constant("table", np.eye(len(PIECES)), kind)],
    )


def _decoder(kind: str) -> object:
    """Keys and values are the vectors themselves: what was read adds up, and what came last says what follows."""
    width, floats = len(PIECES), FLOATS[kind]
    nodes = [
        helper.make_node("Unsqueeze", ["inputs_embeds", "one"], ["new"]),
        helper.make_node("Concat", ["past_key_values.0.key", "new"], ["present.0.key"], axis=2),
        helper.make_node("Concat", ["past_key_values.0.value", "new"], ["present.0.value"], axis=2),
        helper.make_node("ReduceSum", ["present.0.value", "two"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["sum", "remembered"], ["before"]),
        helper.make_node("MatMul", ["inputs_embeds", "follows"], ["after"]),
        helper.make_node("Add", ["after", "before"], ["logits"]),
        # Taken and not used, as in many an export.
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=floats),
        helper.make_node("Cast", ["position_ids"], ["places"], to=floats),
    ]
    past = [_port(f"past_key_values.0.{part}", floats, "b", 1, "p", width) for part in ("key", "value")]
    present = [_port(f"present.0.{part}", floats, "b", 1, "q", width) for part in ("key", "value")]
    return helper.make_graph(
        nodes,
        "decoder",
        [
            _port("inputs_embeds", floats, "b", "t", width),
            _port("attention_mask", TensorProto.INT64, "b", "q"),
            _port("position_ids", TensorProto.INT64, "b", "t"),
            *past,
        ],
        [
            _port("logits", floats, "b", "t", width), *present, _port("mask", floats, "b", "q"), _port("places", floats, "b", "t")
        ],
        [
            _constant("follows", follows(), kind), _constant("remembered", remembered(), kind),
            _constant("one", np.array([1]), "int64"), _constant("two", np.array([2]), "int64"),
        ],
    )  # fmt: skip
