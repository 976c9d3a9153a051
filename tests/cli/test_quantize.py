"""`nearsight quantize`: a folder of pictures or an archive in, a file and one screen of figures out."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nearsight.cli import quantize as command
from nearsight.cli import stages
from nearsight.cli.options import in_options
from nearsight_npu import Delegate, Progress, quantize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ARGUMENTS = inspect.signature(quantize).parameters


@pytest.fixture(autouse=True)
def _no_talk_however_slow_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "TALK_EVERY_S", float("inf"))


def graph(path: Path, dtype: str, shape: list, nodes: list, weights: dict) -> Path:
    port = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
    answer = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", [port], [answer], tensors), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 10
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


@pytest.fixture
def eye(tmp_path: Path) -> Path:
    """A net that takes pictures: uint8 (n, 32, 48, 3), one convolution, five answers."""
    numbers = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], name="float", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["s"], name="scale"),
        helper.make_node("Transpose", ["s"], ["t"], name="planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="trunk.conv", kernel_shape=[5, 5], strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"], name="trunk.limit"),
        helper.make_node("Flatten", ["r"], ["v"], name="flat"),
        helper.make_node("Gemm", ["v", "m"], ["y"], name="head"),
    ]
    weights = {
        "scale": np.float32(1 / 255),
        "w": numbers.standard_normal((16, 3, 5, 5)).astype(np.float32),
        "m": numbers.standard_normal((16 * 7 * 11, 5)).astype(np.float32),
    }
    return graph(tmp_path / "eye.onnx", "uint8", ["n", 32, 48, 3], nodes, weights)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    weights = {"w": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    return graph(tmp_path / "text.onnx", "float32", ["n", 64], nodes, weights)


def test_a_folder_of_pictures_makes_a_file_that_runs(nearsight: Callable, eye: Path, album: Path) -> None:
    said = nearsight("quantize", eye, "--calibration", album)

    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith(
        f"wrote     {eye.with_name('eye.int8.onnx')}: static INT8, minmax of 8 samples, weights of "
    )
    assert [line.split()[0] for line in lines] == ["wrote", "size", "time", "answers", "y:", "operators"]
    assert ".jpg" in lines[4]
    assert "in float: 1 Cast, 1 Mul, 1 Transpose" in lines[5]
    assert "nearsight: ranges were taken from 8 samples only" in said.err
    assert said.err.splitlines()[-1].startswith("nearsight: cosine is not the task metric")
    pixels = np.zeros((2, 32, 48, 3), np.uint8)
    found, _ = Delegate("cpu").load(eye.with_name("eye.int8.onnx")).run({"x": pixels})
    assert found["y"].shape == (2, 5)


def test_the_object_is_the_report_with_the_worst_picture_named(nearsight: Callable, eye: Path, album: Path) -> None:
    said = nearsight(
        "quantize", eye, "--calibration", album, "--json", "--keep-float", "head", "--out", eye.with_name("q.onnx")
    )

    found = json.loads(said.out)
    assert said.err == ""
    assert found["out"] == str(eye.with_name("q.onnx"))
    assert found["bytes_after"] == eye.with_name("q.onnx").stat().st_size
    assert found["float_nodes"]["head"] == "Gemm"
    assert found["outputs"][0]["worst_picture"].startswith(str(album))
    assert found["outputs"][0]["worst_pictures"][0] == found["outputs"][0]["worst_picture"]
    assert len(found["outputs"][0]["worst_pictures"]) == len(found["outputs"][0]["worst_samples"])
    assert found["outputs"][0]["cosine"] > 0.9


def test_a_bad_picture_is_left_out_and_named(nearsight: Callable, eye: Path, album: Path, tmp_path: Path) -> None:
    shutil.copytree(album, tmp_path / "mixed")
    (tmp_path / "mixed" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")

    said = nearsight("quantize", eye, "--calibration", tmp_path / "mixed")

    assert said.code == 0
    assert "left out: cannot read the picture" in said.err
    assert "of 8 samples" in said.out


def test_pictures_come_in_the_same_order_each_time(nearsight: Callable, eye: Path, album: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        nearsight("quantize", eye, "--calibration", album, "--samples", "5", "--out", eye.with_name(name))

    assert eye.with_name("a.onnx").read_bytes() == eye.with_name("b.onnx").read_bytes()


def test_an_archive_serves_any_graph(nearsight: Callable, text: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32))

    said = nearsight(
        "quantize", text, "--calibration", tmp_path / "a.npz", "--method", "percentile", "--percentile", 99.9
    )

    assert said.code == 0
    assert "percentile of 32 samples" in said.out
    assert "on 8 samples (held out)" in said.out
    assert "sample 3" in said.out  # one of the last eight of forty


def test_without_data_the_weights_alone_are_made_integer(nearsight: Callable, text: Path) -> None:
    said = nearsight("quantize", text)

    assert said.code == 0
    assert "dynamic INT8, weights of" in said.out
    assert "random inputs, which are not your data" in said.err


@pytest.fixture
def places(eye: Path, text: Path, album: Path, tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "empty").mkdir()
    return {"eye": eye, "text": text, "album": album, "none": tmp_path / "none", "empty": tmp_path / "empty"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{text}", "--calibration", "{album}"), "a folder of pictures fits uint8 (n, height, width, 3) only"),
        (("{none}", "--calibration", "{album}"), "there is no such file"),
        (("{none}",), "there is no such file"),
        (("{text}", "--calibration", "{none}"), "was to be read as calibration data; there is no such folder or file"),
        (("{text}", "--validation", "{none}"), "was to be read as validation data; there is no such folder or file"),
        (("{eye}", "--calibration", "{empty}"), "no picture that can be read in"),
        ((".",), "there is no such file"),
        (("/",), "there is no such file"),
        (("",), "MODEL.onnx '' was asked for"),
        (("", "--calibration", "{album}"), "there is no such file"),
        (("{text}", "--threads", "999999"), "--threads 999999 was asked for; this machine has"),
        (("{text}", "--percentile", "51"), "without --method percentile, so it would change nothing"),
        (("{eye}", "--calibration", "{album}", "--percentile", "51"), "without --method percentile"),
        (("{text}", "--method", "percentile"), "dynamic INT8, which takes no ranges"),
        (("{text}", "--samples", "5"), "--samples 5 was asked for without calibration data"),
        (("{eye}", "--calibration", "{album}", "--samples", "9" * 20), "it is a whole number from 1 to"),
        (("{eye}", "--calibration", "{album}", "--samples", "0"), "a count from 1 is wanted"),
        (("{eye}", "--calibration", "{album}", "--samples", "3"), "with 3 samples; at least 4 are needed"),
        (("{eye}", "--calibration", "{album}", "--keep-float", "trnk"), "no operator's name begins so"),
        (("{eye}", "--calibration", "{album}", "--out", "{empty}"), "is a folder; name a file in it"),
        (("{text}", "--bits", "4"), "with --mode dynamic, where it would change nothing; give --mode weights"),
        (("{text}", "--mode", "int4"), "invalid choice: 'int4'"),
        (("{text}", "--budget-mb", "1"), "asked for without calibration data; give --calibration"),
        (("{eye}", "--calibration", "{album}", "--budget-mb", "-1"), "--budget-mb -1.0 was asked for"),
        (("{eye}", "--calibration", "{album}", "--budget-mb", "0.001"), "a file of 0.001 MB was asked for; the least"),
        (
            ("{eye}", "--calibration", "{album}", "--budget-ms", "1e-6"),
            "a file of 1e-06 ms a run was asked for; the quickest",
        ),
        (
            ("{eye}", "--calibration", "{album}", "--target", "tpu"),
            "--target tpu was asked for; there are cpu, openvino",
        ),
        (
            ("{text}", "--target", "ax-650n"),
            "--target ax-650n was asked for; that is a chip: simulated:AX650N computes its numbers on any machine",
        ),
        (("{eye}", "--calibration", "{album}", "--mode", "mixed"), "give --budget-mb, --budget-ms or --max-drop"),
        (("{eye}", "--calibration", "{album}", "--max-drop", "5"), "--max-drop 5.0 was asked for; without a metric"),
        (
            ("{eye}", "--calibration", "{album}", "--max-drop", "0.5"),
            "little of others; give --validation, or 40 samples or more",
        ),
        (
            ("{eye}", "--calibration", "{album}", "--pareto", "{empty}/a b.svg"),
            "a b.svg' was asked for with --mode static",
        ),
        (("{eye}", "--calibration", "{album}", "--keep-float", "", "trunk"), "--keep-float '' trunk was asked for"),
        (
            ("{eye}", "--calibration", "{album}", "--keep-float", "trunk", "head"),
            "is left to make integer; give a shorter",
        ),
        (("{eye}", "--calibration", "{album}", "--scores", "z"), "outputs in floating point are y; name one of them"),
        (("{text}", "--validation", "{album}"), "a folder of pictures fits uint8 (n, height, width, 3) only"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    nearsight: Callable, places: dict[str, Path], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    answer = nearsight("quantize", *(word.format(**places) for word in words))

    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert said in answer.err
    assert not re.search(rf"\b({'|'.join(ARGUMENTS)})=", answer.err)
    assert list(tmp_path.glob("*.int8.onnx")) == []


def messages() -> Iterator[str]:
    """Every text with more than one word in it that the quantizer's modules hold, and that does not only describe."""
    folder = Path(str(inspect.getsourcefile(quantize))).parent
    for path in folder.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described | parts:
                text = node.value
            else:
                continue
            if " " in text:
                yield text


