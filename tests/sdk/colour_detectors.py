"""Detectors whose weights one can compute by hand: what they see is the mean colour of each quarter of a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nearsight_models import Manifest
from nearsight_models.manifest import File
from nearsight_models.pages import save

SIDE = 16  # pixels of the canvas
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}
PLAIN = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "a", "photo", "of", "car", *COLOURS)
# Centre and size of each quarter, row by row, in the unit square.
QUARTERS = ((0.25, 0.25, 0.5, 0.5), (0.75, 0.25, 0.5, 0.5), (0.25, 0.75, 0.5, 0.5), (0.75, 0.75, 0.5, 0.5))
SCALE, SHIFT = 20.0, -0.8  # of cosines: the same colour has logit 4, another one -16


def owlv2(name: str, **settings: Any) -> Path:
    """Install an OWLv2 of our export: a vector for each quarter is its colour, a text's the sum of its words'."""
    folder = started(
        name,
        {"size": {"width": SIDE, "height": SIDE}, **PLAIN_VALUES},
        {"text_config": {"max_position_embeddings": 16}},
    )
    nodes, held = quarters("class_embeds")
    nodes += [
        helper.make_node("ReduceMax", ["class_embeds"], ["objectness_logits"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["objectness_logits", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "scale"], ["logit_scale"]),
        helper.make_node("Add", ["nothing", "shift"], ["logit_shift"]),
        helper.make_node("Unsqueeze", ["nothing", "last"], ["nothings"]),
        helper.make_node("Add", ["nothings", "places"], ["pred_boxes"]),
    ]
    held |= {"none": np.float32(0), "scale": np.float32(SCALE), "shift": np.float32(SHIFT), "last": np.array([2])}
    held |= {"places": np.array(QUARTERS, np.float32)}
    outputs = {
        "class_embeds": ("n", 4, 3),
        "logit_shift": ("n", 4),
        "logit_scale": ("n", 4),
        "pred_boxes": ("n", 4, 4),
        "objectness_logits": ("n", 4),
    }
    image = saved(folder, "vision_model", nodes, held, {"pixel_values": ("n", 3, SIDE, SIDE)}, outputs)
    words = [
        helper.make_node("Gather", ["colours", "input_ids"], ["said"]),
        helper.make_node("ReduceSum", ["said", "along"], ["text_embeds"], keepdims=0),
    ]
    given = {"input_ids": ("m", 16), "attention_mask": ("m", 16)}
    text = saved(
        folder, "text_model", words, {"colours": table(), "along": np.array([1])}, given, {"text_embeds": ("m", 3)}
    )
    return finished(folder, "owlv2", {"image": image, "text": text}, settings)


def whole_owlv2(name: str, **settings: Any) -> Path:
    """Install an OWLv2 as the hub's ready exports are: one graph, words inside."""
    folder = started(
        name,
        {"size": {"width": SIDE, "height": SIDE}, **PLAIN_VALUES},
        {"text_config": {"max_position_embeddings": 16}},
    )
    nodes, held = quarters("seen")
    nodes += [
        helper.make_node("Gather", ["colours", "input_ids"], ["tokens"]),
        helper.make_node("ReduceSum", ["tokens", "along"], ["said"], keepdims=0),
        helper.make_node("Transpose", ["said"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["seen", "turned"], ["cosines"]),
        helper.make_node("Add", ["cosines", "shift"], ["moved"]),
        helper.make_node("Mul", ["moved", "scale"], ["logits"]),
        *boxes("seen"),
    ]
    held |= {
        "colours": table(),
        "along": np.array([1]),
        "shift": np.float32(SHIFT),
        "scale": np.float32(SCALE),
    } | held_boxes()
    given = {"pixel_values": (1, 3, SIDE, SIDE), "input_ids": ("q", 16), "attention_mask": ("q", 16)}
    whole = saved(folder, "model", nodes, held, given, {"logits": (1, 4, "q"), "pred_boxes": (1, 4, 4)})
    return finished(folder, "owlv2", {"detect": whole}, settings)


def grounding_dino(name: str, *, longest: int = 256, **settings: Any) -> Path:
    """Install a Grounding DINO: a token's score is how much of its colour a quarter has."""
    folder = started(
        name, {"size": {"shortest_edge": SIDE, "longest_edge": SIDE}, **PLAIN_VALUES}, {"max_text_len": longest}
    )
    nodes, held = quarters("seen")
    nodes += [
        helper.make_node("Gather", ["colours", "input_ids"], ["said"]),
        helper.make_node("Transpose", ["said"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["seen", "turned"], ["cosines"]),
        helper.make_node("Add", ["cosines", "shift"], ["moved"]),
        helper.make_node("Mul", ["moved", "scale"], ["logits"]),
        *boxes("seen"),
    ]
    held |= {"colours": table(), "shift": np.float32(SHIFT), "scale": np.float32(SCALE)} | held_boxes()
    words = dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), ("n", "t"))
    given = {"pixel_values": ("n", 3, SIDE, SIDE), "pixel_mask": ("n", SIDE, SIDE), **words}
    whole = saved(folder, "model", nodes, held, given, {"logits": ("n", 4, "t"), "pred_boxes": ("n", 4, 4)})
    return finished(folder, "grounding-dino", {"detect": whole}, {"canvas": [SIDE, SIDE], **settings})


