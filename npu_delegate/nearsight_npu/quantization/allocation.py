"""Chooses a precision for each group under a budget: by gain, exactly, or by chance for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearsight_npu.errors import QuantizationError

if TYPE_CHECKING:
    from nearsight_npu.arrays import Array

_SLACK = 1e-9  # of an error: rounding in sums must not cut off the best plan
_HALVINGS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One precision that a group may have.

    Attributes:
        choice: the precision.
        cost: what it takes of the budget, a whole number of bytes or microseconds.
        error: what it adds to the error that is to be small; errors of groups add up.
    """

    choice: str
    cost: int
    error: float


Options: TypeAlias = Mapping[str, Sequence[Option]]  # group -> what it may become


def cost_of(options: Options, plan: Mapping[str, str]) -> int:
    """Add up what a plan takes of the budget."""
    return sum(_option(options, name, choice).cost for name, choice in plan.items())


def error_of(options: Options, plan: Mapping[str, str]) -> float:
    """Add up the errors that are foretold of a plan."""
    return sum(_option(options, name, choice).error for name, choice in plan.items())


def _option(options: Options, name: str, choice: str) -> Option:
    return next(option for option in options[name] if option.choice == choice)


def undominated(some: Sequence[Option]) -> list[Option]:
    """Keep the options that no other beats in both cost and error, in the order of cost.

    Args:
        some: what a group may become.
    """
    kept: list[Option] = []
    for option in sorted(some, key=lambda option: (option.cost, option.error)):
        if not kept or option.error < kept[-1].error:
            kept.append(option)
    return kept


def greedy(options: Options, budget: int) -> dict[str, str]:
    """Begin with the cheapest plan, and make the change that saves most error for its cost while one fits.

    Args:
        options: group -> what it may become.
        budget: what the plan may cost.

    Returns:
        Group -> precision.

    Raises:
        QuantizationError: if the cheapest plan costs more.
    """
    plan, left = _cheapest(options, budget)
    while True:
        best, gain = None, 0.0
        for name, current in plan.items():
            for option in options[name]:
                more, less = option.cost - current.cost, current.error - option.error
                if 0 < more <= left and less / more > gain:
                    best, gain = (name, option), less / more
        if best is None:
            return {name: option.choice for name, option in plan.items()}
        name, option = best
        left -= option.cost - plan[name].cost
        plan[name] = option


def drawn(options: Options, budget: int, seed: int) -> dict[str, str]:
    """Begin with the cheapest plan, and give groups in random order the dearest precision that still fits.

    Args:
        options: group -> what it may become.
        budget: what the plan may cost.
        seed: of the order.

    Returns:
        Group -> precision.

    Raises:
        QuantizationError: if the cheapest plan costs more.
    """
    plan, left = _cheapest(options, budget)
    names = list(options)
    for place in np.random.default_rng(seed).permutation(len(names)):
        name = names[place]
        fitting = [option for option in options[name] if option.cost - plan[name].cost <= left]
        option = max(fitting, key=lambda option: option.cost)
        left -= option.cost - plan[name].cost
        plan[name] = option
    return {name: option.choice for name, option in plan.items()}


def _cheapest(options: Options, budget: int) -> tuple[dict[str, Option], int]:
    """Give the plan that costs least (of equal ones the one that errs least), and what is left of the budget."""
    plan = {name: min(some, key=lambda option: (option.cost, option.error)) for name, some in options.items()}
    least = sum(option.cost for option in plan.values())
    if least > budget:
        raise QuantizationError(
            f"a plan of at most {budget} was asked for; the least that these choices can do is {least}; "
            "give a larger budget, or more choices"
        )
    return plan, budget - least


