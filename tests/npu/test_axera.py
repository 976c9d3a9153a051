"""The `axera` target against a stand-in for pyaxengine that has its traps; each trap is shown to bite whoever is naive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from nearsight_npu import Delegate, Policy
from nearsight_npu.errors import (
    InputMismatchError,
    NearsightDelegateWarning,
    TargetLostError,
    UnplaceableError,
    UnreadableGraphError,
)
from nearsight_npu.targets import axera
from nearsight_npu.targets.axera import AxeraTarget
from nearsight_npu.targets.guard import Guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

STANDIN = Path(__file__).parent / "axengine_standin"
MODULES = ("axengine", "cffi", "pulsar")
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Stand on a machine with this NPU: "AX650", "AX620E", "AXCL", "hang", or none."""

    def forget() -> None:
        axera._looked.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
            del sys.modules[name]

    def stand(npu: str) -> None:
        forget()
        monkeypatch.setenv("AXENGINE_STANDIN", npu)

    monkeypatch.syspath_prepend(STANDIN)
    stand("AX650")
    yield stand
    forget()


@pytest.fixture
def built(saved: Callable[..., Path], tmp_path: Path, machine: object) -> Callable[..., Path]:
    """Compile a graph for the stand-in; by default y = 2x, z = x + 1 and s, the sum of each row."""

    def build(
        nodes: Sequence[onnx.NodeProto] = (
            helper.make_node("Add", ["x", "x"], ["y"]),
            helper.make_node("Add", ["x", "one"], ["z"]),
            helper.make_node("ReduceSum", ["x", "axis"], ["s"], keepdims=1),
        ),
        kind: str = "float32",
        shape: Sequence[int | str] = (2, 3),
        outputs: Sequence[str] = ("y", "z", "s"),
        name: str = "model.axmodel",
        **options: Any,
    ) -> Path:
        import pulsar

        given = {"s": [shape[0], 1]}
        source = saved(
            nodes,
            [("x", kind, shape)],
            [(port, kind, given.get(port, shape)) for port in outputs],
            {"one": np.ones(1, kind), "axis": np.array([1], np.int64)},
        )
        return Path(pulsar.built(source, tmp_path / name, **options))

    return build


def session_of(path: Path, **options: Any) -> Any:
    """Open a model as somebody does who knows onnxruntime."""
    import axengine

    return axengine.InferenceSession(str(path), **options)


def memory() -> ModuleType:
    import axengine._memory

    return axengine._memory


# What the target makes of it.


def test_a_compiled_model_runs_and_says_where(built: Callable[..., Path], delegate: Callable[..., Delegate]) -> None:
    session = delegate("axera", policy=Policy(strict=True)).load(built(), "u8")

    outputs, decision = session.run({"x": X})

    np.testing.assert_array_equal(outputs["y"], 2 * X)
    np.testing.assert_array_equal(outputs["z"], X + 1)
    np.testing.assert_array_equal(outputs["s"], X.sum(1, keepdims=True))
    assert decision.target == "axera"
    assert decision.placement.startswith("axera: 1 operator on AxEngineExecutionProvider")


@pytest.mark.parametrize("npu", ["AX650", "AXCL"])
def test_ports_have_names_types_and_fixed_shapes(npu: str, built: Callable[..., Path], machine: Any) -> None:
    machine(npu)
    program = AxeraTarget().compile(built())

    ports = [str(port) for port in (*program.inputs, *program.outputs)]

    assert ports == ["x float32 (2, 3)", "y float32 (2, 3)", "z float32 (2, 3)", "s float32 (2, 1)"]


@pytest.mark.parametrize("npu", ["AX650", "AXCL"])
@pytest.mark.parametrize("wanted", [("y",), ("s", "y"), ("s", "y", "z"), ("z", "s", "y")])
def test_any_outputs_in_any_order_are_the_right_ones(
    npu: str, wanted: tuple[str, ...], built: Callable[..., Path], machine: Any
) -> None:
    machine(npu)
    program = AxeraTarget().compile(built())

    found = program.run({"x": X}, wanted)

    assert tuple(found) == wanted
    right = {"y": 2 * X, "z": X + 1, "s": X.sum(1, keepdims=True)}
    for name in wanted:
        np.testing.assert_array_equal(found[name], right[name])


@pytest.mark.parametrize(
    "lying",
    [
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1, ::-1][::-1, ::-1],
        X.astype(">f4"),
        np.broadcast_to(np.float32(3), (2, 3)),
    ],
    ids=["columns first", "every second", "backwards twice", "other byte order", "one number"],
)
def test_arrays_may_lie_in_memory_as_they_like(lying: np.ndarray, built: Callable[..., Path]) -> None:
    program = AxeraTarget().compile(built())

    found = program.run({"x": lying}, ("y",))

    np.testing.assert_array_equal(found["y"], 2 * np.asarray(lying, np.float32))


