"""What a call of `quantize` promises, held against users and files that break it."""

from __future__ import annotations

import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from nearsight_npu import quantize
from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.artifacts import Artifacts
from nearsight_npu.quantization.latency import Timing, slowness
from nearsight_npu.quantization.limits import Mixing, downwards
from nearsight_npu.quantization.recalibration import Step, insert, step_bytes
from nearsight_npu.quantization.report import _changed
from nearsight_npu.quantization.verdict import judge
from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Sample = dict[str, np.ndarray]


def rows(count: int, seed: int = 0) -> list[Sample]:
    numbers = np.random.default_rng(seed)
    return [{"x": numbers.standard_normal((1, 64)).astype(np.float32)} for _ in range(count)]


def answered(*values: float) -> list[Sample]:
    return [{"y": np.array([[value]], np.float32)} for value in values]


def test_a_metric_s_own_setting_is_not_mistaken_for_the_places_of_samples() -> None:
    heard = []

    def recall(outputs: dict[str, Any], k: int = 10) -> np.ndarray:
        heard.append(k)
        return np.asarray(outputs["y"])[:, 0]

    judge(answered(1, 2, 3), answered(1, 2, 3), range(3), metric=recall)

    assert heard == [10, 10]


def test_places_may_have_a_default() -> None:
    heard = []

    def metric(outputs: dict[str, Any], places: Any = None) -> np.ndarray:
        heard.append(places)
        return np.asarray(outputs["y"])[:, 0]

    judge(answered(1, 2, 3), answered(1, 2, 3), range(3), metric=metric)

    assert all(np.array_equal(places, [0, 1, 2]) for places in heard)


def test_a_metric_that_writes_into_its_outputs_harms_no_answer() -> None:
    wanted = [{"y": np.ones((1, size), np.float32)} for size in (1, 2)]

    def metric(outputs: dict[str, Any]) -> list[float]:
        for array in outputs["y"]:
            array[:] = 0
        return [0.0, 0.0]

    judge(wanted, wanted, range(2), metric=metric)

    assert all(answer["y"].all() for answer in wanted)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_so_few_samples_accept_nothing(count: int) -> None:
    wanted, given = answered(*range(1, count + 1)), answered(*(value + 0.01 for value in range(1, count + 1)))

    with pytest.raises(QuantizationError, match="samples"):
        judge(wanted, given, range(count), max_drop=0.5)


def test_samples_that_were_calibrated_with_accept_nothing(layered: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="give validation="):
        quantize(layered, calibration=rows(12), max_drop=0.5, mode="static", cache_dir=tmp_path / "cache")

    assert [entry.name for entry in tmp_path.iterdir()] == [layered.name]


def moved_by(layered: Path, samples: list[Sample]) -> Any:
    """Give what counts how far an answer lies from the model's own, and notes which samples it was asked about."""
    program = CpuTarget().compile(layered, 1)
    wanted = np.concatenate([program.run(sample, ("y",))["y"] for sample in samples])
    asked: list[tuple[int, ...]] = []

    def moved(outputs: dict[str, Any], places: np.ndarray) -> np.ndarray:
        asked.append(tuple(places))
        return np.abs(outputs["y"] - wanted[places]).mean(axis=1)

    return moved, asked


def test_the_smallest_file_is_accepted_on_samples_that_it_was_not_searched_for_with(
    layered: Path, tmp_path: Path
) -> None:
    judged = rows(30, seed=1)
    moved, asked = moved_by(layered, judged)

    def metric(outputs: dict[str, Any], places: np.ndarray) -> np.ndarray:
        return -moved(outputs, places)

    report = quantize(
        layered, tmp_path / "q.onnx", calibration=rows(40), validation=judged, max_drop=0.004, metric=metric
    )

    halves = {tuple(range(0, 30, 2)), tuple(range(1, 30, 2))}
    assert set(asked) == halves
    assert report.verdict.accepted is True
    assert report.verdict.samples == 15
    assert report.compared_on == 30


def test_a_file_that_only_the_searched_samples_like_is_not_taken(layered: Path, tmp_path: Path) -> None:
    judged = rows(40, seed=1)
    moved, _ = moved_by(layered, judged)

    def sizes(small: float, place: int) -> tuple[int, Any]:
        """Let samples of even places lose once answers move by `small`, and those of odd places by .003."""

        def metric(outputs: dict[str, Any], places: np.ndarray) -> np.ndarray:
            return -1.0 * (moved(outputs, places) > np.where(places % 2, 0.003, small))

        out = tmp_path / f"{place}.onnx"
        report = quantize(layered, out, calibration=rows(40), validation=judged, max_drop=0.5, metric=metric)
        return report.bytes_after, report.verdict

    strict, _ = sizes(0.003, 0)
    loose, verdict = sizes(1.0, 1)

    # Were it for the searched half alone, the smallest file of all would do.
    assert verdict.accepted is True
    assert loose >= 0.9 * strict


