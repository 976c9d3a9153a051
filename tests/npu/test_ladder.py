"""The ladder's rules: when the cloud is asked, for how long, and when again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight_npu import Policy
from nearsight_npu.ladder import CLOUD, CLOUD_MS, LOCAL, Outcome, next_rung

OPEN = {"threshold": 0.5, "cloud": True, "endpoint": "https://host.example/v1"}
UNSURE = Outcome(rung=LOCAL, ms=30, confidence=0.3)
BUSY = Outcome(rung=CLOUD, ms=100, error="busy", retry_ms=200)


def test_this_machine_is_asked_first() -> None:
    assert next_rung(Policy(**OPEN), []).rung == LOCAL


def test_an_unsure_answer_goes_on_to_the_cloud() -> None:
    step = next_rung(Policy(**OPEN), [UNSURE])

    assert (step.rung, step.wait_ms, step.left_ms) == (CLOUD, 0, CLOUD_MS)
    assert step.reason == "its confidence is 0.30, below the threshold 0.50"


@pytest.mark.parametrize(
    ("changes", "confidence", "reason"),
    [
        ({"cloud": False}, 0.3, "nothing may leave"),
        ({"threshold": None}, 0.3, "no threshold"),
        ({}, None, "nobody can tell how sure it is"),
        ({}, 0.5, "at or above the threshold"),
        ({}, 0.9, "at or above the threshold"),
        ({"privacy": "nothing"}, 0.3, "keeps anything here"),
        ({"budget_ms": 79}, 0.3, "no time for it, with 49 of 79 ms left"),
        ({"budget_ms": 10}, 0.3, "no time for it, with 0 of 10 ms left"),
    ],
)
def test_the_answer_of_this_machine_is_kept(changes: dict[str, Any], confidence: float | None, reason: str) -> None:
    step = next_rung(Policy(**OPEN | changes), [Outcome(rung=LOCAL, ms=30, confidence=confidence)])

    assert step.rung == ""
    assert reason in step.reason


@pytest.mark.parametrize(("privacy", "rung"), [("nothing", ""), ("text", ""), ("blur", CLOUD), ("whole", CLOUD)])
def test_a_question_about_a_picture_does_not_go_out_without_it(privacy: str, rung: str) -> None:
    assert next_rung(Policy(**OPEN | {"privacy": privacy}), [UNSURE], picture=True).rung == rung


def test_words_alone_may_leave_where_only_words_may() -> None:
    assert next_rung(Policy(**OPEN | {"privacy": "text"}), [UNSURE]).rung == CLOUD


def test_the_cloud_gets_what_is_left_of_the_budget() -> None:
    assert next_rung(Policy(**OPEN | {"budget_ms": 500}), [UNSURE]).left_ms == 470


def test_a_second_try_waits_as_long_as_it_was_told_to() -> None:
    step = next_rung(Policy(**OPEN | {"budget_ms": 500}), [UNSURE, BUSY])

    assert (step.rung, step.wait_ms, step.left_ms) == (CLOUD, 200, 170)


def test_there_is_no_second_try_without_time_for_it() -> None:
    step = next_rung(Policy(**OPEN | {"budget_ms": 379}), [UNSURE, BUSY])

    assert step.rung == ""
    assert step.reason == "a second try in 200 ms: no time for it, with 249 of 379 ms left"


def test_there_is_no_second_try_where_it_would_not_help() -> None:
    assert next_rung(Policy(**OPEN), [UNSURE, Outcome(rung=CLOUD, ms=9, error="401")]).rung == ""


def test_there_is_no_third_try() -> None:
    assert next_rung(Policy(**OPEN), [UNSURE, BUSY, BUSY]).rung == ""


def test_an_answer_ends_it() -> None:
    assert next_rung(Policy(**OPEN), [UNSURE, Outcome(rung=CLOUD, ms=9)]).rung == ""


milliseconds = st.floats(0, 60_000)


@given(
    threshold=st.none() | st.floats(0, 1),
    budget_ms=st.none() | st.floats(1, 60_000),
    cloud=st.booleans(),
    privacy=st.sampled_from(["nothing", "text", "blur", "whole"]),
    picture=st.booleans(),
    confidence=st.none() | st.floats(0, 1),
    local_ms=milliseconds,
    tries=st.lists(st.tuples(milliseconds, st.none() | milliseconds), max_size=4),
)
def test_it_always_ends_and_never_climbs_unasked_or_late(
    *,
    threshold: float | None,
    budget_ms: float | None,
    cloud: bool,
    privacy: str,
    picture: bool,
    confidence: float | None,
    local_ms: float,
    tries: list[tuple[float, float | None]],
) -> None:
    policy = Policy(threshold=threshold, budget_ms=budget_ms, cloud=cloud, endpoint=OPEN["endpoint"], privacy=privacy)
    outcomes = [Outcome(rung=LOCAL, ms=local_ms, confidence=confidence)]

    for took_ms, retry_ms in [*tries, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]:
        step = next_rung(policy, outcomes, picture=picture)
        if not step.rung:
            break
        assert step.rung == CLOUD
        assert cloud
        assert threshold is not None
        assert confidence is not None
        assert confidence < threshold
        assert privacy != "nothing"
        assert privacy != "text" or not picture
        assert step.left_ms is not None
        spent = sum(outcome.ms for outcome in outcomes) if budget_ms else sum(o.ms for o in outcomes[1:])
        assert spent + step.wait_ms + step.left_ms <= (budget_ms or CLOUD_MS) + 1e-6
        outcomes.append(Outcome(rung=CLOUD, ms=took_ms, error="busy", retry_ms=retry_ms))

    assert len(outcomes) <= 3
    assert next_rung(policy, outcomes, picture=picture).rung == "" or len(outcomes) == 1