def knapsack(options: Options, budget: int) -> dict[str, str]:
    """Find the plan with the least error that fits (the multiple-choice knapsack problem), exactly.

    Groups are taken in turn; of the partial plans, those stay that no other beats in both cost and error, and that
    could still beat the best plan known. How well one could do at best is known from the relaxed problem, in which
    cost has a price instead of a limit.
    Source: H. Kellerer, U. Pferschy, D. Pisinger, "Knapsack Problems", 2004, chapter 11.

    Args:
        options: group -> what it may become.
        budget: what the plan may cost.

    Returns:
        Group -> precision.

    Raises:
        QuantizationError: if the cheapest plan costs more.
    """
    first = greedy(options, budget)
    table = {name: undominated(some) for name, some in options.items()}
    names = sorted(table, key=lambda name: table[name][-1].cost - table[name][0].cost, reverse=True)
    costs = [np.array([option.cost for option in table[name]], np.int64) for name in names]
    errors = [np.array([option.error for option in table[name]], np.float64) for name in names]
    price = _price(costs, errors, budget)
    known = _priced(costs, errors, price)
    plans = [first]
    if sum(int(costs[i][k]) for i, k in enumerate(known)) <= budget:
        plans.append({name: table[name][place].choice for name, place in zip(names, known, strict=True)})
    best = min(plans, key=lambda plan: error_of(options, plan))
    path = _search(costs, errors, budget, price, error_of(options, best))
    if path is None:
        return best
    found = {name: table[name][place].choice for name, place in zip(names, path, strict=True)}
    found = {name: found[name] for name in options}
    return min((found, best), key=lambda plan: error_of(options, plan))


def _price(costs: Sequence[Array], errors: Sequence[Array], budget: int) -> float:
    """Find the error that one unit of cost is worth: the least at which the relaxed plan fits."""
    low, high = 0.0, 1.0
    if _spent(costs, errors, low) <= budget:
        return low
    while _spent(costs, errors, high) > budget and np.isfinite(high * 2):
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _spent(costs, errors, middle) <= budget else (middle, high)
    return high


def _priced(costs: Sequence[Array], errors: Sequence[Array], price: float) -> list[int]:
    return [int(np.argmin(error + price * cost)) for cost, error in zip(costs, errors, strict=True)]


def _spent(costs: Sequence[Array], errors: Sequence[Array], price: float) -> int:
    places = _priced(costs, errors, price)
    return sum(int(cost[place]) for cost, place in zip(costs, places, strict=True))


def _search(
    costs: Sequence[Array], errors: Sequence[Array], budget: int, price: float, known: float
) -> list[int] | None:
    """Go through the groups; give the places of the best plan's options, None where none beats `known`."""
    cheapest = np.cumsum([0, *(int(cost.min()) for cost in costs[::-1])])[::-1]
    relaxed = np.cumsum([0.0, *(float((e + price * c).min()) for c, e in zip(costs[::-1], errors[::-1], strict=True))])
    surest = np.cumsum([0.0, *(float(error.min()) for error in errors[::-1])])[::-1]
    relaxed = relaxed[::-1]
    spent, erred = np.zeros(1, np.int64), np.zeros(1)
    back: list[tuple[Array, Array]] = []
    most = known + _SLACK * abs(known)
    for place, (cost, error) in enumerate(zip(costs, errors, strict=True), 1):
        total = (spent[:, None] + cost).ravel()
        wrong = (erred[:, None] + error).ravel()
        at_best = wrong + np.maximum(relaxed[place] - price * (budget - total), surest[place])
        kept = np.flatnonzero((total + cheapest[place] <= budget) & (at_best <= most))
        kept = kept[np.lexsort((wrong[kept], total[kept]))]
        ahead = np.minimum.accumulate(np.concatenate(([np.inf], wrong[kept][:-1])))[: kept.size]
        kept = kept[wrong[kept] < ahead]
        if not kept.size:
            return None
        back.append((kept // cost.size, kept % cost.size))
        spent, erred = total[kept], wrong[kept]
    at = int(np.argmin(erred))
    path: list[int] = []
    for parents, places in reversed(back):
        path.append(int(places[at]))
        at = int(parents[at])
    return path[::-1]