@given(found=st.integers(0, 10**9), room=st.integers(0, 10**9))
def test_budgets_are_accepted_from_the_largest_down_and_ever_nearer_to_the_one_that_was_found(
    found: int, room: int
) -> None:
    budgets = downwards(found, found + room)

    assert (budgets[0], budgets[-1]) == (found + room, found)
    assert list(budgets) == sorted(set(budgets), reverse=True)
    for above, below in itertools.pairwise(budgets[:-1]):
        assert above - found <= 2 * (below - found) + 1
    assert len(budgets) <= 7


def test_when_the_other_half_loses_even_with_the_largest_file_none_is_written(layered: Path, tmp_path: Path) -> None:
    judged = rows(30, seed=1)
    moved, _ = moved_by(layered, judged)

    def metric(outputs: dict[str, Any], places: np.ndarray) -> np.ndarray:
        return -1.0 * ((moved(outputs, places) > 0) & (places % 2 == 1))

    with pytest.raises(QuantizationError, match="even the largest file of mixed precision lost"):
        quantize(layered, tmp_path / "q.onnx", calibration=rows(40), validation=judged, max_drop=0.1, metric=metric)
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize(("count", "divided"), [(15, False), (16, True)])
def test_too_few_samples_to_divide_are_all_judged_on_and_the_report_says_so(
    count: int, divided: bool, layered: Path, tmp_path: Path
) -> None:
    report = quantize(layered, tmp_path / "q.onnx", calibration=rows(40), validation=rows(count, seed=1), max_drop=0.5)

    said = [line for line in report.warnings if line.startswith("searched for and accepted on the same 15 samples")]
    assert (report.verdict.samples, len(said)) == ((8, 0) if divided else (15, 1))


def test_of_the_files_that_are_tried_only_the_best_stays_in_the_temporary_folder(
    layered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile = tmp_path / "meanwhile"
    meanwhile.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(meanwhile))
    moved, _ = moved_by(layered, rows(30, seed=1))
    lying: list[int] = []

    def metric(outputs: dict[str, Any], places: np.ndarray) -> np.ndarray:
        lying.append(len(list(meanwhile.glob("*/made*.onnx"))))
        return -moved(outputs, places)

    quantize(
        layered,
        tmp_path / "q.onnx",
        calibration=rows(40),
        validation=rows(30, seed=1),
        max_drop=0.004,
        metric=metric,
    )

    assert len(lying) > 8
    assert max(lying) == 2  # the best so far, and the one that is being tried


@pytest.mark.parametrize("facts", [{}, {"plan": None, "doubts": []}, {"plan": {}, "doubts": 3}, {"plan": {"a": 1}}])
def test_a_page_whose_facts_are_damaged_is_as_good_as_absent(layered: Path, tmp_path: Path, facts: object) -> None:
    def made() -> Any:
        return quantize(layered, mode="weights", calibration=rows(4), cache_dir=tmp_path / "cache")

    made()
    (page,) = (tmp_path / "cache" / "quantized").glob("*.json")
    page.write_text(json.dumps(json.loads(page.read_text()) | {"facts": facts}))

    assert not made().remembered


def test_a_page_that_points_outside_of_the_folder_harms_nothing_there(tmp_path: Path) -> None:
    kept, made = Artifacts(tmp_path / "cache"), tmp_path / "made"
    made.write_bytes(b"a graph")
    precious = tmp_path / "precious.onnx"
    precious.write_bytes(b"mine")
    kept.keep("key", made, {})
    (page,) = (tmp_path / "cache" / "quantized").glob("*.json")
    page.write_text(json.dumps(json.loads(page.read_text()) | {"sha256": str(precious.with_suffix(""))}))

    assert kept.take("key", tmp_path / "out") is None
    assert precious.read_bytes() == b"mine"


def test_the_page_of_another_wish_is_not_taken(tmp_path: Path) -> None:
    kept, made = Artifacts(tmp_path / "cache"), tmp_path / "made"
    made.write_bytes(b"one")
    kept.keep("one", made, {})
    (one,) = (tmp_path / "cache" / "quantized").glob("*.json")
    made.write_bytes(b"two")
    kept.keep("two", made, {})
    (two,) = {*(tmp_path / "cache" / "quantized").glob("*.json")} - {one}
    two.write_bytes(one.read_bytes())

    assert kept.take("two", tmp_path / "out") is None