def rt_detr(name: str, names: tuple[str, ...] = ("person", "motorbike", "widget"), **settings: Any) -> Path:
    """Install an RT-DETR of three classes: red is the first, green the second, blue the third."""
    config = {"id2label": {str(number): label for number, label in enumerate(names)}}
    folder = started(name, {"size": {"width": SIDE, "height": SIDE}, **PLAIN_VALUES, "resample": 2}, config)
    nodes, held = quarters("seen")
    nodes += [
        helper.make_node("Add", ["seen", "shift"], ["moved"]),
        helper.make_node("Mul", ["moved", "scale"], ["logits"]),
        *boxes("seen"),
    ]
    held |= {"shift": np.float32(SHIFT), "scale": np.float32(SCALE)} | held_boxes()
    given = {"pixel_values": ("n", 3, SIDE, SIDE)}
    whole = saved(folder, "model", nodes, held, given, {"logits": ("n", 4, 3), "pred_boxes": ("n", 4, 4)})
    return finished(folder, "rt-detr", {"detect": whole}, settings)


def yolox(name: str, rows: dict[int, tuple[float, ...]], **settings: Any) -> Path:
    """Install a YOLOX of 32 x 32 pixels that gives the same rows (cell -> its numbers) for every picture.

    Its grids have 4 x 4, 2 x 2 and 1 cells.
    """
    folder = started(name)
    width = len(next(iter(rows.values())))
    answer = np.zeros((1, 21, width), np.float32)
    for cell, numbers in rows.items():
        answer[0, cell] = numbers
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "none"], ["nothing"]),
        helper.make_node("Squeeze", ["nothing", "last"], ["nothings"]),
        helper.make_node("Add", ["nothings", "answer"], ["output"]),
    ]
    held = {"none": np.float32(0), "answer": answer, "last": np.array([3])}
    whole = saved(folder, "model", nodes, held, {"images": (1, 3, 32, 32)}, {"output": (1, 21, width)})
    return finished(folder, "yolox", {"detect": whole}, {"canvas": [32, 32], **settings})


PLAIN_VALUES = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
_INTEGERS = {"input_ids", "token_type_ids", "attention_mask", "pixel_mask"}


def quarters(name: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Give nodes that make (n, 4, 3), the mean colour of each quarter, of `pixel_values`."""
    nodes = [
        helper.make_node(
            "AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[SIDE // 2] * 2, strides=[SIDE // 2] * 2
        ),
        helper.make_node("Reshape", ["pooled", "rows"], ["flat"]),
        helper.make_node("Transpose", ["flat"], [name], perm=[0, 2, 1]),
    ]
    return nodes, {"rows": np.array([0, 3, 4])}


def boxes(seen: str) -> list[onnx.NodeProto]:
    """Give nodes that make `pred_boxes`, the quarters."""
    return [
        helper.make_node("ReduceMax", [seen], ["most"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["most", "none"], ["nothing"]),
        helper.make_node("Add", ["nothing", "places"], ["pred_boxes"]),
    ]


def held_boxes() -> dict[str, np.ndarray]:
    return {"none": np.float32(0), "places": np.array(QUARTERS, np.float32)}


def table() -> np.ndarray:
    """Give the vector of each token: (tokens, 3)."""
    return np.array([COLOURS.get(token, (0, 0, 0)) for token in PLAIN], np.float32)


def started(name: str, processor: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> Path:
    """Make a model's folder with its own files."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    folder = Path(os.environ["NEARSIGHT_MODELS"], name)
    (folder / "onnx").mkdir(parents=True)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
        (folder / "config.json").write_text(json.dumps(config))
        made = Tokenizer(models.WordLevel({token: number for number, token in enumerate(PLAIN)}, unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        made.add_special_tokens(["[CLS]", "[SEP]"])
        made.save(str(folder / "tokenizer.json"))
    return folder


def saved(
    folder: Path,
    stem: str,
    nodes: list[onnx.NodeProto],
    held: dict[str, np.ndarray],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
) -> Path:
    ports = [
        helper.make_tensor_value_info(port, TensorProto.INT64 if port in _INTEGERS else TensorProto.FLOAT, shape)
        for port, shape in inputs.items()
    ]
    found = [helper.make_tensor_value_info(port, TensorProto.FLOAT, shape) for port, shape in outputs.items()]
    weights = [numpy_helper.from_array(np.asarray(array), key) for key, array in held.items()]
    graph = helper.make_graph(nodes, stem, ports, found, weights)
    path = folder / "onnx" / f"{stem}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def finished(folder: Path, architecture: str, graphs: dict[str, Path], settings: dict[str, Any]) -> Path:
    """Write the model's page."""
    assets = [folder / name for name in ("config.json", "preprocessor_config.json", "tokenizer.json")]
    page = Manifest(
        name=folder.name,
        family=folder.name,
        capability="detect",
        summary="sees colours",
        languages=("en",),
        licence="Apache-2.0",
        trained_on=(),
        research_only=False,
        parameters=1,
        files={role: {"fp32": File.of(path)} for role, path in graphs.items()},
        golden={},
        preprocessing=None,
        settings=settings,
        architecture=architecture,
        assets={path.name: File.of(path) for path in assets if path.exists()},
    )
    save(page, folder)
    return folder
