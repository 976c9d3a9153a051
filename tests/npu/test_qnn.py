"""The qnn target on its simulator: all on the chip or refused, compiled once, right within what the chip computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

import nearsight_models
from nearsight_npu import Delegate, Golden, Policy
from nearsight_npu.errors import InputMismatchError, ProofFailedError, TargetLostError, UnplaceableError
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.machine import Machine
from nearsight_npu.targets.qnn import PROVIDER, QnnTarget
from nearsight_npu.targets.sessions import placement

if TYPE_CHECKING:
    from collections.abc import Callable

EMBEDDED = Path(nearsight_models.__file__).parent / "embedded" / "nano"
FOUND = QnnTarget().probe()

pytestmark = pytest.mark.skipif(not FOUND.available, reason=f"{FOUND.reason}; {FOUND.remedy}")
node = helper.make_node


@pytest.fixture
def target(tmp_path: Path) -> QnnTarget:
    return QnnTarget(cache_dir=tmp_path / "cache")


@pytest.fixture
def product(saved: Callable[..., Path]) -> Path:
    """Write a matrix product for any number of rows."""
    weights = {"w": np.array([[1, 0], [2, 1]], np.float32)}
    return saved(
        [node("MatMul", ["x", "w"], ["y"])], [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])], weights
    )


ROWS = np.array([[1, 2], [3, 4]], np.float32)
PRODUCT = np.array([[5, 2], [11, 4]], np.float32)


def device() -> Any:
    """Give the handle of the chip, after the target has registered its provider."""
    return next(one for one in onnxruntime.get_ep_devices() if one.ep_name == PROVIDER)


def options(**of_the_chip: str) -> onnxruntime.SessionOptions:
    """Give what somebody would write who knows no traps."""
    made = onnxruntime.SessionOptions()
    made.log_severity_level = 4
    made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if of_the_chip:
        made.add_provider_for_devices([device()], of_the_chip)
    return made


def test_sessions_that_silently_run_on_the_processor_are_seen_through(product: Path, target: QnnTarget) -> None:
    target.compile(product)
    fixed, free, plain = options(backend_type="cpu"), options(backend_type="htp"), options()
    for made in (fixed, plain):
        made.add_free_dimension_override_by_name("n", 2)
    wrong = {
        "the CPU backend, which the wheel lacks": onnxruntime.InferenceSession(product, fixed),
        "free axes, which the chip lacks": onnxruntime.InferenceSession(product, free),
        "a provider given by name, which is not known by name": onnxruntime.InferenceSession(
            product, plain, providers=[(PROVIDER, {"backend_type": "htp"}), "CPUExecutionProvider"]
        ),
    }

    found = {what: placement(session, PROVIDER) for what, session in wrong.items()}

    # Each answers, and two of them name QNN first.
    assert [session.run(None, {"x": ROWS})[0].tolist() for session in wrong.values()] == [PRODUCT.tolist()] * 3
    assert [session.get_providers()[0] for session in wrong.values()] == [PROVIDER, PROVIDER, "CPUExecutionProvider"]
    assert [one.outside for one in found.values()] == [(("MatMul", "CPUExecutionProvider"),)] * 3
    assert placement(target.compile(product).ready({"n": 2}), PROVIDER).outside == ()


def test_a_graph_of_which_the_chip_takes_only_a_part_is_refused_with_the_rest_named(
    saved: Callable[..., Path], target: QnnTarget
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Det", ["a"], ["y"], name="volume")]
    weights = {"w": np.eye(2, dtype=np.float32)}
    path = saved(nodes, [("x", "float32", [2, 2])], [("y", "float32", [])], weights)

    with pytest.raises(UnplaceableError) as error:
        target.compile(path)

    assert str(error.value).startswith(
        "model.onnx was to run on qnn and nowhere else; Det (CPUExecutionProvider) would run elsewhere; "
    )


def test_a_run_that_fails_on_the_chip_is_not_answered_by_the_processor(
    saved: Callable[..., Path], target: QnnTarget, capfd: pytest.CaptureFixture[str]
) -> None:
    table = {"table": np.array([[1, 2], [3, 4]], np.float32)}
    ports = [("ids", "int64", [1])], [("y", "float32", [1, 2])]
    path = saved([node("Gather", ["table", "ids"], ["y"])], *ports, table)
    program = target.compile(path)
    beyond = {"ids": np.array([5])}

    with pytest.raises(TargetLostError, match=r"qnn failed while running: .*; load the session again"):
        program.run(beyond, ("y",))

    # The simulator says why, in its own words; onnxruntime would have gone on.
    assert "Falling back" not in capfd.readouterr().out
    # What onnxruntime does by itself: it says so on standard output, and runs on the processor from then on.
    naive = onnxruntime.InferenceSession(path, options(backend_type="htp"))
    with pytest.warns(UserWarning, match="providers"), pytest.raises(Exception, match="out of data bounds"):
        naive.run(None, beyond)
    assert naive.get_providers() == ["CPUExecutionProvider"]
    assert "Falling back to ['CPUExecutionProvider']" in capfd.readouterr().out


def test_standard_output_stays_clean(product: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from nearsight_npu.targets.qnn import QnnTarget; import numpy as np; "
        f"program = QnnTarget(cache_dir={str(tmp_path)!r}).compile(Path({str(product)!r})); "
        "print(program.run({'x': np.ones((1, 2), np.float32)}, ('y',))['y'].shape)"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (found.stdout, found.stderr) == ("(1, 2)\n", "")


def test_a_provider_that_is_registered_already_is_used(product: Path, tmp_path: Path) -> None:
    code = (
        "import onnxruntime, onnxruntime_qnn; from pathlib import Path; from nearsight_npu.targets.qnn import QnnTarget; "
        f"onnxruntime.register_execution_provider_library({PROVIDER!r}, onnxruntime_qnn.get_library_path()); "
        f"print(*[QnnTarget(cache_dir={str(tmp_path)!r}).compile(Path({str(product)!r})).placement for _ in '12'])"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == f"1 operator on {PROVIDER} 1 operator on {PROVIDER}\n"


def test_looking_for_it_imports_nothing() -> None:
    code = (
        "import sys, nearsight_npu; nearsight_npu.probe(); print({'onnxruntime', 'onnxruntime_qnn'} & set(sys.modules))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"


def contexts(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "qnn").glob("*.bin"))


def test_a_graph_is_compiled_once_and_loaded_from_then_on(product: Path, tmp_path: Path) -> None:
    first = QnnTarget(cache_dir=tmp_path / "cache").compile(product)
    made = {path: path.stat().st_ino for path in contexts(tmp_path)}

    second = QnnTarget(cache_dir=tmp_path / "cache").compile(product)

    assert len(made) == 1
    assert {path: path.stat().st_ino for path in contexts(tmp_path)} == made
    # What was loaded is one block; how many operators went into it is remembered.
    assert [
        one.op_type for part in second.ready({"n": 1}).get_provider_graph_assignment_info() for one in part.get_nodes()
    ] == ["EPContext"]
    assert second.placement == first.placement
    np.testing.assert_array_equal(second.run({"x": ROWS}, ("y",))["y"], first.run({"x": ROWS}, ("y",))["y"])


@pytest.mark.parametrize("damage", ["changed", "not a graph"])
def test_a_damaged_context_is_compiled_again(damage: str, product: Path, tmp_path: Path) -> None:
    QnnTarget(cache_dir=tmp_path / "cache").compile(product)
    path = contexts(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(b"?" * 100 if damage == "not a graph" else whole[:-20] + bytes(20))

    program = QnnTarget(cache_dir=tmp_path / "cache").compile(product)

    np.testing.assert_allclose(program.run({"x": ROWS}, ("y",))["y"], PRODUCT, rtol=1e-6)
    assert all(path.read_bytes()[:100] != b"?" * 100 for path in contexts(tmp_path))


def test_a_context_is_of_one_graph_one_chip_and_one_set_of_lengths(
    product: Path, saved: Callable[..., Path], tmp_path: Path
) -> None:
    target = QnnTarget(cache_dir=tmp_path / "cache")
    kept = [len(contexts(tmp_path)) for _ in (target.compile(product).run({"x": ROWS}, ("y",)),)]
    QnnTarget("75", cache_dir=tmp_path / "cache").compile(product)
    kept.append(len(contexts(tmp_path)))
    weights = {"w": np.array([[1, 0], [2, 2]], np.float32)}
    ports = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    other = saved([node("MatMul", ["x", "w"], ["y"])], *ports, weights, "other.onnx")

    found = QnnTarget(cache_dir=tmp_path / "cache").compile(other).run({"x": ROWS}, ("y",))["y"]

    # One and two rows; another chip; another graph with one and two rows.
    assert [*kept, len(contexts(tmp_path))] == [2, 3, 5]
    np.testing.assert_allclose(found, ROWS @ weights["w"], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_each_number_of_rows_is_compiled_when_it_comes(count: int, product: Path, target: QnnTarget) -> None:
    program = target.compile(product)
    rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2)

    found = program.run({"x": rows}, ("y",))["y"]

    np.testing.assert_allclose(found, rows @ np.array([[1, 0], [2, 1]], np.float32), rtol=1e-5)
    assert [str(port) for port in (*program.inputs, *program.outputs)] == ["x float32 (n, 2)", "y float32 (n, 2)"]


def test_a_file_that_changed_since_it_was_loaded_is_not_compiled_for_other_lengths(
    product: Path, target: QnnTarget
) -> None:
    program = target.compile(product)
    product.write_bytes(product.read_bytes().replace(b"MatMul", b"MatMux"))

    with pytest.raises(TargetLostError, match="it has changed; load it again"):
        program.run({"x": ROWS}, ("y",))

    np.testing.assert_allclose(program.run({"x": ROWS[:1]}, ("y",))["y"], PRODUCT[:1], rtol=1e-6)


def test_no_rows_at_all_are_refused_in_one_line(product: Path, target: QnnTarget) -> None:
    program = target.compile(product)

    with pytest.raises(InputMismatchError, match="arrays with n = 0 were given; qnn needs lengths from 1 on"):
        program.run({"x": np.zeros((0, 2), np.float32)}, ("y",))


def test_an_axis_without_length_or_name_is_refused_with_the_remedy(
    saved: Callable[..., Path], target: QnnTarget
) -> None:
    ports = [("x", "float32", [None, 2])], [("y", "float32", [None, 2])]
    path = saved([node("Relu", ["x"], ["y"])], *ports, {})

    with pytest.raises(UnplaceableError, match="neither a length nor a name; export the model with names"):
        target.compile(path)


@pytest.mark.parametrize("moved", [False, True])
def test_pixels_that_are_cast_are_refused_since_the_compiler_makes_0_and_1_of_them(
    moved: bool, saved: Callable[..., Path], target: QnnTarget, product: Path
) -> None:
    nodes = [node("Transpose", ["pixels"], ["turned"], perm=[1, 0])] if moved else []
    nodes += [node("Cast", ["turned" if moved else "pixels"], ["c"], name="lighten", to=TensorProto.FLOAT)]
    nodes += [node("Add", ["c", "none"], ["y"])]
    ports = [("pixels", "uint8", [2, 2])], [("y", "float32", [2, 2])]
    path = saved(nodes, *ports, {"none": np.zeros((2, 2), np.float32)}, "cast.onnx")
    target.compile(product)

    with pytest.raises(UnplaceableError, match=r"its Cast \(lighten\) makes uint8 into float32"):
        target.compile(path)

    if not moved:
        trusting = onnxruntime.InferenceSession(path, options(backend_type="htp", soc_model="43", htp_arch="73"))
        pixels = np.array([[0, 1], [3, 200]], np.uint8)
        assert np.round(trusting.run(None, {"pixels": pixels})[0]).tolist() == [[0, 1], [1, 1]]


def quantized(
    kind: type[np.integer[Any]], saved: Callable[..., Path], draw: np.random.Generator
) -> tuple[Path, np.ndarray, dict[str, float]]:
    """Write a convolution and a matrix product over its mean, with ranges as wide as their values are.

    Returns:
        The file, an input for it, and the largest absolute value of each output.
    """
    zero = {np.uint8: 128, np.int8: 0, np.uint16: 32768}[kind]
    x = draw.uniform(-1, 1, (1, 8, 12, 12)).astype(np.float32)
    w, m = (draw.integers(-127, 128, shape).astype(np.int8) for shape in ((16, 8, 3, 3), (16, 10)))
    channels = draw.uniform(0.5, 1, 16).astype(np.float32) / 1000
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), axis=(1, 2))
    c = np.einsum("ihwab,oiab->ohw", windows, w * channels[:, None, None, None])
    y = c.mean(axis=(1, 2)) @ (m * 0.004)
    most = {
        "x": 1.0,
        "c": float(np.abs(c).max()),
        "f": float(np.abs(c.mean(axis=(1, 2))).max()),
        "y": float(np.abs(y).max()),
    }
    weights: dict[str, Any] = {"zero": kind(zero), "w": w, "sw": channels, "none": np.zeros(16, np.int8), "m": m}
    weights |= {"sm": np.float32(0.004), "nothing": np.int8(0)}
    weights |= {f"s{name}": np.float32(value / (zero or 127)) for name, value in most.items()}

    def there_and_back(name: str, scale: str) -> list[onnx.NodeProto]:
        return [
            node("QuantizeLinear", [name, scale, "zero"], [f"{name}q"]),
            node("DequantizeLinear", [f"{name}q", scale, "zero"], [f"{name}d"]),
        ]

    nodes = [
        *there_and_back("x", "sx"),
        node("DequantizeLinear", ["w", "sw", "none"], ["wd"], axis=0),
        node("Conv", ["xd", "wd"], ["c"]),
        *there_and_back("c", "sc"),
        node("GlobalAveragePool", ["cd"], ["p"]),
        *there_and_back("p", "sf"),
        node("Flatten", ["pd"], ["f"]),
        *there_and_back("f", "sf"),
        node("DequantizeLinear", ["m", "sm", "nothing"], ["md"]),
        node("MatMul", ["fd", "md"], ["y"]),
        *there_and_back("y", "sy"),
    ]
    outputs = [("cd", "float32", [1, 16, 10, 10]), ("yd", "float32", [1, 10])]
    path = saved(nodes, [("x", "float32", [1, 8, 12, 12])], outputs, weights)
    return path, x, {"cd": most["c"], "yd": most["y"]}


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16])
def test_integers_are_computed_as_the_graph_says_to_a_code_of_8_bits(
    kind: type[np.integer[Any]], saved: Callable[..., Path], target: QnnTarget
) -> None:
    path, x, ranges = quantized(kind, saved, np.random.default_rng(11))

    given = target.compile(path).run({"x": x}, tuple(ranges))

    wanted = CpuTarget().compile(path).run({"x": x}, tuple(ranges))
    for name, most in ranges.items():
        assert np.abs(wanted[name]).max() == pytest.approx(most, rel=0.05)
        # Two codes of 8 bits; activations of 16 bits are no finer here than some 9 bits of the range.
        assert np.abs(given[name] - wanted[name]).max() <= 2.01 * most / 127
        assert np.corrcoef(given[name].ravel(), wanted[name].ravel())[0, 1] > 0.999


def test_the_shipped_picture_encoder_runs_on_the_chip_as_a_whole(photos: Path, target: QnnTarget) -> None:
    picture = Image.open(min(photos.glob("*.jpg"))).convert("RGB").resize((224, 224))
    arrays = {"pixels": np.array(picture)[None]}

    program = target.compile(EMBEDDED / "image.int8.onnx")
    given = program.run(arrays, ("embedding",))["embedding"]

    wanted = CpuTarget().compile(EMBEDDED / "image.int8.onnx").run(arrays, ("embedding",))["embedding"]
    assert [name for name, _ in program.placement.parts] == [PROVIDER]
    assert program.placement.parts[0][1] > 200
    assert float((given * wanted).sum()) > 0.995


def test_a_context_with_other_numbers_is_refused_by_the_proof(
    saved: Callable[..., Path], product: Path, delegate: Callable[..., Delegate], tmp_path: Path
) -> None:
    draw = np.random.default_rng(5)
    rows = draw.standard_normal((4, 2)).astype(np.float32)
    golden = Golden(inputs={"x": rows}, outputs={"y": rows @ np.array([[1, 0], [2, 1]], np.float32)})
    target = QnnTarget(cache_dir=tmp_path / "cache")
    ports = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    swapped = saved(
        [node("MatMul", ["x", "w"], ["y"])], *ports, {"w": np.array([[0, 1], [1, 2]], np.float32)}, "b.onnx"
    )

    right = delegate(target, policy=Policy(strict=True)).load(product, "fp16", golden)

    assert right.proof.passed
    assert right.run({"x": rows})[1].target == "qnn"
    with pytest.raises(ProofFailedError, match="was to run on qnn; it does not give its golden answers"):
        delegate(target, policy=Policy(strict=True)).load(swapped, "fp16", golden)


def test_a_chip_that_gives_no_sign_is_given_up(
    product: Path, tmp_path: Path, delegate: Callable[..., Delegate]
) -> None:
    class ImpatientTarget(QnnTarget):
        deadline_s = 1e-4  # compiling takes a hundred times as long

    target = ImpatientTarget(cache_dir=tmp_path / "cache")

    with pytest.raises(TargetLostError, match=r"model\.onnx on qnn gave no answer within the deadline of 0\.0001 s"):
        delegate(target, policy=Policy(strict=True)).load(product)


def test_the_chip_is_never_chosen_by_itself_where_it_is_a_simulator(
    product: Path, delegate: Callable[..., Delegate]
) -> None:
    assert FOUND.simulator == (Machine().device("fastrpc-cdsp", "fastrpc-cdsp-secure", "adsprpc-smd") is None)

    decision = delegate("auto").load(product).run({"x": ROWS})[1]

    assert FOUND.simulator
    assert "qnn" not in (decision.target, *(one.target for one in decision.rejected))


def test_a_real_chip_is_told_from_the_simulator_and_changes_what_is_remembered(tmp_path: Path) -> None:
    packages = {"onnxruntime": "1.32.0", "onnxruntime_qnn": "2.7.0"}
    simulated = QnnTarget(machine=Machine(root=tmp_path, packages=packages))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/fastrpc-cdsp").touch()
    real = QnnTarget(machine=Machine(root=tmp_path, packages=packages))

    assert real.probe().available
    assert not real.probe().simulator
    assert real.probe().reason == "onnxruntime-qnn 2.7.0 on a Qualcomm DSP at /dev/fastrpc-cdsp"
    assert real.versions() != QnnTarget(machine=Machine(root=tmp_path / "none", packages=packages)).versions()
    assert real.deadline_s < QnnTarget(machine=Machine(root=tmp_path / "none", packages=packages)).deadline_s
    assert simulated.name == real.name == "qnn"


def test_without_the_package_the_remedy_is_its_installation(tmp_path: Path) -> None:
    found = QnnTarget(machine=Machine(root=tmp_path, packages={})).probe()

    assert (found.available, found.simulator) == (False, False)
    assert found.reason == "the package onnxruntime-qnn is not installed, no Qualcomm DSP was found"
    assert found.remedy == "pip install 'nearsight[qnn]'"


def test_a_generation_is_chosen_by_name() -> None:
    assert QnnTarget("v75").name == "qnn:75"
    assert QnnTarget("75").versions()["chip"].startswith("Hexagon v75")
    with pytest.raises(UnplaceableError, match="'qnn:99' was asked for; there are the generations 73, 75, 79, 81"):
        Delegate("qnn:99")
