"""Mixed precision: weights that make up for each other's errors, trials that tell what files do, plans that fit."""

from __future__ import annotations

import tarfile
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from PIL import Image

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.allocation import drawn
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.latency import operations
from nearsight_npu.quantization.mixed import FOR_TIME, Mixer, suiting
from nearsight_npu.quantization.pareto import Row, curve, frontier, picture, table
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.quantization.rounding import DAMPINGS, compensated, loss, spread_of
from nearsight_npu.quantization.sensitivity import Reference
from nearsight_npu.quantization.source import Prepared, inspect, prepare
from nearsight_npu.quantization.weight_only import blockwise
from nearsight_npu.quantization.weights import Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Samples = list[dict[str, np.ndarray]]


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def alike(seed: int, rows: int, inputs: int, causes: int = 6) -> np.ndarray:
    """Inputs that go together, as those inside of a network do."""
    return numbers(seed, rows, causes) @ numbers(99, causes, inputs) + 0.1 * numbers(seed + 1, rows, inputs)


@pytest.fixture
def products(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """Words looked up, and five products; the last one's answers are multiplied by 30, so it is the one to keep."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["a0"], name="words")]
    sizes = [(64, 96), (96, 64), (64, 64), (64, 96), (96, 8)]
    weights = {"table": alike(3, 40, 64), "thirty": np.float32(30)}
    for place, (taken, given_) in enumerate(sizes):
        weights[f"w{place}"] = numbers(place, taken, given_) / np.float32(taken**0.5)
        nodes.append(helper.make_node("MatMul", [f"a{place}", f"w{place}"], [f"m{place}"], name=f"l{place}.product"))
        nodes.append(helper.make_node("Tanh", [f"m{place}"], [f"a{place + 1}"], name=f"l{place}.bend"))
    nodes[-1] = helper.make_node("Mul", ["m4", "thirty"], ["y"], name="louder")
    path = saved(nodes, [("ids", "int64", ("n", "t"))], [("y", "float32", ("n", "t", 8))], weights)
    return prepare(path, inspect(path, "static"), tmp_path)


@pytest.fixture
def convolutions(saved: Callable[..., Path], tmp_path: Path) -> Prepared:
    """A stem, one depthwise convolution whose channels are of very unlike size, single places, and a Gemm."""
    deep = numbers(1, 16, 1, 3, 3) * np.geomspace(0.01, 10, 9, dtype=np.float32).reshape(1, 1, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="stem.conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="stem"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], name="deep.conv", group=16, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c1", "w2"], ["c2"], name="wide.conv", strides=[1, 1], pads=[0, 0, 0, 0], group=1),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="classes", transB=1),
    ]
    weights = {
        "w0": numbers(0, 16, 3, 3, 3),
        "b0": numbers(5, 16),
        "w1": deep,
        "w2": numbers(2, 48, 16, 1, 1) / 4,
        "w3": numbers(3, 10, 48),
        "b3": numbers(6, 10),
    }
    path = saved(nodes, [("x", "float32", ("n", 3, 12, 12))], [("y", "float32", ("n", 10))], weights)
    return prepare(path, inspect(path, "static"), tmp_path)


def sentences(count: int, seed: int = 0) -> Samples:
    draw = np.random.default_rng(seed)
    return [{"ids": draw.integers(0, 40, (1, 12))} for _ in range(count)]


def pictures(count: int, seed: int = 0) -> Samples:
    return [
        {"x": numbers(seed + place, 1, 3, 12, 12) + numbers(seed + place + 500, 1, 3, 1, 1)} for place in range(count)
    ]


def mixer_of(prepared: Prepared, samples: Samples, folder: Path, **options: object) -> Mixer:
    return Mixer(prepared, group(prepared), samples, folder, **options)


@given(
    seed=st.integers(0, 2**32 - 1),
    outputs=st.integers(1, 9),
    inputs=st.integers(1, 70),
    bits=st.sampled_from((4, 8)),
    block=st.sampled_from((16, 32)),
    shift=st.floats(-3, 3),
)
def test_who_rounds_compensated_weights_again_changes_nothing(
    seed: int, outputs: int, inputs: int, bits: int, block: int, shift: float
) -> None:
    rows = numbers(seed, outputs, inputs) + np.float32(shift)  # blocks of one sign too
    rows[0] = 0
    seen = alike(seed, 50, inputs)

    made = compensated(rows, spread_of(seen.T @ seen / 50, DAMPINGS[0]), bits, block)

    assert np.array_equal(blockwise(made, bits, block).restored(), made)


@pytest.mark.parametrize("bits", [4, 8])
def test_compensated_weights_lose_less_than_half_of_what_plain_ones_do(bits: int, trials: int) -> None:
    for seed in range(trials):
        rows, seen, new = numbers(seed, 24, 96), alike(seed, 400, 96), alike(seed + 1000, 400, 96)
        plain = blockwise(rows, bits, 32).restored()

        made = compensated(rows, spread_of(seen.T @ seen / 400, DAMPINGS[0]), bits, 32)

        errors = [np.linalg.norm(new @ (kind - rows).T) for kind in (made, plain)]
        assert errors[0] < errors[1] / 2, seed


def test_the_loss_is_the_mean_square_by_which_answers_move() -> None:
    before, after, seen = numbers(0, 5, 7), numbers(1, 5, 7), numbers(2, 30, 7)

    found = loss(before, after, seen.T @ seen / 30)

    moved = seen @ (after - before).T
    assert found == pytest.approx(float((moved**2).sum() / 30), rel=1e-5)


def test_compensation_that_fits_by_chance_only_is_not_kept(saved: Callable[..., Path], tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    path = saved([node], [("x", "float32", ("n", 64))], [("y", "float32", ("n", 24))], {"w": numbers(0, 64, 24)})
    prepared = prepare(path, inspect(path, "static"), tmp_path)
    weights = Weights(prepared, group(prepared))
    plain = weights.becomes("product", words.W4)
    # Inputs that have nothing to do with each other: what two of them show holds for no third.
    few, many = ([{"x": numbers(seed, rows, 64)} for seed in (1, 2)] for rows in (1, 300))

    weights.compensate({"product": [words.W4]}, few, many)

    assert np.array_equal(weights.becomes("product", words.W4), plain)
    weights.compensate({"product": [words.W4]}, [{"x": alike(3, 300, 64)}], [{"x": alike(4, 300, 64)}])
    assert not np.array_equal(weights.becomes("product", words.W4), plain)


@pytest.mark.parametrize("choice", [words.FP16, words.W8, words.W4])
@pytest.mark.parametrize("compensate", [False, True])
def test_a_trial_tells_what_the_written_file_of_products_does(
    choice: str, compensate: bool, products: Prepared, tmp_path: Path
) -> None:
    mixer = mixer_of(products, sentences(24), tmp_path, choices=(choice,), compensate=compensate)
    plan = mixer.uniform(choice)

    told = mixer.trials.error(plan)

    mixer.write(plan, tmp_path / "out.onnx")
    assert told > 1e-6
    # The processor rounds activations to 8 bits where weights have few: that much more may a file err.
    assert mixer.trials.of_file(tmp_path / "out.onnx") == pytest.approx(told, rel=0.02, abs=0.012)


@pytest.mark.parametrize("choice", [words.FP16, words.W8])
def test_a_trial_tells_what_the_written_file_of_convolutions_does(
    choice: str, convolutions: Prepared, tmp_path: Path
) -> None:
    mixer = mixer_of(convolutions, pictures(12), tmp_path, choices=(words.FP32, choice))
    plan = {entry.name: choice for entry in group(convolutions) if entry.kind == "conv"}

    told = mixer.trials.error(plan)

    mixer.write(plan, tmp_path / "out.onnx")
    assert told > 1e-6
    assert mixer.trials.of_file(tmp_path / "out.onnx") == pytest.approx(told, rel=0.01, abs=1e-6)


def test_static_integers_are_tried_as_the_file_that_they_make(convolutions: Prepared, tmp_path: Path) -> None:
    samples = pictures(12)
    ranges = take_ranges(convolutions, samples, histograms=False)
    mixer = mixer_of(convolutions, samples, tmp_path, choices=FOR_TIME, ranges=ranges)

    mixer.write({"stem.conv": words.A8W8}, tmp_path / "out.onnx")

    told = mixer.errors["stem.conv"][words.A8W8] ** 0.5
    assert told > 0
    assert mixer.trials.of_file(tmp_path / "out.onnx") == pytest.approx(told, rel=0.02)


def test_a_chip_of_integers_gets_wide_activations_where_bytes_allow(convolutions: Prepared, tmp_path: Path) -> None:
    samples = pictures(12)
    ranges = take_ranges(convolutions, samples, histograms=False)
    mixer = mixer_of(convolutions, samples, tmp_path, choices=(words.S8W8, words.A16W8), ranges=ranges)

    plan = mixer.plan(mixer.ends()[1])

    mixer.write(plan, tmp_path / "out.onnx")
    assert set(plan.values()) == {words.A16W8}
    assert mixer.trials.of_file(tmp_path / "out.onnx") < mixer.trials.error(mixer.uniform(words.S8W8))


def test_the_group_that_loses_most_keeps_its_bits(products: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(products, sentences(24), tmp_path, choices=(words.W8, words.W4), compensate=False)
    least, most = mixer.ends()

    plan = mixer.plan((least + most) // 2)

    assert plan["l4.product"] == words.W8
    assert {words.W4, words.W8} == set(plan.values())


def test_a_plan_beats_the_mean_of_random_ones_of_the_same_bytes_on_new_samples(
    products: Prepared, tmp_path: Path
) -> None:
    mixer = mixer_of(products, sentences(24), tmp_path, choices=(words.W8, words.W4))
    plain = mixer_of(products, sentences(24), tmp_path, choices=(words.W8, words.W4), compensate=False)
    budget = sum(mixer.ends()) // 2
    judge = plain.trials_on(sentences(24, seed=1))

    random = [judge.error(drawn(plain.options(), budget - plain.fixed_bytes(), seed)) for seed in range(10)]

    mixer.write(mixer.refined(mixer.plan(budget), budget), tmp_path / "out.onnx")
    assert judge.of_file(tmp_path / "out.onnx") < np.mean(random) / 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_file_has_the_bytes_that_it_may_have(share: float, products: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(products, sentences(12), tmp_path, compensate=False)
    least, most = mixer.ends()
    budget = int(least + share * (most - least))

    plan = mixer.plan(budget)

    mixer.write(plan, tmp_path / "out.onnx")
    assert mixer.bytes_of(plan) <= budget * 1.01  # bytes of groups add up nearly
    # Of so small a file the names and operators, which are foretold nearly, are a good part: 200 bytes a group.
    assert (tmp_path / "out.onnx").stat().st_size == pytest.approx(mixer.bytes_of(plan), abs=200 * len(plan))


def test_planning_again_around_a_plan_never_measures_worse_or_larger(convolutions: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(convolutions, pictures(12), tmp_path)
    budget = sum(mixer.ends()) // 2
    plan = mixer.plan(budget)

    refined = mixer.refined(plan, budget, rounds=3)

    assert mixer.trials.error(refined) <= mixer.trials.error(plan)
    assert mixer.bytes_of(refined) <= budget * 1.01


def test_a_budget_that_nothing_fits_is_refused_with_what_would(products: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(products, sentences(8), tmp_path, choices=(words.W8,), compensate=False)
    least, _ = mixer.ends()

    with pytest.raises(QuantizationError, match=f"the least that these precisions make of it is {least / 1e6:.2f} MB"):
        mixer.plan(least - 1)


def test_a_limit_of_time_gives_the_closest_plan_that_is_as_quick(convolutions: Prepared, tmp_path: Path) -> None:
    samples = pictures(8)
    ranges = take_ranges(convolutions, samples, histograms=False)
    mixer = mixer_of(convolutions, samples, tmp_path, choices=FOR_TIME, ranges=ranges)

    plan, took = mixer.quick(60_000, samples, tmp_path / "out.onnx")

    assert set(plan.values()) == {words.FP32}
    assert 0 < took <= 60_000
    with pytest.raises(QuantizationError, match=r"0.0001 ms a run was asked for; the quickest that was written takes"):
        mixer.quick(0.0001, samples, tmp_path / "out.onnx")


def test_multiplications_of_products_are_counted_as_by_hand(products: Prepared) -> None:
    found = {entry.name: operations(products, entry) for entry in group(products)}

    assert found == {
        "words": 0,
        "l0.product": 64 * 96,
        "l1.product": 96 * 64,
        "l2.product": 64 * 64,
        "l3.product": 64 * 96,
        "l4.product": 96 * 8,
    }


def test_multiplications_of_convolutions_are_counted_as_by_hand(convolutions: Prepared) -> None:
    found = {entry.name: operations(convolutions, entry) for entry in group(convolutions)}

    assert found == {
        "stem.conv": 12 * 12 * 16 * 3 * 9,
        "deep.conv": 12 * 12 * 16 * 9,
        "wide.conv": 12 * 12 * 48 * 16,
        "classes": 48 * 10,
    }


def test_a_group_is_offered_only_what_it_can_have(products: Prepared) -> None:
    table_group = group(products)[0]

    assert suiting(table_group, (words.FP16, words.A8W8, words.W4)) == (words.FP16, words.W4)
    assert suiting(table_group, (words.A8W8,)) == (words.W8,)


def test_a_convolution_that_could_only_become_what_it_cannot_is_refused(convolutions: Prepared) -> None:
    with pytest.raises(
        QuantizationError, match=r"'stem.conv' was to become one of w4; a conv cannot; allow w8 or fp16"
    ):
        suiting(group(convolutions)[0], (words.W4,))


def test_mixing_without_samples_is_refused(products: Prepared, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="with 0 samples for 6 groups"):
        mixer_of(products, [], tmp_path)


def answers(*arrays: Sequence[float]) -> list[list[np.ndarray]]:
    return [[np.array(array, np.float32)] for array in arrays]


def test_an_error_of_one_is_as_far_as_answers_lie_from_their_mean() -> None:
    reference = Reference(answers([0, 2], [4, 2]))

    assert reference.error(answers([2, 2], [2, 2])) == pytest.approx(1)
    assert reference.error(answers([0, 2], [4, 2])) == 0
    assert reference.error(answers([1, 2], [3, 2])) == pytest.approx(0.5)


def test_answers_that_hardly_differ_are_measured_by_their_length() -> None:
    assert Reference(answers([3, 4], [3, 4])).error(answers([3, 4], [0, 0])) == pytest.approx(0.5**0.5)
    assert Reference(answers([3, 4])).error(answers([3, 3])) == pytest.approx(0.2)


def test_answers_that_are_no_numbers_err_without_end() -> None:
    assert Reference(answers([3, 4], [1, 0])).error(answers([np.nan, 4], [1, 0])) == float("inf")


measured = st.builds(
    Row,
    name=st.sampled_from(["a", "b"]),
    error=st.sampled_from([0.1, 0.2, 0.4]),
    mb=st.sampled_from([1.0, 2.0, 4.0]),
    ms=st.sampled_from([None, 3.0, 5.0]),
)


@given(rows=st.lists(measured, min_size=1, max_size=8))
def test_the_frontier_keeps_the_best_of_each_kind_and_nothing_that_is_beaten(rows: list[Row]) -> None:
    kept = frontier(rows)

    assert min(row.error for row in kept) == min(row.error for row in rows)
    assert min(row.mb for row in kept) == min(row.mb for row in rows)
    for row in kept:
        worse = [other for other in rows if other.ms == row.ms and other.error < row.error and other.mb <= row.mb]
        assert not worse


@given(rows=st.lists(measured, min_size=1, max_size=8))
def test_the_shotshows_every_row_once_for_size_and_once_for_time(rows: list[Row]) -> None:
    drawing = ET.fromstring(picture(rows, "a < b & c"))

    dots = [node for node in drawing.iter() if node.tag.endswith("circle")]
    assert len(dots) == len(rows) + sum(row.ms is not None for row in rows)
    wide, high = float(drawing.get("width")), float(drawing.get("height"))
    assert all(0 <= float(dot.get("cx")) <= wide and 0 <= float(dot.get("cy")) <= high for dot in dots)


@given(rows=st.lists(measured, min_size=1, max_size=12))
def test_names_in_the_shotstay_above_the_axis_and_off_one_another_and_off_dots(rows: list[Row]) -> None:
    named = [Row(name=f"mixed {place}.5 MB", error=r.error, mb=r.mb, ms=r.ms) for place, r in enumerate(rows)]
    nodes = list(ET.fromstring(picture(named, "what")).iter())

    bottom = max(float(node.get("d").partition("V")[2].partition("H")[0]) for node in nodes if "V" in node.get("d", ""))
    names = [node for node in nodes if node.text in {row.name for row in named}]
    assert len(names) == len(rows) + sum(row.ms is not None for row in rows)
    boxes = []
    for node in names:
        wide = 5.5 * len(node.text)  # narrower than it is drawn, so that what counts as over another surely is
        left = float(node.get("x")) - wide * (node.get("text-anchor") == "end")
        boxes.append((left, left + wide, float(node.get("y")) - 8, float(node.get("y"))))
        assert 0 < boxes[-1][2] < boxes[-1][3] < bottom
    centres = ((float(node.get("cx")), float(node.get("cy"))) for node in nodes if node.tag.endswith("circle"))
    dots = {(x - 3, x + 3, y - 3, y + 3) for x, y in centres}
    for place, box in enumerate(boxes):
        for other in (*boxes[:place], *dots):
            assert box[1] <= other[0] or other[1] <= box[0] or box[3] <= other[2] or other[3] <= box[2]


def test_the_table_marks_what_nothing_else_beats() -> None:
    rows = [Row(name="small", error=0.2, mb=1, ms=2), Row(name="bad", error=0.3, mb=2, ms=2)]

    head, first, second = table(rows)

    assert head.split() == ["MB", "ms", "error"]
    assert first.split() == ["*", "small", "1.00", "2.0", "0.2000"]
    assert second.split() == ["bad", "2.00", "2.0", "0.3000"]


def test_the_curve_has_every_uniform_file_and_mixed_ones_between(products: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(products, sentences(12), tmp_path, choices=(words.FP32, words.W4), compensate=False)

    rows = curve(mixer, sentences(8, seed=5), tmp_path, steps=2)

    assert {row.name for row in rows if "mixed" not in row.name} == {words.FP32, words.W4}
    assert len(rows) == 4
    assert [row.mb for row in rows] == sorted(row.mb for row in rows)
    assert rows[-1].name == words.FP32
    assert rows[-1].error == pytest.approx(0, abs=1e-5)
    assert all(row.ms is not None and row.ms > 0 for row in rows)


def test_a_file_that_several_budgets_lead_to_is_one_row(products: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(products, sentences(12), tmp_path, choices=(words.FP16,), compensate=False)

    # One precision makes one file, at whatever budget.
    (row,) = curve(mixer, sentences(8, seed=5), tmp_path, steps=3)

    assert row.name == words.FP16


def test_a_file_that_was_written_is_marked_and_a_row_more_only_if_unlike_the_others(
    products: Prepared, tmp_path: Path
) -> None:
    mixer = mixer_of(products, sentences(12), tmp_path, choices=(words.FP32, words.W4), compensate=False)
    mixer.write(mixer.uniform(words.W4), tmp_path / "same.onnx")
    mixer.write({group.name: words.FP16 for group in mixer.groups}, tmp_path / "other.onnx")
    for file, name, count in (("same.onnx", words.W4, 3), ("other.onnx", "mine.onnx", 4)):
        rows = curve(mixer, sentences(8), tmp_path, steps=1, written=("mine.onnx", tmp_path / file))

        assert ([row.name for row in rows if row.written], len(rows)) == ([name], count)
        (line,) = [line for line in table(rows) if "(written)" in line]
        assert name in line


def test_a_mixed_row_bears_the_size_that_it_has(products: Prepared, tmp_path: Path) -> None:
    mixer = mixer_of(products, sentences(12), tmp_path, choices=(words.FP32, words.W4), compensate=False)

    mixed = [row for row in curve(mixer, sentences(8, seed=5), tmp_path, steps=2) if "mixed" in row.name]

    assert [row.name for row in mixed] == [f"mixed {row.mb:.3g} MB" for row in mixed]


def test_the_benchmark_compares_greedy_with_exact_allocation_within_the_same_bytes(
    convolutions: Prepared, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(root))
    from bench.mixed import CALIBRATING, HELD_OUT, Contest

    with tarfile.open(tmp_path / "flickr8k_dev.tar", "w") as tar:
        for place in range(CALIBRATING + HELD_OUT):
            shot = tmp_path / f"{place}.png"
            Image.fromarray(np.random.default_rng(place).integers(0, 256, (12, 12, 3), np.uint8)).save(shot)
            tar.add(shot, shot.name)
    folder = tmp_path / "contest"
    folder.mkdir()

    found = Contest(convolutions.path, tmp_path, folder).run(refine=False)

    rows = {row["plan"]: row for row in found["rows"]}
    both = [rows["mixed, plain rounding, greedy"], rows["mixed, plain rounding"]]
    assert all(0 < row["mb"] <= 1.03 * found["budget_mb"] + 0.001 for row in both)
    assert [row["note"] for row in both] == ["a8w8 and fp16 only"] * 2
