"""The contract of every target: the same small graphs mean the same everywhere, and faults read the same."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nearsight_npu import Policy
from nearsight_npu.errors import (
    DelegateError,
    InputMismatchError,
    TargetLostError,
    UnplaceableError,
    UnreadableGraphError,
)
from nearsight_npu.targets.probe import target_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nearsight_npu import Delegate, Session

node = helper.make_node
STRICT = Policy(strict=True)  # a target that fails is not to be stood in for


@dataclass(frozen=True)
class Case:
    """A graph, arrays for it, and what comes out, computed by hand."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[tuple[str, str, Sequence[int | str]]]
    outputs: Sequence[tuple[str, str, Sequence[int | str]]]
    arrays: dict[str, np.ndarray]
    wanted: dict[str, np.ndarray]
    weights: dict[str, Any] = field(default_factory=dict)

    def path(self, saved: Callable[..., Path]) -> Path:
        return saved(self.nodes, self.inputs, self.outputs, self.weights)


def floats(values: object) -> np.ndarray:
    return np.array(values, np.float32)


def nibbles(codes: Sequence[int]) -> bytes:
    return bytes(low | high << 4 for low, high in zip(codes[0::2], codes[1::2], strict=True))


def uint4(name: str, rows: Sequence[Sequence[int]]) -> onnx.TensorProto:
    codes = [code for row in rows for code in row]
    return helper.make_tensor(name, TensorProto.UINT4, [len(rows), len(rows[0])], nibbles(codes), raw=True)


MATMUL = Case(
    nodes=[node("MatMul", ["x", "w"], ["y"])],
    inputs=[("x", "float32", ["n", 2])],
    outputs=[("y", "float32", ["n", 2])],
    weights={"w": floats([[1, 0], [2, 1]])},
    arrays={"x": floats([[1, 2], [3, 4]])},
    wanted={"y": floats([[5, 2], [11, 4]])},
)
# Each sum of a 2 x 2 window.
CONV = Case(
    nodes=[node("Conv", ["x", "w"], ["y"])],
    inputs=[("x", "float32", ["n", 1, "h", "w"])],
    outputs=[("y", "float32", ["n", 1, "h2", "w2"])],
    weights={"w": np.ones((1, 1, 2, 2), np.float32)},
    arrays={"x": floats([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])},
    wanted={"y": floats([[[[12, 16], [24, 28]]]])},
)


def qdq(kind: type[np.integer[Any]], zero: int) -> Case:
    """-3.3 and .74 round to -3.5 and .5 at a scale of .5; the weights are [[.5, -.5], [1.5, 1]]."""
    return Case(
        nodes=[
            node("QuantizeLinear", ["x", "half", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "half", "zero"], ["d"]),
            node("DequantizeLinear", ["w", "columns", "none"], ["v"], axis=1),
            node("MatMul", ["d", "v"], ["m"]),
            node("QuantizeLinear", ["m", "quarter", "zero"], ["r"]),
            node("DequantizeLinear", ["r", "quarter", "zero"], ["y"]),
        ],
        inputs=[("x", "float32", ["n", 2])],
        outputs=[("y", "float32", ["n", 2])],
        weights={
            "half": floats(0.5),
            "quarter": floats(0.25),
            "zero": kind(zero),
            "w": np.array([[1, -2], [3, 4]], np.int8),
            "columns": floats([0.5, 0.25]),
            "none": np.zeros(2, np.int8),
        },
        arrays={"x": floats([[1, 2], [-3.3, 0.74]])},
        wanted={"y": floats([[3.5, 1.5], [-1, 2.25]])},
    )


