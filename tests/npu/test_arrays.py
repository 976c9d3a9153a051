"""The one check of arrays, and the messages it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight_npu.arrays import admitted, drawn, shaped
from nearsight_npu.errors import InputMismatchError
from nearsight_npu.targets.target import Port


def test_an_array_that_fits_comes_back_itself() -> None:
    array = np.zeros((2, 4, 4, 3), np.uint8)

    assert shaped(array, "n side side 3", "uint8") is array


@given(st.lists(st.integers(0, 5), max_size=4))
def test_every_shape_fits_its_own_lengths_and_any_names(lengths: list[int]) -> None:
    array = np.zeros(lengths, np.float32)

    assert shaped(array, " ".join(map(str, lengths)), "float32") is array
    assert shaped(array, " ".join("abcd"[: len(lengths)]), "float32") is array
    assert shaped(array, " ".join("?" * len(lengths)), "float32") is array


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.data())
def test_no_shape_fits_another_length(lengths: list[int], data: st.DataObject) -> None:
    other = list(lengths)
    other[data.draw(st.integers(0, len(lengths) - 1))] += 1

    with pytest.raises(InputMismatchError):
        shaped(np.zeros(lengths, np.float32), " ".join(map(str, other)), "float32")


@pytest.mark.parametrize(
    ("array", "axes", "dtype", "said"),
    [
        (np.zeros((2, 3)), "n 3", "float32", "pixels is float64 (2, 3); float32 (n, 3) is needed"),
        (np.zeros((2, 3), np.float32), "n 4", "float32", "pixels is float32 (2, 3); float32 (n, 4) is needed"),
        (np.zeros((2, 3), np.float32), "n n", "float32", "pixels is float32 (2, 3); float32 (n, n) is needed"),
        (np.float32(1), "n", "float32", "pixels is float32 (); float32 (n) is needed"),
        ("a dog", "n", "float32", "pixels is str"),
        (None, "n", "float32", "pixels is object ()"),
    ],
)
def test_a_message_says_what_came_and_what_is_needed(array: Any, axes: str, dtype: str, said: str) -> None:
    with pytest.raises(InputMismatchError) as error:
        shaped(array, axes, dtype, name="pixels")

    assert str(error.value).startswith(said)
    assert "convert it first" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [np.zeros((1, 3), np.float32), [1.0], None])
def test_arrays_without_their_names_are_refused_with_the_call_that_is_right(given: Any) -> None:
    with pytest.raises(InputMismatchError, match=rf"a bare {type(given).__name__} was given; .*; call run\({{'x': "):
        admitted(given, [Port(name="x", dtype="float32", shape=("n", 3))])


def test_several_arrays_may_have_to_agree() -> None:
    lengths: dict[str, int] = {}
    shaped(np.zeros((2, 3)), "n d", "float64", lengths=lengths)
    shaped(np.zeros((5, 3)), "k d", "float64", lengths=lengths)

    with pytest.raises(InputMismatchError, match="with n = 2"):
        shaped(np.zeros(4), "n", "float64", lengths=lengths)

    assert lengths == {"n": 2, "d": 3, "k": 5}


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i8", "<i8"])
def test_numbers_of_either_byte_order_reach_the_graph_as_what_they_are(dtype: str) -> None:
    given = np.arange(6, dtype=dtype).reshape(2, 3)

    (found,) = admitted({"x": given}, [Port(name="x", dtype=given.dtype.name, shape=("n", 3))]).values()

    assert found.dtype == np.dtype(given.dtype.name)
    np.testing.assert_array_equal(found, given)


PORTS = st.lists(
    st.builds(
        Port,
        name=st.just("x"),
        dtype=st.sampled_from(("float32", "float16", "uint8", "int64", "bool")),
        shape=st.lists(st.one_of(st.integers(1, 4), st.sampled_from(("n", "side", "?"))), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=1,
)


@given(PORTS, st.integers(0, 3))
def test_inputs_that_are_drawn_fit_the_graph_and_are_the_same_every_time(ports: list[Port], count: int) -> None:
    found, again = list(drawn(ports, count)), list(drawn(ports, count))

    assert len(found) == count
    for arrays, same in zip(found, again, strict=True):
        (array,) = admitted(arrays, ports).values()
        np.testing.assert_array_equal(array, same["x"])
        assert np.isfinite(array).all()