def test_whatever_a_message_asks_for_there_is_an_option_for() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = {action.dest for action in parser._actions}
    named = [
        (name, text) for text in messages() for name in re.findall(r"(?<![\w.-])(\w+)=", text) if name in ARGUMENTS
    ]

    assert {"calibration", "max_drop", "keep_float"} <= {name for name, _ in named} & options
    # What only Python can ask for is spoken of only where it was given.
    assert all(name in options or text.startswith(f"{name}={{}}") or "kinds= or" in text for name, text in named)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("give calibration=, or mode='dynamic'", "give --calibration, or --mode dynamic"),
        ("max_drop=0.05 was asked for; give validation=", "--max-drop 0.05 was asked for; give --validation"),
        ("a larger max_drop=", "a larger --max-drop"),
        ("in float (keep_float=), or", "in float (--keep-float), or"),
        ("keep_float=('a b', 'c') was", "--keep-float 'a b' c was"),
        ("no more than max_drop=0.5; more", "no more than --max-drop 0.5; more"),
        ("x.max_drop=1, sum-max_drop=1, maxdrop=1", "x.max_drop=1, sum-max_drop=1, maxdrop=1"),
        ("/data/mode=fast/a.onnx and mode=fast/b.onnx", "/data/mode=fast/a.onnx and mode=fast/b.onnx"),
        ("'mode=fast' was to be quantized", "'mode=fast' was to be quantized"),
        ("mode=fast.onnx was to be quantized", "mode=fast.onnx was to be quantized"),
        ("max_drop=4.onnx and max_drop=0.5.onnx", "max_drop=4.onnx and max_drop=0.5.onnx"),
        ("max_drop=-1e-06 and max_drop=nan.", "--max-drop -1e-06 and --max-drop nan."),
    ],
)
def test_arguments_are_spelt_as_options(message: str, said: str) -> None:
    options = {name: f"--{name.replace('_', '-')}" for name in ("calibration", "mode", "max_drop", "validation")}

    assert in_options(message, {**options, "keep_float": "--keep-float"}) == said


