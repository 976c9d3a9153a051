"""Which file, target and setup is best, and why the others were not taken: arithmetic on measured times, no effects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from nearsight_npu.policy import Rejected, plain
from nearsight_npu.targets.target import Setup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Key = TypeVar("Key")

# Setups are tried for a file on a target that is at most this much slower than the quickest one in its default setup.
WITHIN_REACH = 1.25
# On a machine with four busy processes a core, a run of 2 ms took 40 to 360 in two runs of three (measured).
_FEWEST_RUNS, _LONG_MS = 3, 350.0
_OFTEN = 5
LONGEST_BATCH = 32  # that is looked at where nobody says how many samples there will be


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One file on one target in one setup, and what its runs took.

    Attributes:
        target: the target.
        precision: the variant of the model.
        setup: how its runs use the processor; None where the target has no setups.
        times_ms: milliseconds of each timed run; empty where it could not be timed.
        toll_ms: milliseconds that a run takes from what runs after it, of whichever model: threads that spin do not let
            go of their cores at once.
    """

    target: str
    precision: str
    setup: Setup | None = None
    times_ms: tuple[float, ...] = ()
    toll_ms: float = 0.0

    @property
    def pair(self) -> tuple[str, str]:
        """The target and the precision."""
        return self.target, self.precision

    @property
    def latency_ms(self) -> float:
        """Milliseconds of a typical undisturbed run: the lower quartile; infinite where nothing was timed."""
        return typical(self.times_ms)

    @property
    def cost(self) -> float:
        """What choices are compared by: milliseconds of a run, and those that it takes from the next."""
        return self.latency_ms + self.toll_ms

    @property
    def spins(self) -> bool:
        """Whether its threads stay awake after a run."""
        return self.setup is not None and self.setup.spinning

    @property
    def untimed(self) -> Trial:
        """The same without what was measured."""
        return replace(self, times_ms=(), toll_ms=0.0)

    def __str__(self) -> str:
        return f"{self.precision} on {self.target}{f' with {self.setup}' if self.setup else ''}"

    def to_dict(self) -> dict[str, object]:
        """Give the same as a dictionary that `json.dumps` takes."""
        return {
            "target": self.target,
            "precision": self.precision,
            "setup": plain(self.setup),
            "times_ms": [*self.times_ms],
            "toll_ms": self.toll_ms,
        }

    @classmethod
    def from_dict(cls, values: Any) -> Trial | None:
        """Read back what `to_dict` gave; None for anything else."""
        try:
            setup, times = values["setup"], values["times_ms"]
            return cls(
                target=str(values["target"]),
                precision=str(values["precision"]),
                setup=None if setup is None else _setup(**setup),
                times_ms=tuple(float(time) for time in times),
                toll_ms=float(values["toll_ms"]),
            )
        except (KeyError, TypeError, ValueError):
            return None


def _setup(threads: object, spinning: object) -> Setup:
    if not isinstance(spinning, bool) or not (threads is None or (isinstance(threads, int) and threads > 0)):
        raise TypeError(f"{threads!r} threads, spinning={spinning!r}")
    return Setup(threads=threads, spinning=spinning)


def typical(times_ms: Sequence[float]) -> float:
    """Give the lower quartile: what a run takes when nothing else wanted the processor; infinite for no times."""
    return sorted(times_ms)[(len(times_ms) - 1) // 4] if times_ms else inf


def settled(times_ms: Sequence[float]) -> bool:
    """Say whether a typical run takes no more than a tenth longer than the quickest, so that few of them tell."""
    return bool(times_ms) and typical(times_ms) <= 1.1 * min(times_ms)


def still_racing(times_ms: Mapping[Key, Sequence[float]]) -> tuple[Key, ...]:
    """Say who may still turn out to be the quickest.

    After k runs each, those are dropped whose quickest run is slower than 1 + 2 / k times a typical run of the leader:
    a third slower after six. Nobody is dropped before three runs, of which one may well have been undisturbed, but for
    those whose runs take so long that they are not worth the wait: three times as long as the leader's.

    Args:
        times_ms: candidate -> its times so far.

    Returns:
        Those left, in the order given; the leader is always among them.
    """
    if not times_ms:
        return ()
    lead = min(typical(times) for times in times_ms.values())
    return tuple(
        key
        for key, times in times_ms.items()
        if not times
        or (len(times) < _FEWEST_RUNS and min(times) < _LONG_MS)
        or min(times) <= lead * (1 + 2 / len(times))
    )


def ranked(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Give the best setup of each file on each target, the cheapest first; those that tie keep their order."""
    best: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        if trial.pair not in best or trial.cost < best[trial.pair].cost:
            best[trial.pair] = trial
    return tuple(sorted(best.values(), key=lambda trial: trial.cost))


def clear(trials: Iterable[Trial]) -> bool:
    """Say whether the best of some trials is beyond doubt: timed often, and nobody else ever ran a tenth quicker."""
    timed = [trial for trial in trials if trial.times_ms]
    if not timed:
        return True
    best = min(timed, key=lambda trial: trial.cost)
    quickest = min(replace(trial, times_ms=(min(trial.times_ms),)).cost for trial in timed)
    return len(best.times_ms) >= _OFTEN and best.cost <= 1.1 * quickest


def worth_setting_up(trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Give those whose other setups might make them the quickest."""
    order = ranked(trials)
    return tuple(trial for trial in order if trial.cost <= WITHIN_REACH * order[0].cost)


def slower(order: Sequence[Trial], taken: Trial) -> tuple[Rejected, ...]:
    """Say of every other file and target that could run what it took."""
    return tuple(
        Rejected(
            target=trial.target,
            precision=trial.precision,
            reason=f"{_short(trial, taken)}: {trial.latency_ms:.3g} ms"
            f"{f' with {trial.setup}' if trial.setup else ''}, where {taken.precision} on {taken.target} took "
            f"{taken.latency_ms:.3g} ms",
            latency_ms=trial.latency_ms,
        )
        for trial in order
        if trial.pair != taken.pair and trial.times_ms and taken.times_ms
    )


def _short(trial: Trial, taken: Trial) -> str:
    if trial.latency_ms >= taken.latency_ms:
        return "slower"
    return f"quicker by itself, but its spinning threads take {trial.toll_ms:.3g} ms from the next run"
