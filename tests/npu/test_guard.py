"""A guarded program: one thread for everything, a deadline on every call, and nobody waits for a target that hangs."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import helper

from nearsight_npu.errors import InputMismatchError, TargetLostError, UnplaceableError
from nearsight_npu.targets.cpu import CpuTarget
from nearsight_npu.targets.guard import Guarded
from nearsight_npu.targets.target import Placement, Port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENT_S = 60.0  # a deadline that nothing here comes near
SHORT_S = 0.2  # a deadline that is waited for
X = Port(name="x", dtype="float32", shape=("n",))


class Doubling:
    """A program that gives 2 x, notes the thread of all that happens to it, and hangs on NaN until it is let go."""

    inputs = (X,)
    outputs = (Port(name="y", dtype="float32", shape=("n",)),)
    placement = Placement(parts=(("Doubler", 1),))

    def __init__(self, threads: list[int] | None = None, go: threading.Event | None = None) -> None:
        self.threads = [] if threads is None else threads
        self.begun = threading.Event()
        self.go = go or threading.Event()
        self.threads.append(threading.get_ident())

    def run(self, arrays: dict[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        self.threads.append(threading.get_ident())
        x = arrays["x"]
        if np.isnan(x).any():
            self.begun.set()
            self.go.wait()
        if (x < 0).any():
            raise InputMismatchError(f"{x.min():g} was given; numbers from 0; give such")
        return dict.fromkeys(outputs, x * 2)

    def __del__(self) -> None:
        self.threads.append(threading.get_ident())


def floats(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array(values, np.float32)}


HANG = floats(float("nan"))


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """Let every hanging call go at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def hung(go: threading.Event, deadline_s: float = SHORT_S) -> Guarded:
    guarded = Guarded(lambda: Doubling(go=go), deadline_s, "doubling.onnx on npu")
    with pytest.raises(TargetLostError):
        guarded.run(HANG, ("y",))
    return guarded


def thread_of(guarded: Guarded) -> threading.Thread:
    name = f"nearsight: {guarded._what}"
    return next(thread for thread in threading.enumerate() if thread.name == name)


def test_a_guarded_program_answers_as_the_program_does(saved: Callable[..., Path]) -> None:
    path = saved([helper.make_node("Add", ["x", "x"], ["y"])], [("x", "float32", ["n"])], [("y", "float32", ["n"])], {})
    plain = CpuTarget().compile(path)

    guarded = Guarded(lambda: CpuTarget().compile(path), PATIENT_S, "model.onnx on cpu")

    assert (guarded.inputs, guarded.outputs, guarded.placement) == (plain.inputs, plain.outputs, plain.placement)
    np.testing.assert_array_equal(guarded.run(floats(1, 2.5), ("y",))["y"], plain.run(floats(1, 2.5), ("y",))["y"])
    guarded.close()


def test_making_running_and_freeing_happen_in_one_thread_of_its_own() -> None:
    threads: list[int] = []
    guarded = Guarded(lambda: Doubling(threads), PATIENT_S, "doubling.onnx on npu")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda value: guarded.run(floats(value), ("y",))["y"].item(), range(40)))
    guarded.close()

    assert answers == [2 * value for value in range(40)]
    assert len(threads) == 1 + 40 + 1
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_an_exception_reaches_the_caller_as_it_was_raised() -> None:
    guarded = Guarded(Doubling, PATIENT_S, "doubling.onnx on npu")

    with pytest.raises(InputMismatchError, match=r"^-3 was given; numbers from 0; give such$"):
        guarded.run(floats(1, -3), ("y",))

    assert guarded.run(floats(1), ("y",))["y"] == [2]
    guarded.close()


def test_what_cannot_be_made_raises_what_its_maker_raised_and_leaves_no_thread() -> None:
    fault = UnplaceableError("doubling.onnx was to run on npu; it has no doubler; use target='cpu'")

    def make() -> Doubling:
        raise fault

    with pytest.raises(UnplaceableError) as error:
        Guarded(make, PATIENT_S, "doubling.onnx on npu")

    assert error.value is fault
    left = [thread for thread in threading.enumerate() if thread.name == "nearsight: doubling.onnx on npu"]
    for thread in left:
        thread.join(PATIENT_S)
    assert not any(thread.is_alive() for thread in left)


