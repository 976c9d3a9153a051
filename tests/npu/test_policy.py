"""Policies: what this version follows, and that nothing else is accepted in silence."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from nearsight_npu import Decision, Policy, Rejected, Rung
from nearsight_npu.errors import PolicyError


def test_a_policy_allows_falling_back_unless_it_is_strict() -> None:
    assert not Policy().strict
    assert Policy(strict=True).strict


def test_a_policy_has_the_promised_fields_and_stays_as_it_is() -> None:
    names = [field.name for field in fields(Policy)]

    assert names == [
        "threshold",
        "risk",
        "budget_ms",
        "max_memory_mb",
        "budget_money",
        "cloud",
        "endpoint",
        "privacy",
        "strict",
    ]
    with pytest.raises(FrozenInstanceError):
        Policy().strict = True  # type: ignore[misc]


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 0.5},
        {"risk": 0.1},
        {"budget_ms": 20},
        {"max_memory_mb": 100},
        {"budget_money": 0},
        {"cloud": True},
        {"endpoint": "http://127.0.0.1"},
        {"privacy": "whole"},
    ],
)
def test_what_is_not_built_yet_is_refused_and_not_ignored(values: dict[str, Any]) -> None:
    (name,) = values

    with pytest.raises(PolicyError, match=f"Policy\\({name}=.*not built yet.*leave {name} out") as error:
        Policy(**values)

    assert "\n" not in str(error.value)


def test_defaults_that_are_written_out_are_accepted() -> None:
    assert Policy(threshold=None, cloud=False, privacy="blur") == Policy()


def test_strict_is_true_or_false() -> None:
    with pytest.raises(PolicyError, match="strict='yes'"):
        Policy(strict="yes")  # type: ignore[arg-type]


def test_a_decision_turns_into_plain_dictionaries() -> None:
    decision = Decision(
        requested="auto",
        target="cpu",
        precision="int8",
        model_hash="ab",
        rungs=(Rung(target="cpu", precision="int8", confidence=None, reason="the first choice"),),
        rejected=(Rejected(target="qnn", precision="", reason="not here"),),
    )

    assert decision.to_dict() == {
        "requested": "auto",
        "target": "cpu",
        "precision": "int8",
        "model_hash": "ab",
        "rungs": [{"target": "cpu", "precision": "int8", "confidence": None, "reason": "the first choice"}],
        "predicted": None,
        "measured": None,
        "rejected": [{"target": "qnn", "precision": "", "reason": "not here"}],
        "sent": [],
    }
