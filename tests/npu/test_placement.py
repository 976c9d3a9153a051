"""Choosing: never dearer than what was looked at, and every other choice says what it would have cost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight_npu.placement import (
    Trial,
    clear,
    ranked,
    settled,
    slower,
    still_racing,
    typical,
    worth_setting_up,
)
from nearsight_npu.policy import Rejected
from nearsight_npu.targets.target import Setup
from nearsight_npu.tuning import Choice

MILLISECONDS = st.floats(0.01, 1e4)
SETUPS = st.one_of(st.none(), st.builds(Setup, threads=st.integers(1, 8), spinning=st.booleans()))
TRIALS = st.lists(
    st.builds(
        Trial,
        target=st.sampled_from(("cpu", "openvino", "qnn")),
        precision=st.sampled_from(("fp32", "fp16", "int8")),
        setup=SETUPS,
        times_ms=st.lists(MILLISECONDS, min_size=1, max_size=9).map(tuple),
        toll_ms=st.one_of(st.just(0.0), MILLISECONDS),
    ),
    min_size=1,
    max_size=20,
)


@given(TRIALS)
def test_a_placement_is_never_dearer_than_any_single_file_on_any_single_target(trials: list[Trial]) -> None:
    taken = ranked(trials)[0]

    for pair in {trial.pair for trial in trials}:
        alone = ranked([trial for trial in trials if trial.pair == pair])[0]
        assert taken.cost <= alone.cost
        assert taken.latency_ms <= alone.latency_ms + alone.toll_ms


@given(TRIALS)
def test_each_file_on_each_target_is_ranked_once_in_its_best_setup(trials: list[Trial]) -> None:
    order = ranked(trials)

    assert [trial.cost for trial in order] == sorted(trial.cost for trial in order)
    assert sorted(trial.pair for trial in order) == sorted({trial.pair for trial in trials})
    for trial in order:
        assert trial.cost == min(other.cost for other in trials if other.pair == trial.pair)


@given(TRIALS)
def test_what_was_not_taken_names_both_times(trials: list[Trial]) -> None:
    order = ranked(trials)

    refused = slower(order, order[0])

    assert [(item.target, item.precision) for item in refused] == [trial.pair for trial in order[1:]]
    for item, trial in zip(refused, order[1:], strict=True):
        assert item.latency_ms == trial.latency_ms
        assert f"{trial.latency_ms:.3g} ms" in item.reason
        assert f"{order[0].latency_ms:.3g} ms" in item.reason


def test_what_a_run_takes_from_the_next_one_counts() -> None:
    asleep = Trial(target="cpu", precision="int8", setup=Setup(threads=2), times_ms=(10.0,))
    spinning = Trial(target="cpu", precision="int8", setup=Setup(threads=2, spinning=True), times_ms=(9.2,))

    assert ranked([asleep, replace(spinning, toll_ms=0.9)])[0] == asleep
    assert ranked([asleep, replace(spinning, toll_ms=0.7)])[0].setup == spinning.setup


def test_what_was_quicker_but_not_taken_is_not_called_slower() -> None:
    asleep = Trial(target="cpu", precision="int8", setup=Setup(threads=1), times_ms=(2.0,))
    spinning = Trial(
        target="cpu", precision="fp16", setup=Setup(threads=2, spinning=True), times_ms=(1.9,), toll_ms=1.6
    )

    (refused,) = slower(ranked([spinning, asleep]), asleep)

    assert refused.reason == (
        "quicker by itself, but its spinning threads take 1.6 ms from the next run: 1.9 ms with 2 threads, spinning, "
        "where int8 on cpu took 2 ms"
    )


def test_what_ties_keeps_its_order_and_what_was_not_timed_comes_last() -> None:
    first, second = (Trial(target=name, precision="int8", times_ms=(1.0,)) for name in ("cpu", "openvino"))
    untimed = Trial(target="axera", precision="int8")

    assert ranked([untimed, second, first]) == (second, first, untimed)
    assert slower([first, untimed], first) == ()


def test_a_typical_run_is_the_lower_quartile() -> None:
    assert typical([5, 1, 9, 2, 8]) == 2
    assert typical([3]) == 3
    assert typical([]) == float("inf")


def test_times_are_settled_where_a_typical_run_is_near_the_quickest() -> None:
    assert settled([1.0, 1.05, 9.0, 9.0, 9.0])
    assert not settled([1.0, 1.2, 1.2, 1.2, 1.2])
    assert not settled([])


@given(st.dictionaries(st.integers(), st.lists(MILLISECONDS, min_size=1, max_size=9), min_size=1, max_size=6))
def test_the_leader_is_never_dropped_from_a_race(times: dict[int, list[float]]) -> None:
    left = still_racing(times)

    assert set(left) <= set(times)
    assert min(times, key=lambda key: typical(times[key])) in left


@given(st.lists(MILLISECONDS, min_size=3, max_size=9), st.floats(3.01, 100))
def test_what_is_three_times_slower_is_dropped_after_three_runs(times: list[float], factor: float) -> None:
    assert still_racing({"quick": times, "slow": [factor * max(times)] * len(times)}) == ("quick",)


def test_one_run_that_was_disturbed_drops_nobody_and_one_that_takes_for_ever_does() -> None:
    assert still_racing({"quick": [5.0, 5.0], "quicker": [168.0, 90.0]}) == ("quick", "quicker")
    assert still_racing({"quick": [5.0], "slow": [400.0]}) == ("quick",)


def test_a_choice_is_clear_where_nobody_ever_ran_quicker_than_what_was_chosen() -> None:
    def timed(name: str, *times: float, toll: float = 0.0) -> Trial:
        return Trial(target=name, precision="int8", setup=Setup(threads=2), times_ms=times, toll_ms=toll)

    best = timed("cpu", 2.0, 2.1, 2.1, 2.2, 9.0)

    assert clear([best, timed("openvino", 2.2, 7.0, 8.0), timed("qnn")])
    assert clear([best, timed("openvino", 1.2, 7.0, toll=1.0)])
    assert not clear([best, timed("openvino", 1.2, 7.0, 8.0, 9.0, 9.0)])
    assert not clear([timed("cpu", 2.0, 2.1, 2.1), timed("openvino", 7.0)])
    assert not clear([timed("cpu", 1.0, 2.1, 2.1, 2.2, 9.0)])


def test_the_longer_a_race_the_less_is_forgiven() -> None:
    near = {"quick": [1.0] * 10, "slow": [1.25] * 10}

    assert still_racing({key: times[:4] for key, times in near.items()}) == ("quick", "slow")
    assert still_racing(near) == ("quick",)


def test_other_setups_are_tried_where_they_may_still_win() -> None:
    trials = [
        Trial(target=name, precision="int8", times_ms=(time,))
        for name, time in (("cpu", 1.2), ("openvino", 1.0), ("qnn", 9.0))
    ]

    assert [trial.target for trial in worth_setting_up(trials)] == ["openvino", "cpu"]


@given(TRIALS)
def test_a_trial_survives_json(trials: list[Trial]) -> None:
    for trial in trials:
        assert Trial.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial


@pytest.mark.parametrize(
    "damage",
    [
        None,
        [],
        {},
        {"target": "cpu"},
        {"setup": {"a": 1}},
        {"setup": {"threads": "two", "spinning": False}},
        {"setup": {"threads": 0, "spinning": False}},
        {"setup": {"threads": 2, "spinning": "yes"}},
        {"times_ms": ["soon"]},
        {"times_ms": None},
    ],
)
def test_a_damaged_trial_is_no_trial(damage: Any) -> None:
    whole = Trial(target="cpu", precision="int8", setup=Setup(threads=2), times_ms=(1.0,)).to_dict()

    assert Trial.from_dict(whole) is not None
    assert Trial.from_dict({**whole, **damage} if damage and "target" not in damage else damage) is None


def test_a_choice_is_told_in_one_line() -> None:
    trials = (
        Trial(target="cpu", precision="int8", setup=Setup(threads=2, spinning=False), times_ms=(2.0, 2.5)),
        Trial(target="openvino", precision="fp16"),
    )
    refused = (Rejected(target="qnn", precision="", reason="not here"),)
    facts: dict[str, Any] = {"name": "tower", "files": {}, "setups": (), "measured_at": "2026-11-27T12:00:59+00:00"}

    full = Choice(trials=trials, refused=refused, doubtful=True, **facts)

    assert str(full) == (
        f"tower: {trials[0]}, 2.00 ms; not taken: fp16 on openvino; refused: anything on qnn (not here) "
        "(2026-11-27T12:00; too close or too disturbed to be sure: measured again after a day)"
    )
    assert str(Choice(trials=trials[:1], **facts)) == f"tower: {trials[0]}, 2.00 ms (2026-11-27T12:00)"
    assert str(Choice(trials=(), **facts)) == "tower: nothing (2026-11-27T12:00)"
