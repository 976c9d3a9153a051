"""The openvino target: true numbers, no reports to its maker, requests that no two threads share, devices as they are."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from PIL import Image

import nearsight_models
from nearsight_npu import Delegate, Floor, Golden, Policy, probe
from nearsight_npu.errors import InputMismatchError, ProofFailedError, UnplaceableError
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.graphfile import graph_file
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.openvino import OpenVinoProgram, OpenVinoTarget
from nearsight_npu.targets.target import Placement, Setup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EMBEDDED = Path(nearsight_models.__file__).parent / "embedded" / "nano"
SIDE = 224

pytestmark = pytest.mark.skipif(
    not OpenVinoTarget().probe().available,
    reason=f"{OpenVinoTarget().probe().reason}; {OpenVinoTarget().probe().remedy}",
)


class TrustingTarget(OpenVinoTarget):
    """Runs whatever OpenVINO compiles, and asks nothing."""

    def compile_as(self, path: Path, setup: Setup) -> OpenVinoProgram:
        import openvino

        compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return OpenVinoProgram(compiled, Placement(), graph_file(path, self.name))


class Photographs(CalibrationDataReader):
    def __init__(self, pixels: np.ndarray) -> None:
        self._left = iter([{"pixels": picture[None]} for picture in pixels])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)


@pytest.fixture(scope="module")
def pixels(photos: Path) -> np.ndarray:
    pictures = [Image.open(path).convert("RGB").resize((SIDE, SIDE)) for path in sorted(photos.glob("*.jpg"))]
    return np.stack([np.array(picture) for picture in pictures])


@pytest.fixture(scope="module")
def uint16(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Quantize the shipped picture encoder with activations of 16 bits."""
    folder = tmp_path_factory.mktemp("uint16")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Folds the casts behind its FP16 weights.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "fp32.onnx")
    onnxruntime.InferenceSession(EMBEDDED / "image.fp16.onnx", options, providers=["CPUExecutionProvider"])
    logging.disable(logging.WARNING)
    quantize_static(
        folder / "fp32.onnx",
        folder / "uint16.onnx",
        Photographs(pixels[:2]),
        activation_type=QuantType.QUInt16,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    logging.disable(logging.NOTSET)
    return folder / "uint16.onnx"


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_activations_of_16_bits_are_refused_since_openvino_takes_their_quantizers_out(
    uint16: Path, pixels: np.ndarray
) -> None:
    right = CpuTarget().compile(uint16).run({"pixels": pixels}, ("embedding",))["embedding"]
    wrong = TrustingTarget().compile(uint16).run({"pixels": pixels}, ("embedding",))["embedding"]

    with pytest.raises(UnplaceableError, match=r"uint16\.onnx was to run on openvino; it has activations of 16 bits"):
        OpenVinoTarget().compile(uint16)

    assert likeness(right, wrong) < 0.5


def test_the_proof_at_load_refuses_their_wrong_numbers_by_itself(
    uint16: Path, pixels: np.ndarray, delegate: Callable[..., Delegate]
) -> None:
    answers = CpuTarget().compile(EMBEDDED / "image.fp16.onnx").run({"pixels": pixels}, ("embedding",))
    # Two photographs are few to calibrate with: on the processor the cosine is .87 at least.
    floors = {"a16w8": Floor(cosine=0.8, centred=0.8, order=0.8)}
    golden = Golden(inputs={"pixels": pixels}, outputs=answers, rank="embedding", floors=floors)

    with pytest.raises(ProofFailedError, match=r"uint16\.onnx .* does not give its golden answers .* cosine"):
        delegate(TrustingTarget(), policy=Policy(strict=True)).load(uint16, "a16w8", golden)

    assert delegate("cpu").load(uint16, "a16w8", golden).proof.passed


def test_the_delegate_goes_on_with_the_processor_and_names_the_refusal(
    uint16: Path, pixels: np.ndarray, delegate: Callable[..., Delegate]
) -> None:
    with pytest.warns(UserWarning, match="activations of 16 bits"):
        session = delegate("openvino").load(uint16)

    decision = session.run({"pixels": pixels[:1]}, ("embedding",))[1]

    assert decision.target == "cpu"
    assert [(one.target, "16 bits" in one.reason) for one in decision.rejected] == [("openvino", True)]


def test_importing_it_reports_to_nobody(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from nearsight_npu.targets.openvino import OpenVinoTarget; "
        f"OpenVinoTarget().compile(Path({str(EMBEDDED / 'caption.top.int8.onnx')!r})); "
        "print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry')), 'openvino' in sys.modules)"
    )

    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )

    assert found.stdout == "[] True\n"
    assert found.stderr == ""
    # Its reporter leaves an identity and counters in the home folder.
    assert not (tmp_path / "intel").exists()


def test_looking_for_it_does_not_import_it() -> None:
    code = "import sys, nearsight_npu; nearsight_npu.probe(); print('openvino' in sys.modules)"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "False"