# Codes of 9 are +1 half (a scale of .5); in the second row one code of 15 is +7 (a scale of 2), all others are 0.
MATMUL_4BIT = Case(
    nodes=[
        node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=2, bits=4, block_size=32),
        node(
            "MatMulNBits",
            ["x", "w", "s", "z", "", "b"],
            ["biased"],
            domain="com.microsoft",
            K=32,
            N=2,
            bits=4,
            block_size=32,
        ),
    ],
    inputs=[("x", "float32", ["n", 32])],
    outputs=[("y", "float32", ["n", 2]), ("biased", "float32", ["n", 2])],
    weights={
        "w": np.frombuffer(nibbles([9] * 32 + [15] + [8] * 31), np.uint8).reshape(2, 1, 16),
        "s": floats([0.5, 2]),
        "z": np.array([9, 7], np.uint8),  # zero points of 9 and 7
        "b": floats([100, 200]),
    },
    arrays={"x": floats([[1] * 32, [2] + [0] * 31])},
    wanted={"y": floats([[16, 14], [1, 28]]), "biased": floats([[100, 278], [100, 232]])},
)
GATHER_4BIT = Case(
    nodes=[
        node(
            "GatherBlockQuantized",
            ["table", "ids", "s", "z"],
            ["y"],
            domain="com.microsoft",
            gather_axis=0,
            quantize_axis=1,
            block_size=32,
        )
    ],
    inputs=[("ids", "int64", ["n", "length"])],
    outputs=[("y", "float16", ["n", "length", 32])],
    weights={
        "table": uint4("table", [[8] * 32, [9] * 32, [0] * 31 + [15]]),
        "z": uint4("z", [[8, 8]]),
        "s": np.array([[1], [0.5], [2]], np.float16),
    },
    arrays={"ids": np.array([[2, 1], [0, -2]])},
    wanted={
        "y": np.array([[[-16] * 31 + [14], [0.5] * 32], [[0] * 32, [0.5] * 32]], np.float16),
    },
)
GATHER_4BIT.weights["z"] = helper.make_tensor("z", TensorProto.UINT4, [3, 1], bytes([0x88, 0x08]), raw=True)
# (value - 1) / 2, channels first.
UINT8 = Case(
    nodes=[
        node("Cast", ["pixels"], ["c"], to=TensorProto.FLOAT),
        node("Sub", ["c", "one"], ["d"]),
        node("Div", ["d", "two"], ["e"]),
        node("Transpose", ["e"], ["y"], perm=[0, 3, 1, 2]),
    ],
    inputs=[("pixels", "uint8", ["n", 1, 2, 3])],
    outputs=[("y", "float32", ["n", 3, 1, 2])],
    weights={"one": floats(1), "two": floats(2)},
    arrays={"pixels": np.array([[[[1, 3, 5], [255, 0, 1]]]], np.uint8)},
    wanted={"y": floats([[[[0, 127]], [[1, -0.5]], [[2, 0]]]])},
)
TWO = Case(
    nodes=[node("Add", ["a", "b"], ["sum"]), node("Sub", ["a", "b"], ["difference"])],
    inputs=[("a", "float32", ["n", 2]), ("b", "float32", ["n", 2])],
    outputs=[("sum", "float32", ["n", 2]), ("difference", "float32", ["n", 2])],
    arrays={"a": floats([[1, 2]]), "b": floats([[10, 30]])},
    wanted={"sum": floats([[11, 32]]), "difference": floats([[-9, -28]])},
)
CASES = {
    "a matrix product": MATMUL,
    "a convolution": CONV,
    "QDQ of uint8": qdq(np.uint8, 128),
    "QDQ of int8": qdq(np.int8, 0),
    "QDQ of uint16": qdq(np.uint16, 32768),
    "a 4-bit matrix product": MATMUL_4BIT,
    "4-bit rows": GATHER_4BIT,
    "uint8 pixels": UINT8,
    "two inputs and two outputs": TWO,
}


# Every target that this machine can run on, by name; one that is absent is skipped with its own reason. `axera` stands on
# a stand-in for its library, and gets what a stand-in for its compiler makes of each graph.
TARGETS = ("reference", "cpu", "openvino", "qnn", "axera", "simulated:AX650N", "simulated:Qualcomm HTP")
# NPUs want every length fixed: these get each graph with the lengths of its arrays.
FIXED = ("axera", "simulated:AX650N", "simulated:Qualcomm HTP")
# The cases for which a target has no operator or number type; it has to say so.
LACKING = {
    "openvino": ("QDQ of uint16",),
    "qnn": ("a 4-bit matrix product", "4-bit rows", "uint8 pixels"),
    "axera": ("4-bit rows",),
    "simulated:AX650N": ("a 4-bit matrix product", "4-bit rows"),
    "simulated:Qualcomm HTP": ("a 4-bit matrix product", "4-bit rows"),
}
# The cases that a target computes coarsely, as its chip does; test_qnn.py says how coarsely.
COARSE = {"qnn": ("QDQ of uint16",)}
STANDIN = Path(__file__).parent / "axengine_standin"


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "axera":
        monkeypatch.setenv("AXENGINE_STANDIN", "AX650")
        monkeypatch.syspath_prepend(STANDIN)
    found = target_named(request.param).probe()
    if not found.available:
        pytest.skip(f"{found.reason}; {found.remedy}")
    yield str(request.param)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("axengine", "cffi", "pulsar")]:
        del sys.modules[name]


