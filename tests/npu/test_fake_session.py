"""The shipped double behaves as a real session does."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from nearsight_npu import Port, Session
from nearsight_npu.errors import InputMismatchError, TargetLostError
from nearsight_npu.testing import FakeSession

ARRAYS = {"x": np.ones((2, 3), np.float32)}
PORT = Port(name="x", dtype="float32", shape=("n", 3))


def test_it_has_what_a_session_has() -> None:
    assert inspect.signature(FakeSession.run) == inspect.signature(Session.run)
    assert inspect.signature(FakeSession.batch) == inspect.signature(Session.batch)
    fake = FakeSession({})
    for name in (
        "inputs",
        "outputs",
        "name",
        "target",
        "precision",
        "model_hash",
        "proof",
        "placement",
        "close",
        "run",
    ):
        assert hasattr(fake, name)


def test_it_answers_with_a_function_and_notes_the_calls() -> None:
    session = FakeSession(lambda arrays: {"y": arrays["x"] * 2, "z": arrays["x"]}, precision="int8")

    outputs, decision = session.run(ARRAYS, outputs=("y",))

    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], 2)
    assert (decision.target, decision.precision) == ("fake", "int8")
    assert decision.measured is not None
    assert decision.measured.bytes_in == 24
    np.testing.assert_array_equal(session.calls[0]["x"], ARRAYS["x"])


def test_it_answers_with_fixed_arrays() -> None:
    session = FakeSession({"y": np.zeros(1)})

    assert session.run(ARRAYS)[0]["y"].shape == (1,)
    assert len(session.calls) == 1


def test_it_checks_arrays_against_its_ports_as_a_session_does() -> None:
    session = FakeSession({"y": np.zeros(1)}, inputs=(PORT,))

    with pytest.raises(InputMismatchError, match="float64"):
        session.run({"x": np.ones((2, 3))})

    assert session.calls == []


@pytest.mark.parametrize("asked", [("z",), (), "y"])
def test_it_refuses_outputs_it_does_not_give(asked: object) -> None:
    with pytest.raises(InputMismatchError, match="this session gives y"):
        FakeSession({"y": np.zeros(1)}).run(ARRAYS, asked)  # type: ignore[arg-type]


def test_it_can_be_closed() -> None:
    with FakeSession({"y": np.zeros(1)}) as session:
        session.run(ARRAYS)

    with pytest.raises(TargetLostError, match="closed"):
        session.run(ARRAYS)
