"""A CLIP that knows colours, with weights computed by hand, installed as a model of the hub would be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from nearsight.exporting.writing import Exported, written
from nearsight.testing import COLOURS
from nearsight_npu.golden import Golden
from nearsight_npu.testing import FakeSession

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nearsight import Encoder

SIDE, LONGEST = 16, 8
MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.5, 0.5)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", *COLOURS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who the model is."""

    name: str = "colours"
    architecture: str = "clip"
    capability: str = "search"
    summary: str = "knows colours"
    languages: tuple[str, ...] = ("en",)
    licence: str = "Apache-2.0"
    trained_on: tuple[str, ...] = ("nothing",)
    research_only: bool = False
    parameters: int = 30


def installed(
    home: Path, *, turn: float = 1.0, batch: int | None = None, masked: bool = False, golden: bool = True, **entry: Any
) -> Path:
    """Install the model below a models folder; give its own folder.

    Args:
        home: The models folder.
        turn: What every weight is multiplied by: other weights are another space.
        batch: How many a run takes; None lets it vary.
        masked: Whether the text graph takes a mask as well.
        golden: Whether it comes with golden sets.
        entry: Fields of the page.
    """
    page = Entry(**entry)
    out = home / page.name
    (out / "onnx").mkdir(parents=True)
    graphs = {"image": out / "onnx" / "vision_model.onnx", "text": out / "onnx" / "text_model.onnx"}
    onnx.save(picture_graph(turn, batch), graphs["image"])
    onnx.save(text_graph(turn, batch, masked=masked), graphs["text"])
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessor()))
    places = {"text_config": {"max_position_embeddings": LONGEST if batch else 77}}
    (out / "config.json").write_text(json.dumps(places))
    words().save(str(out / "tokenizer.json"))
    made = Exported(
        graphs=graphs,
        golden={"image": picture_golden(turn), "text": text_golden(turn, masked=masked)} if golden else {},
        settings={"fixed_text": batch is not None},
        assets=("config.json", "preprocessor_config.json", "tokenizer.json"),
        dimensions=3,
    )
    written(page, made, out)
    return out


def standing_in(encoder: Encoder, role: str, **wishes: int) -> FakeSession:
    """Let a double that notes its runs answer for one of the encoder's graphs."""
    real = encoder._engine.session(role)
    fake = FakeSession(lambda arrays: real.run(arrays)[0], inputs=real.inputs, outputs=real.outputs, **wishes)
    encoder._engine._sessions[role] = fake
    return fake


def preprocessor() -> dict[str, Any]:
    """Give a page as transformers writes it."""
    return {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "resample": 3,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }


def words() -> Tokenizer:
    """Make a tokenizer of whole words."""
    made = Tokenizer(models.WordLevel({piece: place for place, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $0 [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def table(turn: float) -> np.ndarray:
    """Give a vector for each piece: for a colour, what the picture tower makes of it; float32 (pieces, 3)."""
    rows = np.zeros((len(PIECES), 3), np.float32)
    rows[3] = 1e-3  # a text of unknown words has some vector, too
    for place, piece in enumerate(PIECES):
        if piece in COLOURS:
            rows[place] = (np.array(COLOURS[piece]) / 255 - MEAN) / STD
    return rows * np.float32(turn)


def picture_graph(turn: float, batch: int | None) -> onnx.ModelProto:
    """Average each channel over the picture."""
    count = batch or "batch_size"
    return _model(
        [
            helper.make_node("ReduceMean", ["pixel_values"], ["mean"], axes=[2, 3], keepdims=0),
            helper.make_node("Mul", ["mean", "turn"], ["image_embeds"]),
        ],
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [count, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, [count, 3])],
        {"turn": np.float32(turn)},
    )


def text_graph(turn: float, batch: int | None, *, masked: bool) -> onnx.ModelProto:
    """Add the vectors of all pieces up; a mask, if there is one, leaves the filling out."""
    count, length = (batch, LONGEST) if batch else ("batch_size", "sequence_length")
    gathered = [helper.make_node("Gather", ["table", "input_ids"], ["rows"])]
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [count, length])]
    if masked:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [count, length]))
        gathered += [
            helper.make_node("Unsqueeze", ["attention_mask", "last"], ["wide"]),
            helper.make_node("Cast", ["wide"], ["shown"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["rows", "shown"], ["seen"]),
        ]
    added = helper.make_node("ReduceSum", ["seen" if masked else "rows", "middle"], ["text_embeds"], keepdims=0)
    return _model(
        [*gathered, added],
        inputs,
        [helper.make_tensor_value_info("text_embeds", TensorProto.FLOAT, [count, 3])],
        {"table": table(turn), "middle": np.array([1]), **({"last": np.array([-1])} if masked else {})},
    )


def picture_golden(turn: float) -> Golden:
    """Compute by hand what the picture graph gives."""
    pixels = np.random.default_rng(0).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
    pixels += np.eye(4, 3, dtype=np.float32)[:, :, None, None]
    answers = pixels.mean((2, 3)) * np.float32(turn)
    return Golden(inputs={"pixel_values": pixels}, outputs={"image_embeds": answers}, rank="image_embeds")


def text_golden(turn: float, *, masked: bool) -> Golden:
    """Compute by hand what the text graph gives."""
    ids = np.array([[2, 4, 6 + place, 3, *[0] * (LONGEST - 4)] for place in range(3)])
    answers = table(turn)[ids].sum(1)
    inputs = {"input_ids": ids, **({"attention_mask": (ids > 0).astype(np.int64)} if masked else {})}
    return Golden(inputs=inputs, outputs={"text_embeds": answers}, rank="text_embeds")


def _model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: dict[str, Any]) -> Any:
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "colours", inputs, outputs, kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made