def test_a_matrix_product_in_fp32_has_the_accuracy_of_fp32(saved: Callable[..., Path]) -> None:
    draw = np.random.default_rng(7)
    x, w = (draw.standard_normal(shape).astype(np.float32) for shape in ((8, 512), (512, 64)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = saved(nodes, [("x", "float32", ["n", 512])], [("y", "float32", ["n", 64])], {"w": w})

    given = OpenVinoTarget().compile(path).run({"x": x}, ("y",))["y"]

    right = x.astype(np.float64) @ w
    # In bf16, which it would choose by itself on some processors, 1e-2 is usual.
    assert np.abs(given - right).max() < 1e-5 * np.abs(right).max()


@pytest.mark.parametrize(("level", "least", "most"), [(0, 0.0, 1e-5), (4, 1e-4, 3e-2)])
def test_activations_become_8_bits_only_where_the_file_says_so(
    level: int, least: float, most: float, saved: Callable[..., Path]
) -> None:
    draw = np.random.default_rng(7)
    columns, rows = 256, 64
    codes = draw.integers(0, 16, (rows, columns))
    scales = draw.uniform(0.01, 0.03, (rows, columns // 32)).astype(np.float32)
    packed = (codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8).reshape(rows, columns // 32, 16)
    shape = {"K": columns, "N": rows, "bits": 4, "block_size": 32, "accuracy_level": level}
    path = saved(
        [helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **shape)],
        [("x", "float32", ["n", columns])],
        [("y", "float32", ["n", rows])],
        {"w": packed, "s": scales.ravel()},
    )
    x = draw.standard_normal((4, columns)).astype(np.float32)

    given = OpenVinoTarget().compile(path).run({"x": x}, ("y",))["y"]

    right = x.astype(np.float64) @ ((codes - 8) * np.repeat(scales, 32, axis=1)).T
    if level == 4 and not Machine().offers("avx512_vnni", "avx_vnni"):
        least = 0.0
    assert least <= np.abs(given - right).max() / np.abs(right).max() <= most


def test_threads_that_share_a_program_get_their_own_answers(pixels: np.ndarray) -> None:
    program = OpenVinoTarget().compile(EMBEDDED / "image.int8.onnx")
    alone = [program.run({"pixels": picture[None]}, ("embedding",))["embedding"] for picture in pixels]

    def run(turn: int) -> bool:
        found = program.run({"pixels": pixels[turn % len(pixels)][None]}, ("embedding",))["embedding"]
        return np.array_equal(found, alone[turn % len(pixels)])

    with ThreadPoolExecutor(8) as pool:
        right = list(pool.map(run, range(48)))

    assert right == [True] * 48
    assert len({answer.tobytes() for answer in alone}) == len(pixels)


def test_a_run_that_fails_is_refused_in_one_line_and_the_next_one_works(saved: Callable[..., Path]) -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    ports = [("x", "float32", ["n", "k"])], [("y", "float32", ["n", "k"])]
    program = OpenVinoTarget().compile(saved(nodes, *ports, {"w": np.ones(3, np.float32)}))

    for _ in range(3):
        with pytest.raises(InputMismatchError, match="the graph cannot use them") as error:
            program.run({"x": np.ones((1, 4), np.float32)}, ("y",))

    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(program.run({"x": np.ones((1, 3), np.float32)}, ("y",))["y"], [[2, 2, 2]])


def test_an_output_whose_shape_the_file_leaves_out_has_the_derived_one(saved: Callable[..., Path]) -> None:
    import onnx

    path = saved(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", "float32", ["n", 3])],
        [("y", "float32", ["n", 2])],
        {"w": np.ones((3, 2), np.float32)},
    )
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)

    program = OpenVinoTarget().compile(path)

    assert [str(port) for port in program.outputs] == ["y float32 (?, 2)"]


def test_operators_are_counted_after_openvino_merged_them(saved: Callable[..., Path]) -> None:
    path = saved(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        [("x", "float32", [1, 8, 8, 8])],
        [("y", "float32", [1, 8, 8, 8])],
        {"w": np.ones((8, 8, 1, 1), np.float32)},
    )

    placement = OpenVinoTarget().compile(path).placement

    # The layout is changed once before and once after; Relu went into Conv.
    assert placement.parts[0][0] == "OpenVINO CPU"
    assert 1 <= placement.parts[0][1] <= 3
    assert placement.outside == ()


@pytest.mark.parametrize("name", ["image.int8.onnx", "text.w4.onnx"])
def test_a_graph_is_compiled_once_and_gives_the_same_numbers_from_then_on(name: str, tmp_path: Path) -> None:
    inputs = {"pixels": np.full((1, SIDE, SIDE, 3), 90, np.uint8)}
    if name.startswith("text"):
        inputs = {key: np.ones((1, 9), np.int64) for key in ("ids", "mask")}
    first = OpenVinoTarget(cache_dir=tmp_path).compile_as(EMBEDDED / name, Setup(threads=1))
    kept = {path: path.stat().st_ino for path in (tmp_path / "openvino").glob("*.bin")}

    second = OpenVinoTarget(cache_dir=tmp_path).compile_as(EMBEDDED / name, Setup(threads=2))

    assert len(kept) == 1
    assert {path: path.stat().st_ino for path in (tmp_path / "openvino").glob("*.bin")} == kept
    assert second.placement == first.placement
    given, wanted = (one.run(inputs, ("embedding",))["embedding"] for one in (second, first))
    np.testing.assert_allclose(given, wanted, atol=1e-6)


def test_what_is_kept_is_of_these_weights_and_whole(saved: Callable[..., Path], tmp_path: Path) -> None:
    ports = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    x = np.ones((1, 2), np.float32)

    def product(value: float) -> Path:
        weights = {"w": np.full((2, 2), value, np.float32)}
        return saved([helper.make_node("MatMul", ["x", "w"], ["y"])], *ports, weights)

    target = OpenVinoTarget(cache_dir=tmp_path)
    target.compile(product(1))
    changed = target.compile(product(2)).run({"x": x}, ("y",))["y"]
    for path in (tmp_path / "openvino").glob("*.bin"):
        path.write_bytes(path.read_bytes()[:-9] + bytes(9))

    again = target.compile(product(1)).run({"x": x}, ("y",))["y"]

    assert (changed.tolist(), again.tolist()) == ([[4, 4]], [[2, 2]])


def test_an_operator_it_lacks_is_named(saved: Callable[..., Path]) -> None:
    ports = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    path = saved([helper.make_node("Imagined", ["x"], ["y"])], *ports, {})

    with pytest.raises(UnplaceableError, match="it lacks Imagined"):
        OpenVinoTarget().compile(path)


def test_each_way_to_run_it_gives_the_same_answers(pixels: np.ndarray) -> None:
    path, target = EMBEDDED / "image.fp16.onnx", OpenVinoTarget()
    wanted = target.compile(path).run({"pixels": pixels[:2]}, ("embedding",))["embedding"]

    found = {
        str(setup): target.compile_as(path, setup).run({"pixels": pixels[:2]}, ("embedding",))["embedding"]
        for setup in target.setups(2)
    }

    assert list(found) == ["2 threads", "1 thread"]
    for answer in found.values():
        np.testing.assert_allclose(answer, wanted, atol=1e-5)


def test_the_device_is_part_of_the_name_and_of_the_decision(
    pixels: np.ndarray, delegate: Callable[..., Delegate]
) -> None:
    session = delegate("openvino:cpu", policy=Policy(strict=True)).load(EMBEDDED / "image.int8.onnx")

    decision = session.run({"pixels": pixels[:1]}, ("embedding",))[1]

    assert decision.target == "openvino:cpu"
    assert "operators on OpenVINO CPU" in decision.placement


@pytest.mark.parametrize("device", ["npu", "gpu"])
def test_a_device_that_is_not_here_is_not_available(device: str, tmp_path: Path, saved: Callable[..., Path]) -> None:
    target = OpenVinoTarget(device, Machine(root=tmp_path, packages={"openvino": "2026.4.1"}))

    found = target.probe()

    assert not found.available
    assert found.reason == f"openvino 2026.4.1 is installed, no Intel {device.upper()} was found"
    assert found.remedy
    ports = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    path = saved([helper.make_node("Relu", ["x"], ["y"])], *ports, {})
    if device.upper() not in installed():
        with pytest.raises(UnplaceableError, match=f"was to run on openvino:{device}; here OpenVINO finds CPU"):
            OpenVinoTarget(device).compile(path)


def installed() -> list[str]:
    import openvino

    return [str(device).partition(".")[0] for device in openvino.Core().available_devices]


def test_devices_that_are_here_are_told_and_change_what_is_remembered(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path, packages={"openvino": "2026.4.1"})
    alone = OpenVinoTarget(machine=machine)
    before = alone.versions(), alone.tolerance, alone.deadline_s
    for folder in ("sys/class/accel/accel0/device", "sys/class/drm/renderD128/device"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "vendor").write_text("0x8086\n")
    target = OpenVinoTarget(machine=machine)

    assert target.probe().reason == (
        "openvino 2026.4.1 on an Intel NPU at /dev/accel/accel0 and an Intel GPU at /dev/dri/renderD128 and the processor"
    )
    assert target.versions()["devices"] == "NPU, GPU, CPU"
    assert target.versions() != before[0]
    assert target.tolerance > before[1]
    # A driver may hang; a processor does not.
    assert (before[2], target.deadline_s) == (None, 120)
    assert OpenVinoTarget("npu", machine).setups(8) == (Setup(),)


def test_without_the_package_the_remedy_is_its_installation(tmp_path: Path) -> None:
    found = OpenVinoTarget(machine=Machine(root=tmp_path, packages={})).probe()

    assert not found.available
    assert found.reason == "the package openvino is not installed, found the processor"
    assert found.remedy == "pip install 'nearsight[openvino]'"
    assert any(one.target == "openvino" for one in probe())


def test_a_device_nobody_has_is_refused_in_one_line() -> None:
    with pytest.raises(UnplaceableError, match="'openvino:tpu' was asked for; OpenVINO has the devices npu, gpu, cpu"):
        Delegate("openvino:tpu")