@pytest.fixture
def prepared(target: str) -> Callable[[Path, Mapping[str, Sequence[int]]], Path]:
    """Make of a graph, and of the lengths that are known, what the target takes."""

    def make(path: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
        if target not in FIXED:
            return path
        model = onnx.load(str(path))
        lengths: dict[str, int] = {}
        for value in (*model.graph.input, *model.graph.output):
            for axis, length in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
                lengths.setdefault(axis.dim_param, length)
            for axis in value.type.tensor_type.shape.dim:
                if axis.dim_param:
                    axis.dim_value = lengths[axis.dim_param]
        onnx.save(model, str(path))
        if target != "axera":
            return path
        import pulsar

        return Path(pulsar.built(path, path.with_suffix(".axmodel")))

    return make


@pytest.fixture
def opened(
    target: str,
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
    prepared: Callable[[Path, Mapping[str, Sequence[int]]], Path],
) -> Callable[[Case], Session]:
    def load(case: Case) -> Session:
        path = prepared(case.path(saved), {name: array.shape for name, array in (case.arrays | case.wanted).items()})
        return delegate(target, policy=STRICT).load(path, "fp32")

    return load


def assert_one_line(error: pytest.ExceptionInfo[DelegateError]) -> None:
    text = str(error.value)
    assert text
    assert "\n" not in text
    assert "Traceback" not in text
    assert ";" in text  # what was asked; what there is; what mends it


@pytest.mark.parametrize("name", CASES)
def test_a_graph_means_what_one_computes_by_hand(name: str, target: str, opened: Callable[[Case], Session]) -> None:
    case = CASES[name]
    if name in COARSE.get(target, ()):
        pytest.skip(f"{target} computes {name} coarsely, as its chip does")
    if name in LACKING.get(target, ()):
        with pytest.raises(UnplaceableError, match=target) as error:
            opened(case)
        assert_one_line(error)
        return

    outputs, decision = opened(case).run(case.arrays)

    assert list(outputs) == list(case.wanted)
    for key, wanted in case.wanted.items():
        assert outputs[key].dtype == wanted.dtype
        np.testing.assert_allclose(outputs[key], wanted, rtol=1e-6, atol=1e-6)
    assert decision.measured is not None
    assert decision.measured.latency_ms > 0


@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_batch_may_have_any_length_where_the_graph_says_so(
    count: int, target: str, opened: Callable[[Case], Session]
) -> None:
    session = opened(MATMUL)
    if target in FIXED:
        with pytest.raises(InputMismatchError, match=rf"\({count}, 2\); float32 \(2, 2\) is needed"):
            session.run({"x": np.ones((count, 2), np.float32)})
        return

    outputs, _ = session.run({"x": np.ones((count, 2), np.float32)})

    np.testing.assert_allclose(outputs["y"], floats([[3, 1]] * count), rtol=1e-6)


def test_ports_tell_names_types_and_axes(
    target: str,
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
    prepared: Callable[[Path, Mapping[str, Sequence[int]]], Path],
) -> None:
    path = prepared(convolutional_network(saved), {"pixels": (3, 16, 16, 3)})
    session = delegate(target, policy=STRICT).load(path)
    first = "3" if target in FIXED else "n"

    ports = [str(port) for port in (*session.inputs, *session.outputs)]

    assert ports == [f"pixels uint8 ({first}, 16, 16, 3)", f"y float32 ({first}, 5)", f"a1 float32 ({first}, 8, 8, 8)"]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"z": floats([[1, 2]])}, "'z'"),
        ({}, "none"),
        ({"x": floats([[1, 2]]), "more": floats([1])}, "'more'"),
        ({"x": np.array([[1.0, 2.0]])}, "float64"),
        ({"x": np.array([[1, 2]], np.uint8)}, "uint8"),
        ({"x": floats([1, 2])}, "(2)"),
        ({"x": floats([[1, 2, 3]])}, "(1, 3)"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_in_one_line(
    arrays: dict[str, np.ndarray], said: str, target: str, opened: Callable[[Case], Session]
) -> None:
    session = opened(MATMUL)

    with pytest.raises(InputMismatchError) as error:
        session.run(arrays)

    assert_one_line(error)
    assert said in str(error.value)
    assert f"float32 ({2 if target in FIXED else 'n'}, 2)" in str(error.value)


def test_axes_of_one_name_have_one_length(target: str, opened: Callable[[Case], Session]) -> None:
    session = opened(TWO)
    needed = r"\(1, 2\) is needed" if target in FIXED else r"\(n, 2\) is needed with n = 1"

    with pytest.raises(InputMismatchError, match=rf"'b' is float32 \(3, 2\); float32 {needed}"):
        session.run({"a": floats([[1, 2]]), "b": np.ones((3, 2), np.float32)})


def test_values_the_graph_cannot_use_are_refused_in_one_line(
    target: str,
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
    prepared: Callable[[Path, Mapping[str, Sequence[int]]], Path],
) -> None:
    # The chips have no 64-bit numbers.
    kind = "int32" if target in FIXED else "int64"
    path = saved(
        [node("Gather", ["table", "ids"], ["y"])],
        [("ids", kind, ["n"])],
        [("y", "float32", ["n", 2])],
        {"table": floats([[1, 2], [3, 4]])},
    )
    session = delegate(target, policy=STRICT).load(prepared(path, {"ids": [1]}))

    if target == "openvino":
        # It looks at no values: what lies beyond the table is nothing.
        np.testing.assert_array_equal(session.run({"ids": np.array([5], kind)})[0]["y"], [[0, 0]])
        return

    # A compiled model does not look at its numbers: the NPU stops, or reads what lies there.
    with pytest.raises(TargetLostError if target in ("axera", "qnn") else InputMismatchError) as error:
        session.run({"ids": np.array([5], kind)})

    assert_one_line(error)


def test_only_the_outputs_that_are_asked_for_come_back(opened: Callable[[Case], Session]) -> None:
    session = opened(TWO)

    one, _ = session.run(TWO.arrays, ("difference",))
    both, _ = session.run(TWO.arrays, outputs=["difference", "sum", "difference"])

    assert list(one) == ["difference"]
    assert list(both) == ["difference", "sum"]
    np.testing.assert_allclose(both["sum"], TWO.wanted["sum"], rtol=1e-6)


@pytest.mark.parametrize("asked", [("product",), ("sum", "product"), (), "sum"])
def test_outputs_that_are_not_there_are_refused_in_one_line(asked: Any, opened: Callable[[Case], Session]) -> None:
    session = opened(TWO)

    with pytest.raises(InputMismatchError, match="this graph gives 'difference', 'sum'") as error:
        session.run(TWO.arrays, asked)

    assert_one_line(error)


def test_a_session_can_be_used_again_and_earlier_answers_stay(opened: Callable[[Case], Session]) -> None:
    session = opened(MATMUL)
    given = floats([[1, 2], [3, 4]])

    first, _ = session.run({"x": given})
    session.run({"x": given * 2})
    again, _ = session.run({"x": given})

    np.testing.assert_allclose(first["y"], MATMUL.wanted["y"], rtol=1e-6)
    np.testing.assert_allclose(again["y"], MATMUL.wanted["y"], rtol=1e-6)
    np.testing.assert_array_equal(given, floats([[1, 2], [3, 4]]))


def test_threads_may_share_a_session(target: str, opened: Callable[[Case], Session]) -> None:
    session = opened(MATMUL)

    def run(value: int) -> bool:
        count = 2 if target in FIXED else 1 + value % 5
        outputs, _ = session.run({"x": np.full((count, 2), value, np.float32)})
        return np.allclose(outputs["y"], floats([3 * value, value]), rtol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        right = list(pool.map(run, range(200)))

    assert right == [True] * 200


def test_arrays_need_not_lie_in_one_piece(opened: Callable[[Case], Session]) -> None:
    session = opened(MATMUL)

    outputs, _ = session.run({"x": floats([[1, 9, 2, 9], [3, 9, 4, 9]])[:, ::2]})

    np.testing.assert_allclose(outputs["y"], MATMUL.wanted["y"], rtol=1e-6)


def test_a_closed_session_says_so_in_one_line(opened: Callable[[Case], Session]) -> None:
    with opened(MATMUL) as session:
        session.run(MATMUL.arrays)
    session.close()

    with pytest.raises(TargetLostError, match="closed") as error:
        session.run(MATMUL.arrays)

    assert_one_line(error)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "folder"])