@pytest.mark.parametrize("pictures", [False, True])
def test_a_file_that_is_no_model_or_half_of_one_is_a_mistake(
    nearsight: Callable, eye: Path, album: Path, tmp_path: Path, pictures: bool
) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"no model")
    (tmp_path / "cut.onnx").write_bytes(eye.read_bytes()[: eye.stat().st_size // 2])

    for name in ("junk.onnx", "cut.onnx"):
        answer = nearsight("quantize", tmp_path / name, *(("--calibration", album) if pictures else ()))

        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert answer.err.startswith(f"nearsight: {name} was to be")


def test_a_file_that_grows_is_called_larger_and_warned_of(nearsight: Callable, tmp_path: Path) -> None:
    weights = {
        "half": np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float16),
        "m": np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["half"], ["w"], name="cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["v"], name="flat"),
        helper.make_node("Gemm", ["v", "m"], ["y"], name="head"),
    ]
    path = graph(tmp_path / "tower.onnx", "float32", ["n", 64, 8, 8], nodes, weights)

    said = nearsight("quantize", path)

    assert said.code == 0
    assert "times the size" in said.out.splitlines()[1]
    assert "the file became no smaller" in said.err
    assert "give --calibration for static INT8" in said.err


def test_the_installed_command_keeps_the_tool_s_talk_off_its_output(
    process: Callable, text: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32))

    said = process("quantize", text, "--calibration", tmp_path / "a.npz", "--method", "percentile", "--json")

    assert said.code == 0
    assert json.loads(said.out)["method"] == "percentile"
    assert said.err == ""


def test_four_bits_need_no_data_and_data_to_judge_on_are_used(nearsight: Callable, text: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(1).standard_normal((40, 64)).astype(np.float32))

    said = nearsight("quantize", text, "--mode", "weights", "--bits", 4, "--validation", tmp_path / "a.npz", "--layers")

    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"wrote     {text.with_name('text.w4.onnx')}: weights of 4 bits in blocks, activations in float"
    assert "answers   on 40 samples (validation)" in lines
    assert any(line.startswith("  product (w4): 0.9") and " dB, sample " in line for line in lines)
    assert "groups    1 w4" in lines
    assert lines[-1] == "operators 1 in integers; in float: none"


