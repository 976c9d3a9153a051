"""What cannot be quantized is refused in one line with the remedy, and nothing half-written is left."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nearsight_npu import quantize
from nearsight_npu.errors import DelegateError, QuantizationError, UnreadableGraphError
from nearsight_npu.quantization.result import put
from nearsight_npu.quantization.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def model(saved: Callable[..., Path]) -> Path:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="product")
    weights = {"w": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
    return saved([node], [("x", "float32", ("n", 8))], [("y", "float32", ("n", 4))], weights)


def rows(count: int, shape: tuple[int, ...] = (1, 8)) -> list[dict[str, np.ndarray]]:
    numbers = np.random.default_rng(0)
    return [{"x": numbers.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def refusal(model: Path, **arguments: Any) -> str:
    """Return what is said; hold that it is one line and that nothing was left behind."""
    before = sorted(model.parent.rglob("*"))
    with pytest.raises(DelegateError) as error:
        quantize(model, **arguments)
    assert sorted(model.parent.rglob("*")) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"mode": "int4"}, "there are auto, static, dynamic, weights, half, mixed; choose"),
        ({"mode": []}, "mode=[] was asked for; there are auto"),
        ({"method": "median", "calibration": rows(8)}, "there are minmax, percentile, entropy, mse; choose"),
        ({"percentile": 0.9999, "method": "percentile", "calibration": rows(8)}, "above 50 and at most 100"),
        ({"percentile": "99.9", "method": "percentile", "calibration": rows(8)}, "percentile='99.9' was asked for"),
        ({"reduce_range": "no"}, "give True, False or 'auto'"),
        ({"reduce_range": []}, "give True, False or 'auto'"),
        ({"reduce_range": 1}, "give True, False or 'auto'"),
        ({"percentile": 99.9, "calibration": rows(8)}, "without method='percentile'"),
        ({"method": "percentile"}, "dynamic INT8, which takes no ranges"),
        ({"method": "minmax"}, "dynamic INT8, which takes no ranges"),
        ({"samples": 5}, "without calibration data"),
        ({"samples": 10**20, "calibration": rows(8)}, "it is a whole number from 1 to 1000000"),
        ({"threads": 999999}, "threads=999999 was asked for; this machine has"),
        ({"out": ""}, "out='' was asked for"),
        ({"out": 3}, "out=3 was asked for"),
        ({"samples": 0, "calibration": rows(8)}, "samples=0 was asked for"),
        ({"threads": True}, "threads=True was asked for"),
        ({"mode": "static"}, "give calibration=, or mode='dynamic'"),
        ({"kinds": {"MatMul"}}, "leave kinds out, or give calibration="),
        ({"keep_float": "product"}, "give keep_float=('NAME',)"),
        ({"keep_float": ("prodct",)}, "no operator's name begins so; they are product"),
        ({"keep_float": ("product",)}, "no matrix product with constant weights is left"),
        ({"kinds": {"Conv"}, "calibration": rows(8)}, "no operator is left to make integer"),
        ({"calibration": []}, "without a single sample"),
        ({"calibration": rows(3)}, "with 3 samples; at least 4 are needed"),
        ({"calibration": {"x": np.zeros((4, 8))}}, "of type dict was given"),
        ({"calibration": [np.zeros((1, 8))]}, "sample 0 is of type ndarray"),
        ({"calibration": [*rows(5), {"z": np.zeros((1, 8))}]}, "sample 5: inputs 'z' were given; this graph takes x"),
        ({"calibration": [*rows(5), *rows(1, (1, 9))]}, "sample 5: input 'x' is float32 (1, 9)"),
        ({"calibration": [{"x": np.zeros((1, 8))}]}, "sample 0: input 'x' is float64 (1, 8); float32"),
        ({"calibration": [*rows(2), {"x": np.full((1, 8), np.nan, np.float32)}]}, "sample 2: input 'x' holds numbers"),
        ({"calibration": "nowhere.npz"}, "nowhere.npz was to be read as calibration data"),
        ({"metric": "recall", "calibration": []}, "metric='recall' was asked for; it is a function that takes outputs"),
        ({"progress": 5, "calibration": []}, "progress=5 was asked for; it is a function that takes a Progress"),
        ({"target": 5}, "target=5 was asked for; there are cpu, openvino, qnn, axera, simulated:<chip>"),
        ({"target": ["cpu"]}, "target=['cpu'] was asked for; there are"),
        ({"target": "auto"}, "target='auto' was asked for; there are cpu"),
        ({"target": "AX650N"}, "that is a chip: simulated:AX650N computes its numbers on any machine, axera runs on"),
        ({"target": "axera:AX650N"}, "that is a chip: simulated:AX650N computes"),
        ({"target": "simulated:AX9999"}, "target='simulated:AX9999' was asked for; there are AX650N"),
    ],
)
def test_an_argument_that_cannot_be_followed_is_named(model: Path, arguments: dict[str, Any], said: str) -> None:
    assert said in refusal(model, **arguments)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"z": np.zeros((9, 8), np.float32)}, "holds 'z'; this graph takes x float32 (n, 8)"),
        ({}, "holds nothing"),
        ({"x": np.zeros((9, 8), np.float64)}, "sample 0: input 'x' is float64"),
        ({"x": np.zeros(9, np.float32)}, "cannot be cut into samples of x float32 (n, 8)"),
        ({"x": np.array([[{}] * 8] * 8)}, "numpy cannot read it"),
    ],
)
def test_an_archive_that_does_not_fit_is_refused(model: Path, tmp_path: Path, arrays: dict, said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)

    assert said in refusal(model, calibration=tmp_path / "a.npz")


def test_arrays_of_unlike_lengths_are_refused(saved: Callable[..., Path], tmp_path: Path) -> None:
    ports = [("a", "float32", ("n", 2)), ("b", "float32", ("n", 2))]
    nodes = [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("MatMul", ["s", "w"], ["y"])]
    path = saved(nodes, ports, [("y", "float32", ("n", 2))], {"w": np.eye(2, dtype=np.float32)})
    np.savez(tmp_path / "a.npz", a=np.zeros((5, 2), np.float32), b=np.zeros((6, 2), np.float32))

    assert "'a' 5, 'b' 6" in refusal(path, calibration=tmp_path / "a.npz")


def test_a_file_that_is_no_archive_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")

    assert "numpy cannot read it as an .npz archive" in refusal(model, calibration=tmp_path / "a.npz")
    # What numpy says of such files is how to run what is in them.
    assert "(it is no zip file)" in refusal(model, calibration=tmp_path / "a.npz")
    assert "(it is a folder)" in refusal(model, calibration=tmp_path)
    assert "No such file" in refusal(model, calibration=tmp_path / "none.npz")


def test_a_model_that_is_absent_or_broken_is_refused(model: Path, tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "none.onnx")
    assert "there is no such file" in refusal(tmp_path)
    for odd in ("", 3, None):
        with pytest.raises(QuantizationError, match=r"model=.* was asked for; it is the path of a file"):
            quantize(odd)
    for content in (b"", b"\x08\x07not a graph"):
        model.write_bytes(content)
        with pytest.raises(UnreadableGraphError, match=r"model\.onnx was to be quantized; onnx cannot read it"):
            quantize(model)


@pytest.mark.parametrize("calibration", [rows(8), None], ids=["static", "dynamic"])
def test_a_model_that_is_integer_already_is_refused(model: Path, calibration: Any) -> None:
    quantize(model, calibration=calibration)

    said = refusal(model.with_name("model.int8.onnx"), calibration=calibration)

    assert "it is already (" in said
    assert "QuantizeLinear" in said


def test_a_model_of_an_old_opset_is_refused_and_the_remedy_works(model: Path) -> None:
    proto = onnx.load(model)
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", 12))
    onnx.save(proto, model)

    assert "it is of opset 12, and static INT8 needs 13" in refusal(model, calibration=rows(8))

    onnx.save(onnx.version_converter.convert_version(onnx.load(model), 17), model.with_name("newer.onnx"))
    assert quantize(model.with_name("newer.onnx"), calibration=rows(8)).integer_nodes == ("product",)


def test_a_model_with_weights_elsewhere_is_refused_and_the_remedy_works(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    onnx.save(
        onnx.load(model),
        path,
        save_as_external_data=True,
        location="large.data",
        size_threshold=0,
        convert_attribute=True,
    )

    assert "its weights lie outside of it (large.data)" in refusal(path, calibration=rows(8))

    onnx.save(onnx.load(path), tmp_path / "joined.onnx")
    assert quantize(tmp_path / "joined.onnx", calibration=rows(8)).integer_nodes == ("product",)


def test_a_model_that_computes_in_fp16_is_refused(saved: Callable[..., Path]) -> None:
    weights = {"w": np.eye(8, dtype=np.float16)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    path = saved([node], [("x", "float16", ("n", 8))], [("y", "float16", ("n", 8))], weights)

    assert "it computes in FP16; export it in FP32" in refusal(path)


def test_a_model_without_products_has_nothing_for_dynamic(saved: Callable[..., Path]) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="limit")
    path = saved([node], [("x", "float32", ("n", 8))], [("y", "float32", ("n", 8))], {})

    assert "no matrix product with constant weights is left; give calibration=" in refusal(path)


def test_a_sample_that_the_model_cannot_run_on_is_named(saved: Callable[..., Path]) -> None:
    nodes = [helper.make_node("Gather", ["table", "x"], ["rows"]), helper.make_node("MatMul", ["rows", "w"], ["y"])]
    weights = {"table": np.eye(4, dtype=np.float32), "w": np.eye(4, dtype=np.float32)}
    path = saved(nodes, [("x", "int64", ("n", "t"))], [("y", "float32", ("n", "t", 4))], weights)
    samples = [{"x": np.array([[0, 1, place]])} for place in (1, 2, 3, 4, 0)]

    assert "sample 3: the model cannot run on it" in refusal(path, calibration=samples, mode="dynamic")
    assert "the model cannot run on a sample" in refusal(path, calibration=samples)


def test_a_model_that_gives_nan_is_not_compared_with(saved: Callable[..., Path]) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Log", ["m"], ["y"])]
    path = saved(nodes, [("x", "float32", ("n", 2))], [("y", "float32", ("n", 2))], {"w": np.eye(2, dtype=np.float32)})
    samples = [{"x": np.full((1, 2), value, np.float32)} for value in (1, 2, 3, -1, 4)]

    assert "sample 3: output 'y' of the model holds numbers" in refusal(path, calibration=samples, mode="dynamic")


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "is the model itself" in refusal(model, out=tmp_path / "." / "model.onnx")
    assert "is a folder; name a file in it" in refusal(model, out=tmp_path)
    assert "there is no folder" in refusal(model, out=tmp_path / "none" / "q.onnx")
    assert "there is no folder" in refusal(model, out=tmp_path / "file" / "q.onnx")


def test_a_link_to_the_model_is_the_model_too(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(model)

    assert "is the model itself" in refusal(model, out=tmp_path / "link.onnx")


def test_what_lay_there_stays_when_the_work_fails(model: Path, tmp_path: Path) -> None:
    (tmp_path / "q.onnx").write_bytes(b"the old file")

    refusal(model, out=tmp_path / "q.onnx", calibration=rows(3))
    assert (tmp_path / "q.onnx").read_bytes() == b"the old file"

    quantize(model, tmp_path / "q.onnx", calibration=rows(8))
    assert (tmp_path / "q.onnx").read_bytes()[:12] != b"the old file"


def test_a_write_that_fails_leaves_nothing(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "taken.onnx"
    (target / "inside").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(QuantizationError, match=r"taken\.onnx was to be written; Is a directory"):
        put(model, target)

    assert sorted(tmp_path.rglob("*")) == before


def test_without_onnx_the_install_line_is_said(model: Path) -> None:
    code = f"""
