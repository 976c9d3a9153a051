"""A Chinese-CLIP whose two towers are one graph, as the hub has it: so small that its vectors can be worked out by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

import nearsight as ns
from nearsight_models import File, Manifest, Source, pages

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'nearsight[hub]'")
onnx = pytest.importorskip("onnx", reason="graphs are written with onnx, which is not installed")
from hub_models import standing_in  # noqa: E402  it needs both

WORDS = {"[PAD]": (0, 0, 0), "红": (1, 0, 0), "绿": (0, 1, 0), "蓝": (0, 0, 1), "[UNK]": (0, 0, 0)}


def graph(path: Path, pictures: int | str, texts: int | str) -> None:
    """Pictures become their mean colour, texts the sum of their words' colours; both inputs are always wanted."""
    info, node, kind = onnx.helper.make_tensor_value_info, onnx.helper.make_node, onnx.TensorProto
    constants = {
        "colours": np.array(list(WORDS.values()), np.float32),
        "last": np.array([2], np.int64),
        "places": np.array([1], np.int64),
    }
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0),
                node("Gather", ["colours", "input_ids"], ["each"]),
                node("Cast", ["attention_mask"], ["real"], to=kind.FLOAT),
                node("Unsqueeze", ["real", "last"], ["weights"]),
                node("Mul", ["each", "weights"], ["weighed"]),
                node("ReduceSum", ["weighed", "places"], ["text_embeds"], keepdims=0),
            ],
            "both",
            [
                info("pixel_values", kind.FLOAT, [pictures, 3, 8, 8]),
                info("input_ids", kind.INT64, [texts, "places"]),
                info("attention_mask", kind.INT64, [texts, "places"]),
            ],
            [info("image_embeds", kind.FLOAT, [pictures, 3]), info("text_embeds", kind.FLOAT, [texts, 3])],
            [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(made)
    path.parent.mkdir()
    onnx.save(made, path)


@pytest.fixture
def encoder(tmp_path, monkeypatch, request) -> ns.Encoder:
    import tokenizers

    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path))
    home = tmp_path / "colours"
    home.mkdir()
    graph(home / "onnx" / "model.onnx", *getattr(request, "param", ("pictures", "texts")))
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    words.save(str(home / "tokenizer.json"))
    recipe = {"size": {"height": 8, "width": 8}, "do_center_crop": False, "resample": 3}
    recipe |= {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (home / "preprocessor_config.json").write_text(json.dumps(recipe))
    both = {"fp32": File.of(home / "onnx" / "model.onnx")}
    page = Manifest(
        name="colours", family="colours", capability="search", architecture="chinese-clip", summary="a test",
        languages=("zh",), licence="CC0-1.0", trained_on=("nothing",), research_only=False, parameters=15,
        files={"image": both, "text": both}, golden={}, preprocessing=None, settings={}, space="colours-1", dimensions=3,
        assets={name: File.of(home / name) for name in ("tokenizer.json", "preprocessor_config.json")},
        source=Source(repo="house/colours", revision="", how="pull"),
    )  # fmt: skip
    pages.save(page, home)
    return ns.Encoder("colours")


@pytest.mark.parametrize("encoder", [("pictures", "texts"), (1, 1), (2, "texts")], indirect=True)
def test_each_tower_answers_although_the_graph_wants_both_inputs(encoder):
    pictures = [np.full((5, 9, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 100), (30, 40, 0))]

    seen = encoder.images(pictures).vectors
    said = encoder.texts(["红", "蓝", "红绿", "绿"]).vectors

    np.testing.assert_allclose(seen, [[1, 0, 0], [0, 0, 1], [0.6, 0.8, 0]], atol=1e-6)
    np.testing.assert_allclose(said, [[1, 0, 0], [0, 0, 1], [0.5**0.5, 0.5**0.5, 0], [0, 1, 0]], atol=1e-6)


def test_pictures_are_run_together_since_a_batch_of_them_has_one_text(encoder):
    fake = standing_in(encoder, "image", best_batch=2)

    seen = encoder.images([np.full((5, 9, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 100), (0, 9, 0))])

    assert [len(call["pixel_values"]) for call in fake.calls] == [3]
    np.testing.assert_allclose(seen.vectors, np.eye(3)[[0, 2, 1]], atol=1e-6)


def test_the_graph_is_loaded_once_for_both(encoder):
    encoder.texts(["红"])
    encoder.images([np.full((4, 4, 3), 9, np.uint8)])
    engine = encoder._engine

    assert engine.session("image") is engine.session("text")


def test_its_file_is_counted_once(encoder):
    page = encoder._engine.manifest

    assert page.bytes == sum(file.bytes for file in (page.files["image"]["fp32"], *page.assets.values()))