def test_a_call_that_hangs_is_abandoned_at_its_deadline_and_the_error_says_so(go: threading.Event) -> None:
    guarded = Guarded(lambda: Doubling(go=go), SHORT_S, "doubling.onnx on npu")

    with pytest.raises(TargetLostError) as error:
        guarded.run(HANG, ("y",))

    assert not go.is_set()  # it still hangs
    assert str(error.value) == (
        "doubling.onnx on npu gave no answer within the deadline of 0.2 s, and was abandoned; "
        "load it again, or use another target"
    )


def test_every_later_call_of_an_abandoned_program_raises_at_once(go: threading.Event) -> None:
    guarded = hung(go)
    guarded._deadline_s = threading.TIMEOUT_MAX  # whoever waits for it now waits for ever

    for _ in range(3):
        with pytest.raises(TargetLostError, match=r"an earlier call .* 0\.2 s, and was abandoned; load it again"):
            guarded.run(floats(1), ("y",))
    guarded.close()

    assert not go.is_set()


def test_those_that_wait_behind_a_call_that_hangs_are_released_with_it(go: threading.Event) -> None:
    made: list[Doubling] = []

    def make() -> Doubling:
        made.append(Doubling(go=go))
        return made[0]

    guarded = Guarded(make, 1.0, "doubling.onnx on npu")
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(guarded.run, HANG, ("y",))
        made[0].begun.wait()
        rest = [pool.submit(guarded.run, floats(1), ("y",)) for _ in range(4)]

        errors = [future.exception(PATIENT_S) for future in (first, *rest)]

    assert not go.is_set()
    assert all(isinstance(error, TargetLostError) for error in errors)
    assert made[0].threads[1:] == made[0].threads[:1]  # only the first one ever ran


def test_waiting_for_others_does_not_count_against_the_deadline() -> None:
    class Slow(Doubling):
        def run(self, arrays: dict[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
            time.sleep(0.3)
            return super().run(arrays, outputs)

    guarded = Guarded(Slow, 1.2, "doubling.onnx on npu")
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda value: guarded.run(floats(value), ("y",))["y"].item(), range(5)))

    assert answers == [0, 2, 4, 6, 8]
    guarded.close()


def test_a_program_that_is_not_made_before_the_deadline_is_abandoned(go: threading.Event) -> None:
    threads: list[int] = []

    def make() -> Doubling:
        go.wait()
        return Doubling(threads)

    with pytest.raises(TargetLostError, match=r"^doubling.onnx on npu gave no answer within the deadline of 0.2 s"):
        Guarded(make, SHORT_S, "doubling.onnx on npu")

    thread = next(thread for thread in threading.enumerate() if thread.name == "nearsight: doubling.onnx on npu")
    go.set()
    thread.join(PATIENT_S)
    assert not thread.is_alive()
    assert threads == [thread.ident] * 2  # made after all, and freed at once


def test_when_a_call_that_hung_ends_after_all_its_thread_ends_and_the_program_is_freed(go: threading.Event) -> None:
    guarded = hung(go)
    thread = thread_of(guarded)

    go.set()
    thread.join(PATIENT_S)

    assert not thread.is_alive()
    assert guarded._programs == []


@pytest.mark.parametrize("way", ["closed", "forgotten"])
def test_a_program_that_is_closed_or_forgotten_is_freed_and_its_thread_ends(way: str) -> None:
    threads: list[int] = []
    guarded = Guarded(lambda: Doubling(threads), PATIENT_S, "doubling.onnx on npu")
    guarded.run(floats(1), ("y",))
    thread, seen = thread_of(guarded), weakref.ref(guarded)

    if way == "closed":
        guarded.close()
        guarded.close()
        with pytest.raises(TargetLostError, match="closed; load it again"):
            guarded.run(floats(1), ("y",))
    else:
        del guarded
        gc.collect()
        assert seen() is None

    thread.join(PATIENT_S)
    assert not thread.is_alive()
    assert threads == [thread.ident] * 3