import sys
sys.modules["onnx"] = None
from nearsight_npu import DelegateError, quantize
try:
    quantize({str(model)!r})
except DelegateError as error:
    print(error)
"""

    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip().endswith("pip install 'nearsight[quantize]'")
    assert done.stdout.count("\n") == 1


def test_the_caller_s_output_and_logging_are_left_alone(model: Path) -> None:
    code = f"""
import logging, numpy as np
from nearsight_npu import quantize
numbers = np.random.default_rng(0)
quantize({str(model)!r}, calibration=[{{"x": numbers.standard_normal((1, 8)).astype("float32")}} for _ in range(8)],
         method="percentile")
assert not logging.getLogger().handlers
"""

    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_tool_warns_of_is_heard_and_not_printed(model: Path, tmp_path: Path) -> None:
    # It warns of every model that was not prepared.
    code = f"""
import logging
from onnxruntime.quantization import quantize_dynamic
from nearsight_npu.quantization.source import quiet
with quiet() as heard:
    quantize_dynamic({str(model)!r}, {str(tmp_path / "q.onnx")!r})
    logging.getLogger("another").warning("of somebody else's")
assert len(heard) == 1 and "pre-processing" in heard[0], heard
assert not logging.getLogger().handlers
"""

    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_settings_are_checked_wherever_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="percentile=nan"):
        Settings(
            source=tmp_path / "a.onnx",
            target=tmp_path / "b.onnx",
            mode="static",
            kinds=None,
            keep_float=(),
            method="percentile",
            percentile=float("nan"),
            reduce_range=False,
            samples=1,
            threads=1,
        )


def test_float_tensors_are_the_only_ones_counted_as_half(model: Path) -> None:
    # An FP16 table that no product takes is no reason to refuse.
    proto = onnx.load(model)
    proto.graph.initializer.append(helper.make_tensor("spare", TensorProto.FLOAT16, [2], np.zeros(2, np.float16)))
    onnx.save(proto, model)

    assert quantize(model, calibration=rows(8)).integer_nodes == ("product",)