def test_a_budget_makes_mixed_precision_within_it(nearsight: Callable, eye: Path, album: Path, tmp_path: Path) -> None:
    whole = eye.stat().st_size
    budget = 0.6 * whole / 1e6

    said = nearsight("quantize", eye, "--calibration", album, "--budget-mb", budget, "--json")
    assert said.code == 0, said.err

    found = json.loads(said.out)
    assert found["mode"] == "mixed"
    assert found["out"] == str(eye.with_name("eye.mixed.onnx"))
    assert eye.with_name("eye.mixed.onnx").stat().st_size == found["bytes_after"] <= budget * 1e6
    assert set(found["plan"]) == {"trunk.conv", "head"}
    again = nearsight("quantize", eye, "--calibration", album, "--budget-mb", budget)
    assert "mixed precision (made earlier)" in again.out


def test_the_smallest_file_within_the_drop_is_found_and_the_verdict_shown(
    nearsight: Callable, eye: Path, album: Path
) -> None:
    sizes = {}
    for drop in (0.5, 0.001):
        said = nearsight("quantize", eye, "--calibration", album, "--validation", album, "--max-drop", drop)
        assert said.code == 0, said.err
        sizes[drop] = eye.with_name("eye.mixed.onnx").stat().st_size
        verdict = next(line for line in said.out.splitlines() if line.startswith("verdict"))
        assert "verdict   by output error: lost 0.0" in verdict
        assert f"accepted: the upper end is no more than --max-drop {drop}" in verdict
        assert any(f"({path.name})" in said.out for path in album.glob("*.jpg"))

    assert sizes[0.5] < sizes[0.001] < eye.stat().st_size


def test_a_drop_that_nothing_keeps_to_leaves_no_file(nearsight: Callable, eye: Path, album: Path) -> None:
    said = nearsight("quantize", eye, "--calibration", album, "--validation", album, "--max-drop", "1e-9")

    assert (said.code, said.out) == (2, "")
    assert said.err.count("\n") == 1
    assert "was to lose at most 1e-09 by output error; even the largest file of mixed precision lost" in said.err
    assert not eye.with_name("eye.mixed.onnx").exists()


def test_scores_and_targets_are_told(nearsight: Callable, eye: Path, album: Path) -> None:
    said = nearsight(
        "quantize", eye, "--calibration", album, "--target", "simulated:AX650N", "--activations", "u16", "--scores", "y"
    )

    assert said.code == 0, said.err
    assert "answers   on 8 samples (calibration), for simulated:AX650N" in said.out
    assert "time" not in [line.split()[0] for line in said.out.splitlines()]
    assert said.out.splitlines()[-1].startswith("operators ")
    assert " in INT16; in float: " in said.out
    assert "'y'" in said.out + said.err


def test_a_log_hears_of_each_stage_once_and_a_program_of_none(
    nearsight: Callable, eye: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "TALK_EVERY_S", 0.0)
    # A size of its own: a file that was made by another test is not measured again.
    words = ("quantize", eye, "--calibration", album, "--budget-mb", 0.55 * eye.stat().st_size / 1e6)

    told = [line.removeprefix("nearsight: ") for line in nearsight(*words).err.splitlines()]
    quiet = nearsight(*words, "--json")

    expected = ["reading the model", "reading samples", "rounding weights", "measuring groups of operators 0 of 2"]
    assert [line for line in told if line in expected] == expected
    assert len(told) == len({line.partition(" 0 of ")[0] for line in told})
    assert (json.loads(quiet.out)["mode"], quiet.err) == ("mixed", "")


def test_a_person_sees_what_is_being_done(on_a_terminal: Callable, eye: Path, album: Path) -> None:
    code, shown = on_a_terminal("quantize", eye, "--calibration", album, "--json", stream="stderr", columns=100)

    assert code == 0
    assert "0:00:0" in shown


def test_names_that_read_like_arguments_are_told_as_they_are(
    nearsight: Callable, eye: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    said = nearsight("quantize", eye, "--calibration", album, "--out", "bits=8,method=mse.onnx")

    assert said.out.startswith("wrote     bits=8,method=mse.onnx: ")


def test_the_clock_goes_on_behind_a_stage_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr("rich.progress.TimeElapsedColumn.render", lambda _, task: stopped.append(task.finished) or "")

    with stages._moving() as told:
        told(Progress(stage="the first", done=2, total=2))
        told(Progress(stage="the second", total=2))

    assert stopped[-1] is False


def test_the_written_file_has_a_row_among_what_could_be_had(
    nearsight: Callable, eye: Path, album: Path, tmp_path: Path
) -> None:
    budget = 0.6 * eye.stat().st_size / 1e6

    said = nearsight("quantize", eye, "--calibration", album, "--budget-mb", budget, "--pareto", tmp_path / "p.svg")

    assert said.code == 0, said.err
    (row,) = [line for line in said.out.splitlines() if "(written)" in line]
    assert f"{eye.with_name('eye.mixed.onnx').stat().st_size / 1e6:.2f}" in row.split()
    assert "(written)</text>" in (tmp_path / "p.svg").read_text(encoding="utf-8")
