"""`make verify-hub` on files laid out as on the hub, with a CLIP so small that its answers can be worked out by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'nearsight[hub]'")
onnx = pytest.importorskip("onnx", reason="graphs are written with onnx, which is not installed")

from nearsight_demos import hubcheck  # noqa: E402
from nearsight_models import catalogue, models_folder  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

# What each word looks like, in red, green and blue.
WORDS = {"[PAD]": (0, 0, 0), "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "a": (0.01, 0.01, 0.01)}
PAGE = """
name = "colours"
capability = "search"
architecture = "clip"
summary = "a test"
languages = ["en"]
licence = "CC0-1.0"
research_only = false
parameters = 15
dimensions = 3
trained_on = ["nothing"]
[hub]
repo = "house/colours"
revision = ""
confirmed = true
assets = ["config.json", "preprocessor_config.json", "tokenizer.json"]
[hub.files.image]
fp32 = { path = "onnx/vision_model.onnx" }
[hub.files.text]
fp32 = { path = "onnx/text_model.onnx" }
"""


def graph(path: Path, nodes: list, given: list, output: str, constants: dict[str, np.ndarray]) -> None:
    kept = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    out = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["n", 3])
    made = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, path.stem, given, [out], kept),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(made)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(made, path)


@pytest.fixture
def on_a_stick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository of a model that sees the mean colour, and the catalogue that names it."""
    import tokenizers

    stick = tmp_path / "stick"
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    pixels = info("pixel_values", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    mean = node("ReduceMean", ["pixel_values"], ["image_embeds"], axes=[2, 3], keepdims=0)
    graph(stick / "onnx" / "vision_model.onnx", [mean], [pixels], "image_embeds", {})
    ids = info("input_ids", onnx.TensorProto.INT64, ["n", "t"])
    looked_up = node("Gather", ["colours", "input_ids"], ["each"])
    summed = node("ReduceSum", ["each", "places"], ["text_embeds"], keepdims=0)
    table = {"colours": np.array(list(WORDS.values()), np.float32), "places": np.array([1], np.int64)}
    graph(stick / "onnx" / "text_model.onnx", [looked_up, summed], [ids], "text_embeds", table)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[PAD]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(stick / "tokenizer.json"))
    (stick / "config.json").write_text(json.dumps({"model_type": "clip"}))
    recipe = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "resample": 3}
    recipe |= {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "do_center_crop": True, "do_resize": True}
    (stick / "preprocessor_config.json").write_text(json.dumps(recipe))
    pages = tmp_path / "catalogue"
    pages.mkdir()
    (pages / "colours.toml").write_text(PAGE)
    monkeypatch.setattr(catalogue, "folder", lambda: pages)
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return stick


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "squares"
    folder.mkdir()
    for name, colour in {"r.png": (230, 20, 20), "g.png": (10, 200, 30), "b.png": (20, 10, 220)}.items():
        Image.new("RGB", (31, 17), colour).save(folder / name)
    return folder


def test_the_check_pulls_indexes_asks_and_reports(on_a_stick, squares, monkeypatch, capsys):
    questions = (("a red", ("r.png",)), ("a green", ("g.png", "not there.png")), ("a blue", ("b.png",)), ("x", ("no",)))
    monkeypatch.setattr(hubcheck, "QUESTIONS", questions)

    code = hubcheck.main(["--model", "colours", "--photos", str(squares), "--from", str(on_a_stick)])

    said = capsys.readouterr().out
    report = json.loads((squares.parent / "demo" / "hub-colours.json").read_text())
    assert code == 0, said
    assert "colours: the right picture is the nearest in 3 of 3 questions" in said
    assert report["colours"]["first"] == 3
    assert report["colours"]["answers"]["a green"]["nearest"][0] == "g.png"
    assert report["source"] == {"repo": "house/colours", "revision": ""}
    assert set(report["files"]) == {
        "vision_model.onnx",
        "text_model.onnx",
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
    }
    assert (models_folder() / "colours" / "manifest.toml").is_file()


def test_wrong_answers_are_told_by_the_exit_code(on_a_stick, squares, monkeypatch, capsys):
    questions = (("a red", ("g.png",)), ("a green", ("b.png",)), ("a blue", ("r.png",)))
    monkeypatch.setattr(hubcheck, "QUESTIONS", questions)

    assert hubcheck.main(["--model", "colours", "--photos", str(squares), "--from", str(on_a_stick)]) == 1
    assert "nearest in 0 of 3 questions" in capsys.readouterr().out


def test_a_photograph_that_cannot_be_read_is_left_out_and_named(on_a_stick, squares, monkeypatch, capsys):
    (squares / "g.png").write_bytes(b"no picture")
    questions = (("a red", ("r.png",)), ("a green", ("g.png",)), ("a blue", ("b.png", "g.png")))
    monkeypatch.setattr(hubcheck, "QUESTIONS", questions)

    code = hubcheck.main(["--model", "colours", "--photos", str(squares), "--from", str(on_a_stick)])

    report = json.loads((squares.parent / "demo" / "hub-colours.json").read_text())
    assert code == 0
    assert "nearest in 2 of 2 questions" in capsys.readouterr().out
    assert (report["photographs"], report["left_out"], report["not_asked"]) == (2, ["g.png"], ["a green"])


def test_a_folder_without_an_answer_to_any_question_is_one_line(on_a_stick, squares, capsys):
    for path in squares.iterdir():
        path.write_bytes(b"no picture")

    assert hubcheck.main(["--model", "colours", "--photos", str(squares), "--from", str(on_a_stick)]) == 1

    assert capsys.readouterr().err == f"hub check: {squares} has no picture that can be read; leave --photos out\n"


def test_a_model_that_cannot_be_had_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NEARSIGHT_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)

    assert hubcheck.main(["--from", str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("hub check: there is no folder ")


def test_there_are_twenty_questions_and_each_has_a_picture_of_the_tour(photos):
    from nearsight_demos.photographs import CARRIED

    carried = {member.rpartition("/")[2] for members in CARRIED.values() for member in members}
    there = carried | {path.name for path in photos.iterdir()}

    assert len(hubcheck.QUESTIONS) == 20
    assert all(set(right) & carried for _, right in hubcheck.QUESTIONS)
    assert all(set(right) <= there for _, right in hubcheck.QUESTIONS)
