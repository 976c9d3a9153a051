"""Was it worth it: a metric before and after on the same samples, and how sure one can be of what was lost."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nearsight_npu.errors import QuantizationError, one_line

if TYPE_CHECKING:
    import numpy.typing as npt

    from nearsight_npu.arrays import Array

Answers: TypeAlias = Sequence[Mapping[str, "Array"]]  # one dictionary of outputs for each sample
Metric: TypeAlias = Callable[..., "npt.ArrayLike"]

OUTPUT_ERROR = "output error"
# Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: percentile intervals want 1,000 and
# more resamples; a metric of the whole set, which is computed anew on each, gets fewer.
RESAMPLES, RESAMPLES_WHOLE = 2000, 200
_MIDDLE = (2.5, 97.5)
FEWEST_JUDGED = 8  # an interval drawn from fewer has hardly any width (one sample: none) and would accept anything
_SEED = 0
_ALIKE = 1e-4  # answers nearer to each other than this share of their length hardly depend on the input


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was lost, and whether that is inside what may be lost.

    Attributes:
        metric: the name of the function that was given; "output error" where none was.
        task: whether it is a task metric; the output error is not: it says how far answers moved, not what that costs.
        before: the metric of the model; None for the output error.
        after: the metric of what was written.
        drop: `before` less `after`; or the output error: the root mean square of what moved, as a share of how far the
            model's own answers lie from their mean; that of several outputs is the root of the mean of their squares.
        low: 2.5 % of the drops over resampled samples (pairs stay together, seeded) lie below; None without resampling.
        high: 97.5 % of them lie below.
        samples: how many it was measured on.
        resamples: how many times these were drawn anew.
        max_drop: what may be lost; None if nothing was said.
        accepted: whether `high` is no more than `max_drop`; None where that is.
        reason: the same in one line.
    """

    metric: str
    task: bool
    before: float | None
    after: float
    drop: float
    low: float | None
    high: float | None
    samples: int
    resamples: int
    max_drop: float | None
    accepted: bool | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loss:
    """A drop, and the drops over resampled samples."""

    before: float | None
    after: float
    drop: float
    drops: Array | None
    unmoved: bool  # whether every sample has the value that it had


def judge(
    wanted: Answers,
    given: Answers,
    places: Sequence[int],
    *,
    metric: Metric | None = None,
    max_drop: float | None = None,
) -> Verdict:
    """Say what was lost between two sets of answers to the same samples.

    Args:
        wanted: the model's answers.
        given: the answers of what was written, in the same order.
        places: place of each sample in the caller's order.
        metric: a function of the outputs by name, stacked over samples along the first axis (a list where shapes
            differ), that gives one value for each sample, or one for all; more is better. If it takes a second argument
            (without a default, or called `places`), that is an array of the samples' places; a metric with one value
            for all must take it, or it cannot be resampled, and drawn samples may come several times.
        max_drop: what may be lost.

    Returns:
        The verdict.

    Raises:
        QuantizationError: if the metric fails, gives something else, or cannot be resampled though `max_drop` asks, or
            `max_drop` asks and there are fewer than `FEWEST_JUDGED` samples.
    """
    if max_drop is not None and len(wanted) < FEWEST_JUDGED:
        raise QuantizationError(
            f"max_drop={max_drop} was asked for; {len(wanted)} samples to judge on say nothing of what others lose; "
            f"give at least {FEWEST_JUDGED} as validation=, or {5 * FEWEST_JUDGED} to calibrate with, a fifth of which "
            "is held out"
        )
    if metric is None:
        loss, count = _output_error(wanted, given), RESAMPLES
    else:
        loss, count = _task_loss(wanted, given, np.asarray(places), metric)
    low, high = (None, None) if loss.drops is None else map(float, np.percentile(loss.drops, _MIDDLE))
    if max_drop is not None and high is None:
        raise QuantizationError(
            f"max_drop={max_drop} was asked for; metric {_name(metric)!r} gives one value for all samples and does not "
            "take their places, so there is no interval; let it give a value for each sample, or take (outputs, places)"
        )
    accepted = None if max_drop is None or high is None else high <= max_drop
    return Verdict(
        metric=_name(metric),
        task=metric is not None,
        before=loss.before,
        after=loss.after,
        drop=loss.drop,
        low=low,
        high=high,
        samples=len(wanted),
        resamples=0 if loss.drops is None else count,
        max_drop=max_drop,
        accepted=accepted,
        reason=_reason(loss, low, high, len(wanted), max_drop),
    )


def stacked(answers: Answers) -> dict[str, Array | list[Array]]:
    """Put the outputs of single runs one after another along their first axis; unlike shapes stay a list."""
    whole: dict[str, Array | list[Array]] = {}
    for name in answers[0]:
        pieces = [np.asarray(answer[name]) for answer in answers]
        alike = pieces[0].ndim > 0 and len({piece.shape for piece in pieces}) == 1
        whole[name] = np.concatenate(pieces) if alike else [piece.copy() for piece in pieces]
    return whole


