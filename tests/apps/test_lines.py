"""What crosses a line is counted once, in the right direction; what trembles, or goes around the end, is not."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nearsight_apps.smart_city.lines import BAND, Counter, Line

SIZE_WH = (200, 100)
SIDE = 20
BAND_PX = BAND * SIDE


def line(start=(0.0, 0.5), end=(1.0, 0.5), point="centre") -> Line:
    return Line(name="a", start=start, end=end, labels=("car",), point=point)


def walked(counter: Counter, places, number=1) -> list[str]:
    """Move a 20 x 20 box's centre through places given in pixels."""
    half = SIDE / 2
    steps = (counter.step(number, (x - half, y - half, x + half, y + half), SIZE_WH) for x, y in places)
    return [direction for direction in steps if direction is not None]


@pytest.mark.parametrize(
    ("start", "end", "way", "direction"),
    [
        ((0, 0.5), (1, 0.5), [(100, 20), (100, 80)], "in"),
        ((0, 0.5), (1, 0.5), [(100, 80), (100, 20)], "out"),
        ((1, 0.5), (0, 0.5), [(100, 80), (100, 20)], "in"),
        ((0.5, 0), (0.5, 1), [(20, 50), (180, 50)], "out"),
        ((0.5, 0), (0.5, 1), [(180, 50), (20, 50)], "in"),
        ((0.5, 1), (0.5, 0), [(20, 50), (180, 50)], "in"),
    ],
)
def test_from_the_left_hand_to_the_right_hand_is_in(start, end, way, direction) -> None:
    assert walked(Counter(line=line(start, end)), way) == [direction]


def test_there_and_back_is_one_in_and_one_out() -> None:
    there = [(100, y) for y in range(20, 81, 4)]

    assert walked(Counter(line=line()), there + there[::-1]) == ["in", "out"]


def test_the_band_is_a_tenth_of_the_shorter_side_on_each_side_of_the_line() -> None:
    assert walked(Counter(line=line()), [(100, 20), (100, 51.9), (100, 48.1), (100, 51.9)]) == []
    assert walked(Counter(line=line()), [(100, 20), (100, 52.1), (100, 48.1), (100, 52.1), (100, 47.9)]) == [
        "in",
        "out",
    ]


def test_going_around_the_end_is_not_crossing() -> None:
    short = Counter(line=line((0.0, 0.5), (0.4, 0.5)))

    assert walked(short, [(40, 20), (120, 20), (120, 80), (40, 80)]) == []
    assert walked(short, [(40, 20)], number=2) == []
    assert walked(short, [(40, 80)], number=2) == ["in"]


def test_a_thing_first_seen_on_the_line_is_not_counted_for_leaving_it() -> None:
    assert walked(Counter(line=line()), [(100, 50), (100, 51), (100, 80)]) == []


def test_a_gap_in_sight_does_not_hide_a_crossing() -> None:
    assert walked(Counter(line=line()), [(60, 10), (140, 90)]) == ["in"]


def test_the_foot_of_a_box_may_be_watched_instead_of_its_centre() -> None:
    centre, foot = Counter(line=line()), Counter(line=line(point="foot"))
    way = [(100, 30), (100, 45)]

    assert (walked(centre, way), walked(foot, way)) == ([], ["in"])


def test_two_things_are_counted_apart() -> None:
    counter = Counter(line=line())

    assert walked(counter, [(100, 20)], 1) + walked(counter, [(100, 80)], 2) == []
    assert walked(counter, [(100, 80)], 1) + walked(counter, [(100, 20)], 2) == ["in", "out"]


def test_a_forgotten_track_starts_anew() -> None:
    counter = Counter(line=line())
    walked(counter, [(100, 20)])
    counter.forget(set())

    assert walked(counter, [(100, 80)]) == []


@given(st.floats(-1, 1), st.lists(st.floats(-0.99, 0.99), max_size=60))
def test_trembling_within_the_band_never_counts(place, trembles) -> None:
    """The true place is anywhere in the band; what is seen lies off by less than half of the band."""
    places = [(100, 50 + BAND_PX * np.clip(place / 2 + tremble / 2, -1, 1)) for tremble in trembles]

    assert walked(Counter(line=line()), [(100, 20), *places]) == []


@given(st.lists(st.tuples(st.floats(5, 195), st.floats(5, 95)), min_size=1, max_size=40))
def test_over_an_endless_line_directions_alternate_and_end_on_the_side_where_the_thing_is(places) -> None:
    told = walked(Counter(line=line((0.0, 0.5), (1.0, 0.5))), places)

    assert all(one != other for one, other in pairwise(told))
    clear = [y for _, y in places if abs(y - 50) > BAND_PX]
    if clear:
        changed = (clear[0] > 50) != (clear[-1] > 50)
        assert len(told) % 2 == changed
        assert not told or (told[-1] == "in") == (clear[-1] > 50)


@given(
    st.lists(st.tuples(st.floats(5, 195), st.floats(5, 95)), min_size=2, max_size=20),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_line_drawn_the_other_way_swaps_the_directions(places, start, end) -> None:
    assume(np.hypot(*np.subtract(start, end)) > 0.05)
    swap = {"in": "out", "out": "in"}

    there = walked(Counter(line=line(start, end)), places)
    back = walked(Counter(line=line(end, start)), places)

    assert [swap[direction] for direction in there] == back


@given(st.lists(st.tuples(st.floats(5, 195), st.floats(5, 95)), min_size=1, max_size=20), st.integers(0, 19))
def test_a_counter_restored_from_json_goes_on(places, cut) -> None:
    whole, first, second = (Counter(line=line()) for _ in range(3))
    expected = walked(whole, places)

    told = walked(first, places[:cut])
    second.restore(json.loads(json.dumps(first.state())))

    assert told + walked(second, places[cut:]) == expected