@pytest.mark.parametrize("space", ["linear", "logit"])
def test_a_step_takes_no_name_that_is_there(space: str, saved: Callable[..., Path]) -> None:
    taken = [
        "scores_converted",
        *(f"scores_recalibrated_{number}" for number in range(9)),
        *(f"scores_recalibrated_number_{number}" for number in range(9)),
    ]
    nodes = [helper.make_node("Identity", ["x"], [name], name=name) for name in taken]
    nodes += [
        helper.make_node("Sum", taken, ["whole"], name="whole"),
        helper.make_node("HardSigmoid", ["whole"], ["scores"], name="maker"),
    ]
    path = saved(nodes, [("x", "float32", (1, 64))], [("scores", "float32", (1, 64))], {})
    step, sample = Step(space=space, slope=1.5, shift=0.25), rows(1)[0]
    before = CpuTarget().compile(path).run(sample, ("scores",))["scores"]

    insert(path, [("scores", step)])

    after = CpuTarget().compile(path).run(sample, ("scores",))["scores"]
    np.testing.assert_allclose(after, step(before), atol=1e-5)


@pytest.mark.parametrize("name", ["scores", "s" * 200])
def test_a_budget_holds_with_the_step_in_the_file(name: str, saved: Callable[..., Path]) -> None:
    numbers = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("HardSigmoid", ["a"], [name], name="bend"),
    ]
    weights = {"w": (numbers.standard_normal((64, 640)) / 8).astype(np.float32)}
    path = saved(nodes, [("x", "float32", ("n", 64))], [(name, "float32", ("n", 640))], weights)
    size = path.stat().st_size
    insert(path, [(name, Step(space="logit", slope=1.1, shift=0.1))])

    assert path.stat().st_size - size <= step_bytes(name)


@pytest.mark.parametrize("pareto", ["model.onnx", "out.onnx", "absent/picture.svg", "."])
def test_a_picture_that_cannot_be_put_there_is_refused_before_any_work(
    pareto: str, layered: Path, tmp_path: Path
) -> None:
    content = layered.read_bytes()

    def samples() -> Any:
        pytest.fail("the samples were read")
        yield {}

    with pytest.raises(QuantizationError, match="pareto="):
        quantize(layered, tmp_path / "out.onnx", calibration=samples(), budget_mb=0.02, pareto=tmp_path / pareto)

    assert layered.read_bytes() == content
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("target", ["simulated", "simulated:", "simulated:abacus", "cpu:2", "qnn:x", "axera:x"])
def test_a_target_that_is_none_is_refused_before_any_work(target: str, layered: Path) -> None:
    def samples() -> Any:
        pytest.fail("the samples were read")
        yield {}

    with pytest.raises(QuantizationError, match="target="):
        quantize(layered, calibration=samples(), target=target)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits the size of files, which this system does not")
@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "weights"},
        {"mode": "half"},
        {"mode": "static"},
        {"mode": "dynamic"},
        {"mode": "mixed", "budget_mb": 0.5},
        {"mode": "static", "layers": True},
        {"mode": "static", "target": "qnn", "activations": "u16"},
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.1])
def test_a_disk_that_fills_is_one_line_and_leaves_nothing(
    share: float, arguments: dict[str, Any], saved: Callable[..., Path], tmp_path: Path
) -> None:
    import resource

    numbers = np.random.default_rng(1)
    weights = {"w": (numbers.standard_normal((64, 2048)) / 8).astype(np.float32)}
    path = saved(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="first")],
        [("x", "float32", ("n", 64))],
        [("y", "float32", ("n", 2048))],
        weights,
    )
    there = sorted(tmp_path.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(path.stat().st_size * share), hard))
    try:
        report = quantize(path, calibration=rows(24), cache_dir=tmp_path / "absent" / "cache", **arguments)
    except QuantizationError as error:
        said = str(error)
        report = None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    left = [entry for entry in sorted(tmp_path.iterdir()) if entry.name != "absent"]
    if report is None:
        assert "\n" not in said
        assert ";" in said
        assert left == there
    else:
        onnx.checker.check_model(onnx.load(report.out))