def error_of(wanted: Sequence[Array], given: Sequence[Array]) -> Array:
    """Give the squared error of each sample at one output, as a share of the squared spread of the model's answers.

    Args:
        wanted: the model's answers, one array for each sample.
        given: the others', of the same shapes.

    Returns:
        (n,) float64. The spread is how far the model's answers lie from their mean; where they hardly differ, or are of
        unlike shapes, it is their own length; where that is nothing, any error is all of it.
    """
    moved = np.array([np.square(np.asarray(g, np.float64) - w).sum() for w, g in zip(wanted, given, strict=True)])
    length = np.mean([np.square(np.asarray(w, np.float64)).sum() for w in wanted])
    spread = 0.0
    if len(wanted) > 1 and len({np.shape(w) for w in wanted}) == 1:
        mean = sum(np.asarray(w, np.float64) for w in wanted) / len(wanted)  # one by one: all would be many copies
        spread = float(np.mean([np.square(w - mean).sum() for w in wanted]))
    scale = spread if spread > _ALIKE**2 * length else float(length)
    shares: Array = moved / (scale or float(moved.mean()) or 1.0)
    return shares


def _output_error(wanted: Answers, given: Answers) -> _Loss:
    """Measure at the model's outputs, all alike."""
    every = [error_of([a[name] for a in wanted], [a[name] for a in given]) for name in wanted[0]]
    shares = np.mean(every, axis=0)
    drop = math.sqrt(float(shares.mean()))
    drops = np.sqrt(shares[_drawn(len(shares), RESAMPLES)].mean(axis=1))
    return _Loss(before=None, after=drop, drop=drop, drops=drops, unmoved=False)


def _task_loss(wanted: Answers, given: Answers, places: Array, metric: Metric) -> tuple[_Loss, int]:
    measured = _measurer(metric, places)
    rows = np.arange(len(places))
    before, after = measured(wanted, rows), measured(given, rows)
    if before.shape != after.shape:
        raise QuantizationError(
            f"metric {_name(metric)!r} gave {before.shape} values before and {after.shape} after; give as many for both"
        )
    if before.ndim:
        lost = before - after
        drops = lost[_drawn(len(lost), RESAMPLES)].mean(axis=1)
        loss = _Loss(
            before=float(before.mean()),
            after=float(after.mean()),
            drop=float(lost.mean()),
            drops=drops,
            unmoved=not lost.any(),
        )
        return loss, RESAMPLES
    again = None
    if _takes_places(metric):
        drawn = _drawn(len(places), RESAMPLES_WHOLE)
        again = np.array([float(measured(wanted, rows) - measured(given, rows)) for rows in drawn])
    whole = _Loss(
        before=float(before), after=float(after), drop=float(before - after), drops=again, unmoved=bool(before == after)
    )
    return whole, RESAMPLES_WHOLE


def _measurer(metric: Metric, places: Array) -> Callable[[Answers, Array], Array]:
    """Wrap a metric so that it takes rows of answers, and its faults read as one line."""
    with_places = _takes_places(metric)

    def measure(answers: Answers, rows: Array) -> Array:
        outputs = stacked([answers[row] for row in rows])
        try:
            found = np.asarray(metric(outputs, places[rows]) if with_places else metric(outputs), np.float64)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise QuantizationError(
                f"metric {_name(metric)!r} failed ({one_line(error)}); it is given outputs by name, "
                f"{', '.join(map(repr, outputs))}, stacked over samples; try it on the model's own answers first"
            ) from error
        values: Array = found.reshape(()) if found.size == 1 else found
        if values.shape not in {(), (len(rows),)} or not np.isfinite(values).all():
            raise QuantizationError(
                f"metric {_name(metric)!r} gave {found.dtype.name} {found.shape} for {len(rows)} samples; one finite "
                "number for each sample, or one for all, is needed"
            )
        return values

    return measure


def _takes_places(metric: Metric) -> bool:
    """Say whether a metric takes two arguments: outputs, and the places of their samples."""
    try:
        takes = inspect.signature(metric)
    except (TypeError, ValueError):
        return False  # some functions written in C tell nothing; those take outputs alone
    try:
        takes.bind(None, None)
    except TypeError:
        return False
    named = (entry for entry in takes.parameters.values() if entry.kind is not entry.KEYWORD_ONLY)
    second = next(itertools.islice(named, 1, None), None)
    # A second argument that can be left out is a setting of the metric's own, such as the k of recall@k.
    return second is None or second.default is second.empty or second.name == "places"


def _name(metric: Metric | None) -> str:
    return OUTPUT_ERROR if metric is None else str(getattr(metric, "__name__", type(metric).__name__))


def _drawn(count: int, resamples: int) -> Array:
    rows: Array = np.random.default_rng(_SEED).integers(0, count, (resamples, count))
    return rows


def _reason(loss: _Loss, low: float | None, high: float | None, samples: int, max_drop: float | None) -> str:
    interval = "no interval" if high is None else f"95 % interval {low:z.4f} to {high:z.4f}"
    said = f"lost {loss.drop:z.4f} on {samples} samples ({interval})"
    if loss.unmoved:
        # A loss that befalls this share of samples or more would have been seen with a chance of 95 %.
        unseen = 1 - 0.05 ** (1 / samples)
        said += f"; the same on all of them, yet a loss on up to {unseen:.0%} of others could have been missed"
    if max_drop is None or high is None:
        return said
    if high <= max_drop:
        return f"{said}; accepted: the upper end is no more than max_drop={max_drop}"
    why = "the drop itself" if loss.drop > max_drop else "the upper end of the interval"
    more = "" if loss.drop > max_drop else "; more samples would narrow it"
    return f"{said}; not accepted: {why} is more than max_drop={max_drop}{more}"