def test_while_nobody_calls_no_array_is_kept() -> None:
    guarded = Guarded(Doubling, PATIENT_S, "doubling.onnx on npu")
    array = np.ones(4, np.float32)
    seen = weakref.ref(array)

    answer = guarded.run({"x": array}, ("y",))["y"]
    answers = weakref.ref(answer)
    del array, answer
    deadline = time.monotonic() + PATIENT_S
    while (seen() is not None or answers() is not None) and time.monotonic() < deadline:
        time.sleep(0.01)  # the thread may still be putting the call away

    assert seen() is None
    assert answers() is None
    guarded.close()


def test_the_rest_of_an_interrupted_call_does_not_count_against_the_next_ones_deadline(go: threading.Event) -> None:
    made: list[Doubling] = []

    class Slow(Doubling):
        def run(self, arrays: dict[str, np.ndarray], outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
            if arrays["x"][0] == 3:
                time.sleep(1.2)
            return super().run(arrays, outputs)

    def make() -> Doubling:
        made.append(Slow(go=go))
        return made[0]

    guarded = Guarded(make, 2.0, "doubling.onnx on npu")

    def press_ctrl_c() -> None:
        made[0].begun.wait()
        time.sleep(0.2)  # by now the caller waits
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    presser = threading.Thread(target=press_ctrl_c)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        guarded.run(HANG, ("y",))
    presser.join()
    threading.Timer(1.2, go.set).start()

    assert guarded.run(floats(3), ("y",))["y"] == [6]
    guarded.close()


@pytest.mark.parametrize("call", ["hangs", "ends"])
def test_a_process_ends_though_a_guarded_program_is_still_there(call: str) -> None:
    code = f"""
import time
from nearsight_npu.errors import TargetLostError
from nearsight_npu.targets.guard import Guarded
from nearsight_npu.targets.target import Placement

class Sleeper:
    inputs = outputs = ()
    placement = Placement()
    def run(self, arrays, outputs):
        time.sleep(3600 if {call == "hangs"} else 0)
        return {{}}

guarded = Guarded(Sleeper, .5, "sleeper.onnx on npu")
try:
    guarded.run({{}}, ())
except TargetLostError as error:
    print(error)
print("end")
"""

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] == "end"
    assert ("abandoned" in ended.stdout) == (call == "hangs")


@pytest.mark.trials
def test_whatever_calls_do_answers_are_right_and_nothing_follows_a_loss(
    trials: int, soak: Callable[[str, dict[str, object]], None]
) -> None:
    counts = {"programs": trials, "right": 0, "refused": 0, "lost": 0}
    for seed in range(trials):
        draw = np.random.default_rng(seed)
        values = draw.choice([np.nan, -1.0, *range(1, 12)], 12, p=[0.05, *[0.95 / 12] * 12])
        go = threading.Event()
        guarded = Guarded(lambda go=go: Doubling(go=go), SHORT_S, "doubling.onnx on npu")
        lost = threading.Event()

        def call(value: float, guarded: Guarded = guarded, lost: threading.Event = lost) -> str:
            late = lost.is_set()
            try:
                answer = guarded.run(floats(value), ("y",))["y"].item()
            except InputMismatchError:
                assert value == -1
                assert not late
                return "refused"
            except TargetLostError:
                lost.set()
                return "lost"
            assert answer == 2 * value
            assert not late
            return "right"

        with ThreadPoolExecutor(3) as pool:
            for outcome in pool.map(call, values):
                counts[outcome] += 1
        go.set()
        guarded.close()

    soak("guard", counts)
    assert counts["right"] + counts["refused"] + counts["lost"] == 12 * trials
    assert min(counts.values()) > 0