@pytest.mark.parametrize("ways", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    "arguments", [{}, {"activations": "u16"}, {"mode": "weights"}, {"mode": "weights", "bits": 4}, {"mode": "dynamic"}]
)
def test_a_weight_that_two_products_take_both_ways_round_is_right_in_both(
    ways: tuple[int, int], arguments: dict[str, Any], saved: Callable[..., Path], tmp_path: Path
) -> None:
    numbers = np.random.default_rng(5)
    weight = (numbers.standard_normal((48, 48)) * np.geomspace(0.05, 1, 48)[:, None] / 4).astype(np.float32)
    bias = numbers.standard_normal(48).astype(np.float32)
    samples = [{"x": numbers.standard_normal((2, 48)).astype(np.float32)} for _ in range(24)]
    errors = []
    for second in ("w", "own"):
        nodes = [
            helper.make_node("Gemm", ["x", "w"], ["a"], name="first", transB=ways[0]),
            helper.make_node("Tanh", ["a"], ["t"], name="bend"),
            helper.make_node("Gemm", ["t", second, "b"], ["y"], name="second", transB=ways[1]),
        ]
        ports = [("x", "float32", ("n", 48))], [("y", "float32", ("n", 48))]
        path = saved(nodes, *ports, {"w": weight, second: weight, "b": bias}, f"{second}.onnx")
        data = {"validation" if arguments.get("mode") == "dynamic" else "calibration": samples}
        report = quantize(path, cache_dir=tmp_path / "cache", **data, **arguments)
        errors.append(report.outputs[0].error_share)

    tied, apart = errors
    assert tied <= 1.5 * apart


@pytest.mark.parametrize(
    ("kind", "said"), [("float16", "computes in FP16; export it in FP32"), ("float64", "computes in FP64; export it")]
)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("mode", ["weights", "half", "static", "dynamic"])
def test_a_model_in_another_precision_is_refused_by_its_name(
    kind: str, said: str, constant: bool, mode: str, saved: Callable[..., Path]
) -> None:
    weight = np.ones((4, 4, 2, 2), kind)
    fixed = helper.make_node("Constant", [], ["k"], value=onnx.numpy_helper.from_array(weight))
    path = saved(
        [*([fixed] if constant else []), helper.make_node("ConvTranspose", ["x", "k"], ["y"], name="up")],
        [("x", kind, (1, 4, 8, 8))],
        [("y", kind, (1, 4, 9, 9))],
        {} if constant else {"k": weight},
    )
    samples = [{"x": np.ones((1, 4, 8, 8), kind)} for _ in range(8)]

    with pytest.raises(QuantizationError, match=said):
        quantize(path, calibration=samples if mode == "static" else None, mode=mode)


@pytest.mark.parametrize(("budget", "said"), [(None, 0), (3.6, 0), (3.5, 0), (3.2, 1)])
def test_a_file_that_is_slower_than_it_may_be_is_said_to_be(budget: float | None, said: int) -> None:
    lines = slowness(budget, Timing(median_ms=3.5, low_ms=3.4, high_ms=3.7, runs=40))

    assert len(lines) == said
    assert all(line.startswith("runs took 3.50 ms in turn with the model's, more than budget_ms=3.2") for line in lines)
    assert slowness(3.2, None) == ()


def test_answers_are_compared_without_many_copies_of_them() -> None:
    """Compared are 64 samples of 0.5 MB; as float64, whole and more than once, they took 600 MB."""
    import tracemalloc

    numbers = np.random.default_rng(0)
    wanted, given = (
        [{"y": numbers.standard_normal((1, 131_072)).astype(np.float32)} for _ in range(64)] for _ in range(2)
    )
    tracemalloc.start()
    _changed("y", wanted, given, 0)
    judge(wanted, given, range(64))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 16e6


class Understating:
    """A mixer that foretells all of its files too small by the same."""

    off = 1_500
    sizes = tuple(range(900_000, 1_200_000, 700))

    def bytes_of(self, plan: dict[str, str]) -> int:
        return int(plan["size"])

    def plan(self, budget: int) -> dict[str, str]:
        return {"size": str(max(size for size in self.sizes if size <= budget))}

    def refined(self, plan: dict[str, str], budget: int) -> dict[str, str]:
        return plan

    def write(self, plan: dict[str, str], out: Path) -> None:
        out.write_bytes(bytes(self.bytes_of(plan) + self.off))


@pytest.mark.parametrize("budget", [1_000_000, 1_000_100, 1_000_699, 1_150_000])
def test_a_budget_is_met_though_a_plan_was_foretold_too_small(
    budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixing = object.__new__(Mixing)
    mixing.__dict__.update(mixer=Understating(), _samples=rows(4), _choices=("w8",))
    monkeypatch.setattr(Mixing, "ends", lambda _: (900_000, 1_200_000))

    mixing.write(budget, tmp_path / "out.onnx")

    assert budget - 2 * 700 < (tmp_path / "out.onnx").stat().st_size <= budget
