"""Allocation: the exact plan is the best there is, the quick one never beats it, and none breaks the budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.allocation import Option, Options, cost_of, drawn, error_of, greedy, knapsack

CHOICES = ("w4", "w8", "fp16", "fp32")


def problem(seed: int, groups: int, choices: int, most: int = 40) -> Options:
    """Draw options; some equal, some beaten by others, as measured ones may be."""
    numbers = np.random.default_rng(seed)
    return {
        f"g{place}": [
            Option(choice=choice, cost=int(numbers.integers(0, most)), error=float(numbers.integers(0, 20)) / 4)
            for choice in CHOICES[:choices]
        ]
        for place in range(groups)
    }


def every(options: Options) -> list[dict[str, str]]:
    return [
        dict(zip(options, (option.choice for option in some), strict=True))
        for some in itertools.product(*options.values())
    ]


def a_budget(options: Options, share: float) -> int:
    least = sum(min(option.cost for option in some) for some in options.values())
    most = sum(max(option.cost for option in some) for some in options.values())
    return least + int(share * (most - least))


cases = given(
    seed=st.integers(0, 2**32 - 1), groups=st.integers(1, 5), choices=st.integers(1, 4), share=st.floats(0, 1)
)


@cases
def test_the_knapsack_finds_what_trying_every_plan_finds(seed: int, groups: int, choices: int, share: float) -> None:
    options = problem(seed, groups, choices)
    budget = a_budget(options, share)

    plan = knapsack(options, budget)

    best = min(error_of(options, other) for other in every(options) if cost_of(options, other) <= budget)
    assert list(plan) == list(options)
    assert cost_of(options, plan) <= budget
    assert error_of(options, plan) == pytest.approx(best, abs=1e-9)


def test_two_middling_changes_beat_the_one_that_looks_best() -> None:
    gains = {"good": (6, 10.0), "middling": (5, 8.0), "other": (5, 8.0)}
    options = {
        name: [Option(choice="w4", cost=0, error=gain), Option(choice="w8", cost=cost, error=0.0)]
        for name, (cost, gain) in gains.items()
    }

    assert greedy(options, 10) == {"good": "w8", "middling": "w4", "other": "w4"}
    assert knapsack(options, 10) == {"good": "w4", "middling": "w8", "other": "w8"}


@cases
def test_no_quicker_way_beats_the_knapsack_or_breaks_the_budget(
    seed: int, groups: int, choices: int, share: float
) -> None:
    options = problem(seed, groups * 8, choices, most=100_000)
    budget = a_budget(options, share)
    exact = error_of(options, knapsack(options, budget))

    for plan in (greedy(options, budget), drawn(options, budget, seed)):
        assert set(plan) == set(options)
        assert cost_of(options, plan) <= budget
        assert exact <= error_of(options, plan) + 1e-9


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), more=st.integers(0, 500))
def test_a_larger_budget_never_gives_a_worse_plan(seed: int, share: float, more: int) -> None:
    options = problem(seed, 12, 4)
    budget = a_budget(options, share)

    small, large = knapsack(options, budget), knapsack(options, budget + more)

    assert error_of(options, large) <= error_of(options, small) + 1e-9


def test_as_many_groups_as_a_detector_has_are_solved_to_the_byte() -> None:
    numbers = np.random.default_rng(0)
    sizes = np.round(10 ** numbers.uniform(2, 6.7, 100)).astype(int)
    options = {
        f"g{place}": [
            Option(choice=choice, cost=int(size * width) + 60, error=float(numbers.lognormal(-9 - 3 * width, 3)))
            for choice, width in (("w8", 1), ("fp16", 2), ("fp32", 4))
        ]
        for place, size in enumerate(sizes)
    }
    budget = int(1.5 * sizes.sum())

    plan = knapsack(options, budget)

    assert cost_of(options, plan) <= budget
    assert error_of(options, plan) <= error_of(options, greedy(options, budget))
    # No single change that fits would be better.
    left = budget - cost_of(options, plan)
    for name, some in options.items():
        now = next(option for option in some if option.choice == plan[name])
        assert not any(option.error < now.error and option.cost - now.cost <= left for option in some)


def test_the_same_seed_draws_the_same_plan_and_others_another() -> None:
    options = {
        f"g{place}": [Option(choice="w4", cost=1, error=1), Option(choice="w8", cost=2, error=0)] for place in range(40)
    }

    plans = [drawn(options, 60, seed) for seed in (0, 0, 1, 2)]

    assert plans[0] == plans[1]
    assert plans[0] != plans[2] != plans[3]
    assert all(cost_of(options, plan) == 60 for plan in plans)


@pytest.mark.parametrize("allocate", [greedy, knapsack, lambda options, budget: drawn(options, budget, 0)])
def test_a_budget_below_the_least_is_refused_with_both_figures(allocate: object) -> None:
    options = problem(0, 3, 2)
    budget = a_budget(options, 0) - 1

    with pytest.raises(QuantizationError, match=rf"at most {budget} was asked for; .* is {budget + 1}; "):
        allocate(options, budget)