@pytest.mark.parametrize("wrong", [X.astype(np.float64), X.astype(np.int32), X[:1], X.T, X.ravel()])
@pytest.mark.parametrize("switch", ["", "-O"])
def test_what_does_not_fit_is_refused_even_without_assertions(
    wrong: np.ndarray, switch: str, built: Callable[..., Path], tmp_path: Path
) -> None:
    path = built()
    np.save(tmp_path / "wrong.npy", wrong)
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from nearsight_npu.errors import InputMismatchError\n"
        "from nearsight_npu.targets.axera import AxeraTarget\n"
        f"program = AxeraTarget().compile(Path({str(path)!r}))\n"
        f"try: print('answered', program.run({{'x': np.load({str(tmp_path / 'wrong.npy')!r})}}, ('y',)))\n"
        "except InputMismatchError as error: print(error)\n"
    )

    said = python(code, *filter(None, [switch])).strip()

    assert said.splitlines()[-1].startswith("model.axmodel was given x ")
    assert "built for x float32 (2, 3)" in said


def test_earlier_answers_stay_when_the_model_runs_again(built: Callable[..., Path]) -> None:
    program = AxeraTarget().compile(built())

    first = program.run({"x": X}, ("y",))["y"]
    program.run({"x": X + 7}, ("y",))

    np.testing.assert_array_equal(first, 2 * X)


def test_groups_of_shapes_are_found_by_the_arrays(built: Callable[..., Path]) -> None:
    groups = [{"x": [length, 3], "y": [length, 3]} for length in (2, 5, 1)]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    program = AxeraTarget().compile(built(nodes, shape=("n", 3), outputs=("y",), groups=groups))

    lengths = [program.run({"x": np.ones((length, 3), np.float32)}, ("y",))["y"].shape for length in (5, 1, 2)]

    assert [str(port) for port in program.inputs] == ["x float32 (?, 3)"]
    assert lengths == [(5, 3), (1, 3), (2, 3)]
    with pytest.raises(InputMismatchError, match=r"\(2, 3\) or x float32 \(5, 3\) or x float32 \(1, 3\)"):
        program.run({"x": np.ones((4, 3), np.float32)}, ("y",))


@pytest.mark.parametrize("npu", ["AX650", "AXCL"])
def test_threads_share_a_session_of_the_delegate(
    npu: str, built: Callable[..., Path], machine: Any, delegate: Callable[..., Delegate]
) -> None:
    machine(npu)
    session = delegate("axera", policy=Policy(strict=True)).load(built())

    def right(value: int) -> bool:
        outputs, _ = session.run({"x": X + value}, ("y",))
        return bool((outputs["y"] == 2 * (X + value)).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(60)))


@pytest.mark.parametrize("npu", ["AX650", "AXCL"])
def test_a_closed_session_gives_the_memory_back(
    npu: str, built: Callable[..., Path], machine: Any, delegate: Callable[..., Delegate]
) -> None:
    machine(npu)
    path = built()
    for _ in range(3):
        with delegate("axera", policy=Policy(strict=True)).load(path) as session:
            session.run({"x": X})
            assert memory().live == 1

        assert memory().live == 0


def test_a_closed_program_says_so(built: Callable[..., Path]) -> None:
    program = AxeraTarget().compile(built())
    program.close()

    with pytest.raises(TargetLostError, match="closed"):
        program.run({"x": X}, ("y",))


def test_the_card_that_was_asked_for_is_opened(built: Callable[..., Path], machine: Any) -> None:
    machine("AXCL")
    path = built()

    program = AxeraTarget(device=1).compile(path)

    assert program._session._sess.card == 1
    with pytest.raises(UnplaceableError, match="AXCLRTExecutionProvider does not take it"):
        AxeraTarget(device=2).compile(path)


def test_a_model_for_another_chip_is_refused_in_one_line(built: Callable[..., Path], machine: Any) -> None:
    machine("AX620E")

    with pytest.raises(UnplaceableError, match=r"build it for this chip") as error:
        AxeraTarget().compile(built(chip="AX650"))

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["float16", "int64"])
def test_number_types_that_the_npu_lacks_are_refused_by_name(kind: str, built: Callable[..., Path]) -> None:
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]

    with pytest.raises(UnplaceableError, match=kind):
        AxeraTarget().compile(built(nodes, kind=kind, outputs=("y",)))


