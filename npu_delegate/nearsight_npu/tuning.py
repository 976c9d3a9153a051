"""Measures: candidates take turns until the quickest is clear, and what was found is remembered for this machine."""

from __future__ import annotations

import math
import os
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nearsight_npu.errors import InputMismatchError, TargetLostError
from nearsight_npu.memory import Memory
from nearsight_npu.placement import Trial, settled, still_racing, typical
from nearsight_npu.policy import Rejected, plain
from nearsight_npu.targets.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nearsight_npu.targets.target import Port, Setup

    Key = TypeVar("Key")

RULES = 2  # raised when candidates are measured or compared in another way, so that earlier choices are made again
FRESH_DAYS = 30.0  # what was measured longer ago is measured again: machines change what else they do
RETRY_DAYS = 1.0  # the same, where something else disturbed the runs, or a target failed that may be well again
FEWEST_ROUNDS, MOST_ROUNDS = 5, 30
BUDGET_S = 0.35  # of one race, beyond its fewest rounds
_PATIENCE = 3.0  # as many times longer a race goes on while a typical run is a tenth slower than the quickest one
# A run as quick as this is timed at its second go, when its own weights have pushed those of others out of the cache.
_QUICK_MS = 10.0
# How long threads of onnxruntime 1.32 that spin go on doing so after a run (measured: 33 ms).
SPINNING_REST_S = 0.05
# What spinning takes from others is looked at over so much of their work: about one run of a model of everyday size.
FOLLOWING_MS = 5.0
_LONGEST_MS = 1000.0  # of a batch that is tried: beyond it nobody waits for the first answer
_LENGTHS = (1, 4, 16, 64, 256)  # of batches that are tried; between them little changes: 2 and 8 are within 5 % of 4
_BATCH_GAIN = 1.03  # a longer batch has to give so many times more in a second
TIMINGS, _BATCHES = "timings", "batches"

MEASURING = threading.Lock()  # one measurement at a time in a process: two would measure each other
if hasattr(os, "register_at_fork"):
    # Whoever measured when a process forked is not there in the child, which would wait for ever.
    os.register_at_fork(after_in_child=lambda: MEASURING.release() if MEASURING.locked() else None)


