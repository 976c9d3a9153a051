"""Measuring: candidates take turns, the slow ones leave early, and what was found is remembered for what it holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight_npu import remembered_choices
from nearsight_npu.errors import InputMismatchError, TargetLostError
from nearsight_npu.memory import Memory
from nearsight_npu.placement import Trial
from nearsight_npu.policy import Rejected
from nearsight_npu.targets.target import Port, Setup
from nearsight_npu.tuning import (
    BUDGET_S,
    FEWEST_ROUNDS,
    FRESH_DAYS,
    MOST_ROUNDS,
    Choice,
    ChoiceKey,
    batch_recalled,
    batch_remembered,
    batchable,
    best_batch,
    now,
    race,
    recalled,
    remember,
    toll_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Clock:
    """A clock that only runs move."""

    def __init__(self, seconds: Mapping[Any, float]) -> None:
        self.seconds = 0.0
        self.order: list[Any] = []
        self.rested: list[float] = []
        self.runs: dict[Any, Callable[[], object]] = {key: self._run(key, time) for key, time in seconds.items()}

    def _run(self, key: Any, time: float) -> Callable[[], object]:
        def run() -> None:
            self.order.append(key)
            self.seconds += time

        return run

    def __call__(self) -> float:
        return self.seconds

    def race(self, **options: Any) -> tuple[dict[Any, tuple[float, ...]], dict[Any, Exception]]:
        times, failed = race(self.runs, clock=self, rest=self.rested.append, **options)
        return times, dict(failed)


def test_everybody_is_warmed_up_once_and_then_runs_in_turn() -> None:
    clock = Clock({"a": 0.02, "b": 0.021})

    times, failed = clock.race()

    assert clock.order[:8] == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert failed == {}
    assert len(times["a"]) == len(times["b"])
    assert times["a"][0] == pytest.approx(20)


def test_a_quick_run_is_timed_when_its_weights_are_back_in_the_cache() -> None:
    clock = Clock({"a": 0.001, "b": 0.001})

    clock.race()

    assert clock.order[:6] == ["a", "b", "a", "a", "b", "b"]


def test_the_clearly_slower_leaves_early_and_the_rest_goes_on() -> None:
    clock = Clock({"slow": 0.04, "quick": 0.01, "near": 0.0105})

    times, _ = clock.race()

    assert len(times["slow"]) == 3
    assert len(times["quick"]) == len(times["near"]) > FEWEST_ROUNDS


@given(st.dictionaries(st.integers(), st.floats(1e-4, 2), min_size=1, max_size=5))
def test_a_race_ends(seconds: dict[int, float]) -> None:
    clock = Clock(seconds)

    times, _ = clock.race()

    longest = max(len(found) for found in times.values())
    assert FEWEST_ROUNDS <= longest <= MOST_ROUNDS
    if longest > FEWEST_ROUNDS:
        # Before its last round the budget was not used up, warming up apart.
        last = 2 * sum(seconds.values())
        assert clock.seconds - sum(seconds.values()) <= BUDGET_S + last
    assert set(times) == set(seconds)


def test_a_race_that_is_disturbed_goes_on_for_longer() -> None:
    calm, disturbed = (Clock({"a": 0.02, "b": 0.021}) for _ in range(2))
    quick = disturbed.runs["a"]

    def now_and_then() -> None:
        quick()
        disturbed.seconds += 0.005 * (disturbed.order.count("a") % 8 != 2)

    disturbed.runs["a"] = now_and_then

    rounds = [len(clock.race()[0]["a"]) for clock in (calm, disturbed)]

    assert rounds[0] < rounds[1]


def test_one_that_was_dropped_comes_back_where_the_leader_had_been_lucky() -> None:
    clock = Clock({"lucky": 0.02, "steady": 0.012})
    slow = clock.runs["lucky"]
    runs = iter([0.02, 0.004, 0.004])

    def lucky_at_first() -> None:
        slow()
        clock.seconds += next(runs, 0.02) - 0.02

    clock.runs["lucky"] = lucky_at_first

    times, _ = clock.race()

    assert len(times["steady"]) > FEWEST_ROUNDS


@pytest.mark.parametrize(("slowed", "toll"), [(0.003, 3.0), (0.0, 0.0), (-0.001, 0.0)])
def test_a_toll_is_what_the_next_run_loses(slowed: float, toll: float) -> None:
    clock = Clock({"spinning": 0.02, "following": 0.005, "quiet": 0.03})
    plain = clock.runs["following"]

    def following() -> None:
        spun = clock.order[-1] == "spinning"
        plain()
        clock.seconds += slowed * spun

    found = toll_of(clock.runs["spinning"], following, clock.runs["quiet"], clock=clock, rest=clock.rested.append)

    assert found == pytest.approx(toll)
    assert clock.order[:4] == ["quiet", "following", "spinning", "following"]


def test_threads_that_spin_are_waited_for() -> None:
    clock = Clock({"spinning": 0.02, "asleep": 0.02})

    clock.race(rests_s={"spinning": 0.5, "asleep": 0.0})

    assert set(clock.rested) == {0.5}
    assert len(clock.rested) == clock.order.count("spinning")


@pytest.mark.parametrize("error", [TargetLostError("the card was pulled"), InputMismatchError("no such word")])
@pytest.mark.parametrize("after", [0, 3])
def test_one_that_fails_leaves_the_race_with_its_error(error: Exception, after: int) -> None:
    clock = Clock({"good": 0.02, "bad": 0.02})
    good = clock.runs["bad"]

    def bad() -> None:
        if clock.order.count("bad") >= after:
            raise error
        good()

    clock.runs["bad"] = bad

    times, failed = clock.race()

    assert failed == {"bad": error}
    assert set(times) == {"good"}


def test_other_errors_are_not_taken_for_a_slow_target() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        race({"broken": broken})


@pytest.mark.parametrize(
    ("share", "limit", "wanted"), [(0.0, 1, 1), (0.0, 32, 1), (0.9, 32, 32), (0.9, 20, 20), (0.9, 3, 3), (0.1, 32, 4)]
)
def test_the_batch_is_as_long_as_that_pays(share: float, limit: int, wanted: int) -> None:
    # Of a batch of n the share is done once and the rest n times; a longer batch has to give 3 % more.
    clock = Clock({})

    def run(length: int) -> None:
        clock.seconds += 0.02 * (share + (1 - share) * length)

    assert best_batch(run, limit, clock=clock) == wanted


def test_a_batch_that_would_take_more_than_a_second_is_not_tried() -> None:
    clock = Clock({})
    tried: list[int] = []

    def run(length: int) -> None:
        tried.append(length)
        clock.seconds += 0.05 + 0.1 * length

    assert best_batch(run, 32, clock=clock) == 4
    assert set(tried) == {1, 4}


def test_a_long_batch_is_found_behind_a_middling_one_that_does_not_pay() -> None:
    clock = Clock({})
    seconds = {1: 0.01, 4: 0.06, 16: 0.08}

    def run(length: int) -> None:
        clock.seconds += seconds[length]

    assert best_batch(run, 16, clock=clock) == 16


def test_a_batch_that_fails_is_not_taken() -> None:
    def run(length: int) -> None:
        if length > 1:
            raise InputMismatchError("one at a time")

    assert best_batch(run, 32) == 1


def test_a_target_that_is_lost_has_no_best_batch() -> None:
    def run(_length: int) -> None:
        raise TargetLostError("the card was pulled")

    with pytest.raises(TargetLostError):
        best_batch(run, 32)


def test_a_batch_that_others_found_meanwhile_is_not_measured_again(tmp_path: Path) -> None:
    mine, others = Memory(tmp_path), Memory(tmp_path)
    assert batch_recalled("key", mine) is None

    found = batch_remembered("key", lambda: 4, others)

    assert found == batch_recalled("key", mine) == batch_remembered("key", lambda: 1, mine) == 4
    assert batch_recalled("another key", mine) is None


@pytest.mark.parametrize("batch", [0, -2, 2.5, "4", None])
def test_a_damaged_batch_is_measured_again(batch: object, tmp_path: Path) -> None:
    Memory(tmp_path).write("batches", "key", {"key": "key", "batch": batch})

    assert batch_recalled("key", Memory(tmp_path)) is None


def test_a_graph_takes_batches_where_every_first_axis_is_free() -> None:
    free, fixed = (Port(name="x", dtype="uint8", shape=(length, 3)) for length in ("n", 1))

    assert batchable((free,))
    assert not batchable((free, fixed))
    assert not batchable((free, Port(name="s", dtype="float32", shape=())))
    assert not batchable(())


KEY = ChoiceKey(
    files=(("int8", "aa"), ("fp16", "bb")),
    golden_hash="cc",
    targets={"cpu": {"onnxruntime": "1.32"}, "openvino": {"openvino": "2026.4"}},
    threads=None,
    tuned=True,
    strict=False,
    memory_mb=None,
    processors=2,
    processor="x86_64 Some CPU 01234567",
)
CHANGES: dict[str, list[Any]] = {
    "files": [
        (("int8", "ab"), ("fp16", "bb")),
        (("fp16", "bb"), ("int8", "aa")),
        (("int8", "aa"),),
        (("w4", "aa"), ("fp16", "bb")),
    ],
    "golden_hash": ["", "cd"],
    "targets": [
        {"cpu": {"onnxruntime": "1.33"}, "openvino": {"openvino": "2026.4"}},
        {"cpu": {"onnxruntime": "1.32"}},
        {"openvino": {"openvino": "2026.4"}, "cpu": {"onnxruntime": "1.32"}},
        {"cpu": {"onnxruntime": "1.32", "beside model.onnx.data": "00"}, "openvino": {"openvino": "2026.4"}},
    ],
    "threads": [1, 2],
    "tuned": [False],
    "strict": [True],
    "memory_mb": [100, 100.5],
    "processors": [1, 4],
    "processor": ["x86_64 Some CPU 76543210"],
}


def test_a_choice_is_made_again_when_anything_changes_that_matters() -> None:
    assert set(CHANGES) == {field.name for field in fields(ChoiceKey)}
    texts = [
        KEY.text(),
        *(replace(KEY, **{name: value}).text() for name, values in CHANGES.items() for value in values),
    ]

    assert len(set(texts)) == len(texts)


WORDS = st.text(min_size=0, max_size=6)
KEYS = st.builds(
    ChoiceKey,
    files=st.lists(st.tuples(WORDS, WORDS), max_size=3).map(tuple),
    golden_hash=WORDS,
    targets=st.dictionaries(WORDS, st.dictionaries(WORDS, WORDS, max_size=2), max_size=2),
    threads=st.one_of(st.none(), st.integers(1, 3)),
    tuned=st.booleans(),
    strict=st.booleans(),
    memory_mb=st.one_of(st.none(), st.integers(1, 3)),
    processors=st.integers(1, 3),
    processor=WORDS,
)


@given(KEYS, KEYS)
def test_two_keys_read_alike_only_if_they_are(one: ChoiceKey, other: ChoiceKey) -> None:
    same = one == other and list(one.targets) == list(other.targets)

    assert (one.text() == other.text()) == same
    assert "\n" not in one.text()


CHOICE = Choice(
    name="toy",
    files={"int8": ("aa", 5.9)},
    trials=(Trial(target="cpu", precision="int8", setup=Setup(threads=2), times_ms=(1.0, 1.5)),),
    setups=(
        Trial(target="cpu", precision="int8", setup=Setup(threads=2), times_ms=(1.0, 1.5)),
        Trial(target="cpu", precision="int8", setup=Setup(threads=1), times_ms=(2.0,)),
    ),
    refused=(Rejected(target="qnn", precision="int8", reason="no"),),
    told=(0,),
    measured_at="2026-11-27T09:30:00+00:00",
)


def test_a_choice_survives_json_and_is_remembered(tmp_path: Path) -> None:
    memory, choice = Memory(tmp_path), replace(CHOICE, measured_at=now())

    remember(KEY, choice, memory)

    assert Choice.from_dict(json.loads(json.dumps(choice.to_dict()))) == choice
    assert recalled(KEY, memory) == choice
    assert recalled(replace(KEY, processors=4), memory) is None
    assert remembered_choices(tmp_path) == (choice,)


@pytest.mark.parametrize("days", [-1, FRESH_DAYS, 1000])
def test_what_was_measured_long_ago_is_measured_again(days: float, tmp_path: Path) -> None:
    then = (datetime.now(UTC) - timedelta(days=days)).isoformat()

    remember(KEY, replace(CHOICE, measured_at=then), Memory(tmp_path))

    assert recalled(KEY, Memory(tmp_path)) is None
    assert len(remembered_choices(tmp_path)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"trials": 1},
        {"trials": []},
        {"setups": None},
        {"files": {"int8": 1}},
        {"refused": [{}]},
        {"told": 0},
        {"measured_at": "soon"},
        {"trials": [{**CHOICE.trials[0].to_dict(), "target": "toaster"}]},
        {"trials": [{**CHOICE.trials[0].to_dict(), "precision": "w2"}]},
    ],
)
def test_a_damaged_choice_is_made_again(damage: dict[str, object], tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    whole = {**replace(CHOICE, measured_at=now()).to_dict(), **damage}
    memory.write("timings", KEY.text(), {"key": KEY.text(), "choice": whole})

    assert recalled(KEY, memory) is None


def test_where_nothing_can_be_written_a_choice_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    memory, key = Memory(tmp_path / "file"), replace(KEY, processor="of its own")
    choice = replace(CHOICE, measured_at=now())

    remember(key, choice, memory)

    assert recalled(key, memory) == choice


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
def test_a_process_that_forks_while_it_measures_does_not_stop_its_children_from_measuring() -> None:
    code = (
        "import os; from nearsight_npu.tuning import MEASURING as lock; lock.acquire(); child = os.fork(); "
        "os._exit(not lock.acquire(timeout=5)) if child == 0 else print(os.waitpid(child, 0)[1], lock.locked())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["0", "True"]


def test_processes_that_share_a_cache_folder_take_turns_but_do_not_wait_for_ever(tmp_path: Path) -> None:
    mine, others = Memory(tmp_path), Memory(tmp_path)
    order = []

    def second() -> None:
        with others.alone("timings", patience_s=60):
            order.append("second")

    waiting = threading.Thread(target=second)
    with mine.alone("timings"):
        waiting.start()
        waiting.join(0.1)
        with others.alone("timings", patience_s=0.1):
            order.append("impatient")
        with others.alone("batches", patience_s=60):
            order.append("another matter")
        order.append("first")
    waiting.join()

    assert order == ["impatient", "another matter", "first", "second"]


def test_where_nothing_can_be_written_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    memory = Memory(tmp_path / "file" / "cache")

    with memory.alone("timings"), memory.alone("timings"):
        pass