def test_an_npu_that_fails_in_mid_run_is_lost(built: Callable[..., Path]) -> None:
    nodes = [helper.make_node("Gather", ["one", "x"], ["y"])]
    program = AxeraTarget().compile(built(nodes, kind="int32", outputs=("y",)))
    np.testing.assert_array_equal(program.run({"x": np.zeros((2, 3), np.int32)}, ("y",))["y"], np.ones((2, 3)))

    with pytest.raises(TargetLostError, match=r"axera failed while running model\.axmodel"):
        program.run({"x": np.full((2, 3), 5, np.int32)}, ("y",))


def test_an_npu_that_hangs_in_mid_run_is_given_up_and_the_processor_goes_on(
    built: Callable[..., Path], delegate: Callable[..., Delegate], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = built()
    monkeypatch.setattr(AxeraTarget, "deadline_s", 0.5)
    session = delegate("axera").load({"u8": compiled, "fp32": compiled.with_suffix(".onnx")})
    _, before = session.run({"x": X})
    monkeypatch.setenv("AXENGINE_STANDIN_RUN_S", "5")

    with pytest.warns(NearsightDelegateWarning, match="axera"):
        outputs, after = session.run({"x": X})

    assert (before.target, before.precision) == ("axera", "u8")
    assert (after.target, after.precision) == ("cpu", "fp32")
    assert any(rung.failed and rung.target == "axera" and "deadline" in rung.reason for rung in after.rungs)
    np.testing.assert_array_equal(outputs["y"], 2 * X)


def test_a_graph_that_is_not_compiled_is_refused_with_the_command_that_compiles_it(
    saved: Callable[..., Path], machine: object
) -> None:
    path = saved([helper.make_node("Relu", ["x"], ["y"])], [("x", "float32", [1])], [("y", "float32", [1])], {})

    with pytest.raises(UnplaceableError, match=r"it has Relu; build it with Pulsar2: pulsar2 build --input"):
        AxeraTarget().compile(path)


def test_a_compiled_model_that_was_simplified_is_refused(built: Callable[..., Path]) -> None:
    path = built()
    model = onnx.load(str(path))
    del model.graph.initializer[:]
    path.write_bytes(model.SerializeToString())

    with pytest.raises(UnreadableGraphError, match="npu_params"):
        AxeraTarget().compile(path)


# Probing.


@pytest.mark.parametrize(
    ("npu", "told"),
    [
        ("AX650", "axengine of unknown version opens AxEngineExecutionProvider (chip type ChipType.MC50, vnpu type"),
        ("AX620E", "chip type ChipType.MC20E"),
        ("AXCL", "axengine of unknown version opens AXCLRTExecutionProvider"),
    ],
)
def test_an_npu_is_opened_in_another_process_and_described(npu: str, told: str, machine: Any) -> None:
    machine(npu)

    found = AxeraTarget().probe()

    assert found.available
    assert told in found.reason
    assert not found.remedy
    assert not [name for name in sys.modules if name.startswith("axengine")]
    assert AxeraTarget().versions()["axengine"] == "of unknown version"


def test_an_npu_that_opens_is_there_even_if_the_process_that_looked_ends_badly(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("AXCL")
    monkeypatch.setenv("AXENGINE_STANDIN_EXIT", "crash")

    found = AxeraTarget().probe()

    assert found.available
    assert "opens AXCLRTExecutionProvider" in found.reason


def test_a_machine_without_an_npu_says_what_is_missing(machine: Any) -> None:
    machine("")

    found = AxeraTarget().probe()

    assert not found.available
    assert "axengine of unknown version is installed, no device of its own was found" in found.reason
    assert "there is none of" in found.reason
    assert found.remedy == "install the driver and runtime of the board or card"


def test_a_driver_that_hangs_is_given_up_and_the_answer_kept(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("hang")
    monkeypatch.setattr(axera, "LOOK_S", 0.5)

    first = AxeraTarget().probe()
    monkeypatch.setattr(axera, "LOOK_S", 600)
    again = AxeraTarget().probe()

    assert not first.available
    assert "gave no sign within 0.5 s" in first.reason
    assert again == first


def test_without_another_process_the_npu_is_not_opened(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("AX650")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    found = AxeraTarget().probe()

    assert not found.available
    assert "no other process can be started" in found.reason


def test_without_the_package_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)

    found = AxeraTarget().probe()

    assert found.reason.startswith("the package axengine is not installed")
    assert "pyaxengine/releases" in found.remedy


def test_a_whole_process_finds_the_npu_through_its_path(built: Callable[..., Path], tmp_path: Path) -> None:
    path = built()
    code = (
        "import json, sys, numpy as np\nfrom nearsight_npu import Delegate, Policy, probe\n"
        "found = {item.target: item.available for item in probe()}\n"
        f"npu = Delegate('axera', Policy(strict=True), cache_dir={str(tmp_path / 'c')!r})\n"
        f"outputs, decision = npu.load({str(path)!r}).run({{'x': np.ones((2, 3), np.float32)}})\n"
        "print(json.dumps([found['axera'], decision.target, decision.placement, outputs['s'].tolist()]))\n"
    )

    said = json.loads(python(code).splitlines()[-1])

    assert said[:2] == [True, "axera"]
    assert "AxEngineExecutionProvider" in said[2]
    assert said[3] == [[3.0], [3.0]]


# The traps bite: what somebody gets who takes it for onnxruntime.


def test_trap_importing_fails_where_there_is_no_npu(machine: Any) -> None:
    machine("")

    with pytest.raises(ImportError):
        import axengine  # noqa: F401


def test_trap_a_wrong_type_fails_by_assertion_and_passes_without(built: Callable[..., Path], machine: Any) -> None:
    path = built()
    code = (
        "import axengine, numpy as np\n"
        f"session = axengine.InferenceSession({str(path)!r})\n"
        "print(session.run(None, {'x': np.ones((2, 3), np.int32)})[0].max())\n"
    )

    with pytest.raises(AssertionError):
        session_of(path).run(None, {"x": X.astype(np.int32)})

    assert float(python(code, "-O").split()[-1]) < 1e-40  # ones in whole numbers, read as floats


def test_trap_some_outputs_are_an_error(built: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="not in list"):
        session_of(built()).run(["z"], {"x": X})


def test_trap_reordered_outputs_come_in_the_inverse_order(built: Callable[..., Path]) -> None:
    found = session_of(built()).run(["s", "y", "z"], {"x": X})

    assert [array.shape for array in found] != [(2, 1), (2, 3), (2, 3)]


def test_trap_arrays_are_read_as_raw_bytes(built: Callable[..., Path]) -> None:
    session = session_of(built())

    columns_first = session.run(None, {"x": np.asfortranarray(X)})[0]
    every_second = session.run(None, {"x": np.repeat(X, 2, axis=1)[:, ::2]})[0]

    assert not np.array_equal(columns_first, 2 * X)
    assert not np.array_equal(every_second, 2 * X)


def test_trap_options_in_a_tuple_are_ignored_and_providers_are_one_text(
    built: Callable[..., Path], machine: Any
) -> None:
    machine("AXCL")
    session = session_of(built(), providers=[("AXCLRTExecutionProvider", {"device_id": 1})])

    assert session._sess.card == 0
    assert session.get_providers() == "AXCLRTExecutionProvider"


def test_trap_names_on_a_card_are_no_text_and_a_path_must_be(built: Callable[..., Path], machine: Any) -> None:
    import_path = built()
    machine("AXCL")
    import axengine

    session = session_of(import_path)

    assert not isinstance(session.get_outputs()[0].name, str)
    with pytest.raises(AttributeError, match="encode"):
        axengine.InferenceSession(import_path)


def test_trap_a_group_just_past_the_end_gets_through(built: Callable[..., Path]) -> None:
    session = session_of(built())

    with pytest.raises(IndexError):
        session.get_inputs(1)
    with pytest.raises(ValueError, match="no group"):
        session.get_inputs(2)


def test_trap_a_card_keeps_what_nobody_lets_go(built: Callable[..., Path], machine: Any) -> None:
    machine("AXCL")
    session = session_of(built())

    del session

    assert memory().live == 1


def test_trap_a_session_serves_one_thread(built: Callable[..., Path], machine: Any) -> None:
    board = session_of(built())
    with ThreadPoolExecutor(8) as pool:
        right = [
            np.array_equal(found[0], 2 * (X + value))
            for value, found in enumerate(pool.map(lambda value: board.run(None, {"x": X + value}), range(60)))
        ]
    machine("AXCL")
    card = session_of(built())

    assert not all(right)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="no context"):
        pool.submit(card.run, None, {"x": X}).result()


def test_a_guard_keeps_the_program_in_one_thread(built: Callable[..., Path], machine: Any) -> None:
    machine("AXCL")
    path = built()
    program = Guarded(lambda: AxeraTarget().compile(path), 30, "model.axmodel on axera")

    found = program.run({"x": X}, ("y",))
    program.close()

    np.testing.assert_array_equal(found["y"], 2 * X)
    assert memory().live == 0


def python(code: str, *switches: str) -> str:
    """Run code in a process of its own, on the machine that AXENGINE_STANDIN says."""
    path = os.pathsep.join(filter(None, (str(STANDIN), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *switches, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