@pytest.mark.parametrize("through", ["the delegate", "the target"])
def test_a_file_that_is_no_graph_is_refused_in_one_line(  # noqa: PLR0917  fixtures
    damage: str,
    through: str,
    target: str,
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole = MATMUL.path(saved).read_bytes()
    path = tmp_path / "damaged.onnx"
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"<html>404</html>"}[damage])

    with pytest.raises(UnreadableGraphError, match=r"damaged\.onnx") as error:
        _ = (
            delegate(target, policy=STRICT).load(path)
            if through == "the delegate"
            else target_named(target).compile(path)
        )

    assert_one_line(error)
    assert capfd.readouterr() == ("", "")


def test_an_operator_nobody_knows_cannot_be_placed(
    target: str, delegate: Callable[..., Delegate], saved: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    ports = [("x", "float32", ["n", 2])], [("y", "float32", ["n", 2])]
    path = saved([node("Imagined", ["x"], ["y"])], *ports, {})

    with pytest.raises(UnplaceableError, match=target) as error:
        delegate(target, policy=STRICT).load(path)

    assert_one_line(error)
    assert capfd.readouterr() == ("", "")


def test_a_target_names_what_its_answers_depend_on(target: str) -> None:
    found = target_named(target)

    versions = found.versions()

    assert found.name == target
    assert versions
    assert all(isinstance(value, str) and value != "none" for value in versions.values())
    assert found.probe().available
    assert 0 <= found.tolerance < 0.01


def text_tower(saved: Callable[..., Path]) -> Path:
    """Write one layer of a text encoder as the embedded one is made: 4-bit words and matrices, one attention head."""
    draw = np.random.default_rng(5)
    width, inner, words = 64, 128, 50
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, Any] = {
        "table": uint4("table", draw.integers(0, 16, (words, width)).tolist()),
        "table.z": helper.make_tensor("table.z", TensorProto.UINT4, [words, 2], b"\x88" * words, raw=True),
        "table.s": draw.uniform(0.05, 0.1, (words, 2)).astype(np.float16),
        "position": draw.standard_normal((16, width)).astype(np.float32),
        "gain": np.ones(width, np.float32),
        "shift": np.zeros(width, np.float32),
        "scale": floats(width**-0.5),
        "root": floats(0.5**0.5),
        "half": floats(0.5),
        "one": floats(1),
        "minus": floats(-1e9),
        **{name: np.array(value, np.int64) for name, value in {"i0": [0], "i1": [1], "i12": [1], "last": [-1]}.items()},
    }

    def op(kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        nodes.append(node(kind, inputs, [output], domain=domain, **attributes))
        return output

    def linear(x: str, name: str, rows: int, columns: int) -> str:
        weights[f"{name}.w"] = draw.integers(0, 256, (rows, columns // 32, 16)).astype(np.uint8)
        weights[f"{name}.s"] = draw.uniform(0.01, 0.03, rows * columns // 32).astype(np.float32)
        inputs = [x, f"{name}.w", f"{name}.s"]
        shape = {"K": columns, "N": rows, "bits": 4, "block_size": 32, "accuracy_level": 0}
        return op("MatMulNBits", inputs, name, "com.microsoft", **shape)

    blocks = {"gather_axis": 0, "quantize_axis": 1, "block_size": 32}
    op("GatherBlockQuantized", ["table", "input_ids", "table.s", "table.z"], "w16", "com.microsoft", **blocks)
    op("Cast", ["w16"], "words", to=TensorProto.FLOAT)
    op("Shape", ["input_ids"], "shape")
    op("Gather", ["shape", "i1"], "length")
    op("Slice", ["position", "i0", "length", "i0"], "positions")
    op("Add", ["words", "positions"], "e")
    x = op("LayerNormalization", ["e", "gain", "shift"], "x0", axis=-1, epsilon=1e-5)
    op("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    op("Unsqueeze", ["mask", "i12"], "mask2")
    op("Sub", ["one", "mask2"], "hidden")
    op("Mul", ["hidden", "minus"], "bias")
    op("Transpose", [linear(x, "k", width, width)], "kt", perm=[0, 2, 1])
    op("MatMul", [linear(x, "q", width, width), "kt"], "s0")
    op("Mul", ["s0", "scale"], "s1")
    op("Add", ["s1", "bias"], "s2")
    op("Softmax", ["s2"], "p", axis=-1)
    op("MatMul", ["p", linear(x, "v", width, width)], "c")
    op("Add", [linear("c", "o", width, width), x], "r")
    y = linear("r", "wide", inner, width)
    op("Mul", [y, "root"], "g1")
    op("Erf", ["g1"], "g2")
    op("Add", ["g2", "one"], "g3")
    op("Mul", [y, "g3"], "g4")
    op("Mul", ["g4", "half"], "g")
    op("Add", [linear("g", "narrow", width, inner), "r"], "z")
    op("Unsqueeze", ["mask", "last"], "mask3")
    op("Mul", ["z", "mask3"], "kept")
    op("ReduceSum", ["kept", "i1"], "sum", keepdims=0)
    op("ReduceSum", ["mask3", "i1"], "count", keepdims=0)
    op("Div", ["sum", "count"], "mean")
    op("Mul", ["mean", "mean"], "square")
    op("ReduceSum", ["square", "last"], "squares", keepdims=1)
    op("Sqrt", ["squares"], "size")
    op("Div", ["mean", "size"], "embedding")
    ports = [(name, "int64", ["batch", "length"]) for name in ("input_ids", "attention_mask")]
    return saved(nodes, ports, [("embedding", "float32", ["batch", width])], weights, "text.onnx")


def test_a_text_encoder_in_4_bit_agrees_with_the_reference_within_the_stated_tolerance(
    target: str,
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
    prepared: Callable[[Path, Mapping[str, Sequence[int]]], Path],
) -> None:
    ids = np.array([[1, 7, 9, 49, 0], [3, 30, 2, 0, 0]])
    arrays = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
    path = prepared(text_tower(saved), dict.fromkeys(arrays, ids.shape))
    if "4-bit rows" in LACKING.get(target, ()):
        with pytest.raises(UnplaceableError, match=target):
            delegate(target, policy=STRICT).load(path)
        return

    given = delegate(target, policy=STRICT).load(path).run(arrays)[0]["embedding"]

    wanted = delegate("reference").load(path).run(arrays)[0]["embedding"]
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1, rtol=1e-5)
    assert abs(float(wanted[0] @ wanted[1])) < 0.98
    assert np.abs(given - wanted).max() <= target_named(target).tolerance * np.abs(wanted).max()


def convolutional_network(saved: Callable[..., Path]) -> Path:
    """Write a small convolutional network over uint8 pixels."""
    draw = np.random.default_rng(3)
    return saved(
        [
            node("Transpose", ["pixels"], ["c"], perm=[0, 3, 1, 2]),
            node("DequantizeLinear", ["c", "one", "none"], ["t"]),
            node("Conv", ["t", "w0", "b0"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Clip", ["c0", "zero", "six"], ["r0"]),
            node("Conv", ["r0", "w1"], ["c1"], group=8, pads=[1, 1, 1, 1]),
            node("Add", ["c1", "r0"], ["a1"]),
            node("GlobalAveragePool", ["a1"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "w2"], ["y"], transB=1),
        ],
        [("pixels", "uint8", ["n", 16, 16, 3])],
        [("y", "float32", ["n", 5]), ("a1", "float32", ["n", 8, 8, 8])],
        {
            "w0": (draw.standard_normal((8, 3, 3, 3)) / 200).astype(np.float32),
            "b0": draw.standard_normal(8).astype(np.float32),
            "w1": draw.standard_normal((8, 1, 3, 3)).astype(np.float32),
            "w2": draw.standard_normal((5, 8)).astype(np.float32),
            "zero": floats(0),
            "six": floats(6),
            "one": floats(1),
            "none": np.uint8(0),
        },
    )


def test_a_convolutional_network_agrees_with_the_reference_within_the_stated_tolerance(
    target: str,
    delegate: Callable[..., Delegate],
    saved: Callable[..., Path],
    prepared: Callable[[Path, Mapping[str, Sequence[int]]], Path],
) -> None:
    path = convolutional_network(saved)
    pixels = np.random.default_rng(4).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    ready = prepared(path, {"pixels": pixels.shape})

    given = delegate(target, policy=STRICT).load(ready).run({"pixels": pixels})[0]

    wanted = delegate("reference").load(path).run({"pixels": pixels})[0]
    for name, answer in wanted.items():
        assert np.abs(given[name] - answer).max() <= target_named(target).tolerance * np.abs(answer).max()