def race(
    runs: Mapping[Key, Callable[[], object]],
    rests_s: Mapping[Key, float] | None = None,
    *,
    samples: Mapping[Key, int] | None = None,
    budget_s: float = BUDGET_S,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> tuple[dict[Key, tuple[float, ...]], dict[Key, TargetLostError | InputMismatchError]]:
    """Time candidates in turn, round by round, and drop those that cannot win any more.

    Every candidate runs once before the clock is looked at. The order turns from round to round, so that nobody always
    runs behind the same one.

    Args:
        runs: candidate -> one run of it.
        rests_s: candidate -> seconds to wait after its runs, until its threads are asleep.
        samples: candidate -> how many samples one run of it answers, where these differ; times are then for one.
        budget_s: seconds after which no further round begins, or three times as many while something else disturbs the
            runs; the first five are always run.
        clock: tells the time in seconds.
        rest: waits for so many seconds.

    Returns:
        Milliseconds of each timed run (of those dropped as well), and the errors of those that failed.
    """
    times: dict[Key, list[float]] = {}
    failed: dict[Key, TargetLostError | InputMismatchError] = {}

    def turn(key: Key) -> float | None:
        begin = clock()
        try:
            runs[key]()
        except (TargetLostError, InputMismatchError) as error:
            failed[key] = error
            times.pop(key, None)
            return None
        return (clock() - begin) * 1e3 / (samples[key] if samples else 1)

    def rested(key: Key) -> None:
        if rests_s and rests_s.get(key):
            rest(rests_s[key])

    for key in runs:
        if turn(key) is not None:
            times[key] = []
        rested(key)
    begin = clock()
    racing: Sequence[Key] = tuple(times)
    for number in range(MOST_ROUNDS):
        if number >= FEWEST_ROUNDS:
            patience = 1.0 if all(settled(times[key]) for key in racing) else _PATIENCE
            if len(racing) < 2 or clock() - begin >= patience * budget_s:
                break
        first = number % max(len(racing), 1)
        for key in (*racing[first:], *racing[:first]):
            taken = turn(key)
            if taken is not None and taken < _QUICK_MS:
                taken = turn(key)
            if taken is not None:
                times[key].append(taken)
            rested(key)
        # Of all: where the leader turns out to have been lucky, others come back.
        racing = still_racing(times)
    return {key: tuple(found) for key, found in times.items()}, failed


def toll_of(
    run: Callable[[], object],
    following: Callable[[], object],
    quiet: Callable[[], object],
    times: int = 1,
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> float:
    """Measure what a run takes from those after it, since its threads go on spinning.

    With onnxruntime 1.32 on two processors nano's picture encoder gains .5 ms by spinning, and the detector after it
    loses 1.6.

    Args:
        run: the run whose threads spin.
        following: another run, of threads that sleep.
        quiet: a third one of threads that sleep, to run in the first one's place.
        times: how often the second one runs.
        clock: tells the time in seconds.
        rest: waits for so many seconds.

    Returns:
        Milliseconds, from 0.
    """
    after: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(FEWEST_ROUNDS):
        for spun, first in ((False, quiet), (True, run)):
            rest(SPINNING_REST_S)
            first()
            begin = clock()
            for _ in range(times):
                following()
            after[spun].append((clock() - begin) * 1e3)
    rest(SPINNING_REST_S)
    return max(0.0, typical(after[True]) - typical(after[False]))


def processors() -> int:
    """Count the processors that this process may keep busy."""
    found = Machine().processors()
    if found is None:
        return os.cpu_count() or 1
    return max(1, min(found.usable, math.ceil(found.quota or found.usable)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceKey:
    """What a choice holds for; a change in any of it asks for a new measurement.

    Attributes:
        files: (precision, SHA-256 of the file and of the weights beside it), in the order of preference.
        golden_hash: SHA-256 of the golden set; empty without one.
        targets: target -> the libraries, drivers and chips its answers and times depend on.
        threads: how many threads were asked for; None leaves that open.
        tuned: whether setups were open, too.
        strict: whether operators outside a target were refused.
        memory_mb: megabytes that models may fill; None without a limit.
        processors: how many processors may be kept busy.
        processor: which.
    """

    files: tuple[tuple[str, str], ...]
    golden_hash: str
    targets: Mapping[str, Mapping[str, str]]
    threads: int | None
    tuned: bool
    strict: bool
    memory_mb: float | None
    processors: int
    processor: str

    def text(self) -> str:
        """Write all of it in one line, to be remembered by."""
        targets = [(name, sorted(versions.items())) for name, versions in self.targets.items()]
        rest = (self.threads, self.tuned, self.strict, self.memory_mb, self.processors, self.processor)
        return repr((RULES, self.files, self.golden_hash, targets, *rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was measured for one model on this machine.

    Attributes:
        name: what the caller calls the model.
        files: precision -> (SHA-256 of the file, its megabytes).
        trials: the best setup of each file on each target that may run it, the best choice first.
        setups: every setup that was timed, those that were dropped early as well.
        refused: what may not run, with the reasons.
        told: places in `refused` that a warning speaks of.
        measured_at: when, as ISO 8601 in UTC.
        doubtful: whether it may look different soon: something disturbed the runs, or a target failed.
    """

    name: str
    files: Mapping[str, tuple[str, float]]
    trials: tuple[Trial, ...]
    setups: tuple[Trial, ...]
    refused: tuple[Rejected, ...] = ()
    told: tuple[int, ...] = ()
    measured_at: str = ""
    doubtful: bool = False

    def __str__(self) -> str:
        taken, *others = [f"{trial}{_pace(trial)}" for trial in self.trials] or ["nothing"]
        refused = (f"{one.precision or 'anything'} on {one.target} ({one.reason})" for one in self.refused)
        doubt = "; too close or too disturbed to be sure: measured again after a day" if self.doubtful else ""
        return (
            f"{self.name}: {taken}{_listed('; not taken: ', others)}{_listed('; refused: ', refused)} "
            f"({self.measured_at[:16]}{doubt})"
        )

    def to_dict(self) -> dict[str, object]:
        """Give the same as nested dictionaries and lists that `json.dumps` takes."""
        return {
            "name": self.name,
            "files": {precision: [*facts] for precision, facts in self.files.items()},
            "trials": [trial.to_dict() for trial in self.trials],
            "setups": [trial.to_dict() for trial in self.setups],
            "refused": plain(self.refused),
            "told": [*self.told],
            "measured_at": self.measured_at,
            "doubtful": self.doubtful,
        }

    @classmethod
    def from_dict(cls, values: object) -> Choice | None:
        """Read back what `to_dict` gave; None for anything else."""
        if not isinstance(values, dict):
            return None
        try:
            trials, setups = ([Trial.from_dict(one) for one in values[name]] for name in ("trials", "setups"))
            return cls(
                name=str(values["name"]),
                files={str(name): (str(digest), float(size)) for name, (digest, size) in values["files"].items()},
                trials=tuple(trial for trial in trials if trial is not None),
                setups=tuple(trial for trial in setups if trial is not None),
                refused=tuple(Rejected(**one) for one in values["refused"]),
                told=tuple(int(place) for place in values["told"]),
                measured_at=datetime.fromisoformat(values["measured_at"]).astimezone(UTC).isoformat(timespec="seconds"),
                doubtful=values.get("doubtful") is True,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None


def _pace(trial: Trial) -> str:
    return f", {trial.latency_ms:.2f} ms" if trial.times_ms else ""


def _listed(head: str, words: Iterable[str]) -> str:
    """Join some words behind a head; nothing where there are none."""
    joined = "; ".join(words)
    return f"{head}{joined}" if joined else ""


def now() -> str:
    """Give the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def recalled(key: ChoiceKey, memory: Memory) -> Choice | None:
    """Give the earlier choice for exactly this key, unless it is old."""
    entry = memory.read(TIMINGS, key.text())
    kept = entry is not None and entry.get("key") == key.text()
    choice = Choice.from_dict(entry.get("choice")) if entry and kept else _UNKEPT.get(key.text())
    if choice is None or not choice.trials:
        return None
    if any(trial.target not in key.targets or trial.precision not in dict(key.files) for trial in choice.trials):
        return None
    age = datetime.now(UTC) - datetime.fromisoformat(choice.measured_at)
    return choice if timedelta() <= age < timedelta(days=RETRY_DAYS if choice.doubtful else FRESH_DAYS) else None


def remember(key: ChoiceKey, choice: Choice, memory: Memory) -> None:
    """Keep a choice; where nothing can be written, for as long as this process lives."""
    if memory.write(TIMINGS, key.text(), {"key": key.text(), "choice": choice.to_dict()}) is not None:
        _UNKEPT[key.text()] = choice


_UNKEPT: dict[str, Choice] = {}


def remembered_choices(cache_dir: str | os.PathLike[str] | None = None) -> tuple[Choice, ...]:
    """Give every choice that this machine remembers, the oldest first; damaged ones are left out.

    Args:
        cache_dir: where choices are remembered; None is the user's cache folder.
    """
    read = (Choice.from_dict(entry.get("choice")) for entry in Memory(cache_dir).all(TIMINGS))
    return tuple(sorted((choice for choice in read if choice is not None), key=lambda choice: choice.measured_at))


def batchable(ports: Sequence[Port]) -> bool:
    """Say whether a graph takes and gives batches of any length: the first axis of all its arrays is free."""
    return bool(ports) and all(port.shape and not isinstance(port.shape[0], int) for port in ports)


def best_batch(run: Callable[[int], object], limit: int, *, clock: Callable[[], float] = time.perf_counter) -> int:
    """Find the batch that gives the most in a second, among 1, 4, 16 and so on, and the limit.

    Args:
        run: runs a batch of so many samples.
        limit: the longest batch, from 1.
        clock: tells the time in seconds.

    Returns:
        The shortest batch that gives as much as the best one, but for 3 %; none that would take more than a second is
        tried.

    Raises:
        TargetLostError: if not even single samples can be run.
    """
    begin = clock()
    run(1)
    each_ms = (clock() - begin) * 1e3
    tried = (*(length for length in _LENGTHS if length < limit), limit)
    lengths = {length: length for length in tried if length == 1 or length * each_ms <= _LONGEST_MS}
    times, failed = race({length: partial(run, length) for length in lengths}, samples=lengths, clock=clock)
    if 1 in failed:
        raise failed[1]
    enough = _BATCH_GAIN * min(typical(found) for found in times.values())
    return next(length for length in times if typical(times[length]) <= enough)


def batch_recalled(key: str, memory: Memory) -> int | None:
    """Give the batch that was found earlier for a key, which holds all that it depends on."""
    entry = memory.read(_BATCHES, key)
    length = entry.get("batch") if entry is not None and entry.get("key") == key else None
    return length if isinstance(length, int) and length > 0 else None


def batch_remembered(key: str, find: Callable[[], int], memory: Memory) -> int:
    """Find the batch for a key and remember it, unless others did so while this waited for its turn to measure.

    Args:
        key: all that it depends on.
        find: measures it.
        memory: where it is kept.
    """
    with MEASURING, memory.alone(TIMINGS):
        length = batch_recalled(key, memory)
        if length is None:
            length = find()
            memory.write(_BATCHES, key, {"key": key, "batch": length})
    return length


def rest_after(setup: Setup | None) -> float:
    """Give the seconds until the threads of a setup are asleep."""
    return SPINNING_REST_S if setup is not None and setup.spinning else 0.0
