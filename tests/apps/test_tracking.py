"""Things keep their number while they move, cross and vanish for a moment; pure."""

from __future__ import annotations

import json
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene import Mover

from nearsight_apps.smart_city.assignment import likeness, matched
from nearsight_apps.smart_city.tracking import Found, Tracker

STEP_S = 0.1
boxes = st.tuples(
    st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 60), st.floats(1, 60)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))  # fmt: skip


def found(box, label="car", score=0.9) -> Found:
    return Found(box_xyxy=tuple(map(float, box)), score=score, label=label)


def followed(movers, frames, tracker=None, *, hidden=lambda mover, frame: False, jitter=0.0, seed=0):
    """Run a tracker over movers; give, for each frame, the number of the track at each mover's place."""
    tracker = tracker or Tracker()
    rng = np.random.default_rng(seed)
    history = []
    for frame in range(frames):
        shown = [m for m in movers if m.first <= frame <= m.last and not hidden(m, frame)]
        seen = tracker.update(
            [found(np.array(m.box(frame)) + rng.uniform(-jitter, jitter, 4), m.label) for m in shown], frame * STEP_S
        )
        at = {}
        for mover in shown:
            near = [
                t
                for t in seen
                if t.label == mover.label and np.abs(np.subtract(t.box_xyxy, mover.box(frame))).max() <= jitter + 1e-6
            ]
            at[mover] = near[0].number if near else None
        history.append(at)
    return history


def numbers(history, mover) -> set[int]:
    return {at[mover] for at in history if at.get(mover) is not None}


def test_a_moving_thing_is_one_track_from_its_third_frame_on() -> None:
    mover = Mover(label="car", start=(0, 0), velocity=(5, 2))

    history = followed([mover], 20)

    assert [at[mover] for at in history] == [None, None, *[1] * 18]


def test_things_that_cross_keep_their_numbers() -> None:
    right = Mover(label="car", start=(0, 50), velocity=(6, 0))
    down = Mover(label="car", start=(60, -20), velocity=(0, 6))

    history = followed([right, down], 25, jitter=1.0)

    assert len(numbers(history, right)) == len(numbers(history, down)) == 1
    assert numbers(history, right) != numbers(history, down)


def test_things_of_different_labels_never_share_a_track() -> None:
    car = Mover(label="car", start=(0, 0), velocity=(3, 0))
    person = Mover(label="person", start=(0, 0), velocity=(3, 0))

    history = followed([car, person], 10)

    assert numbers(history, car) | numbers(history, person) == {1, 2}


def test_a_thing_hidden_for_less_than_the_patience_comes_back_as_itself() -> None:
    mover = Mover(label="car", start=(0, 0), velocity=(7, 3))

    history = followed([mover], 30, hidden=lambda _, frame: 10 <= frame < 18)

    assert numbers(history, mover) == {1}


def test_a_thing_that_comes_where_another_left_long_ago_is_new() -> None:
    first = Mover(label="car", start=(50, 50), velocity=(0, 0), last=9)
    second = Mover(label="car", start=(50, 50), velocity=(0, 0), first=25)

    history = followed([first, second], 35)

    assert (numbers(history, first), numbers(history, second)) == ({1}, {2})


def test_a_thing_seen_only_twice_is_nothing() -> None:
    flicker = Mover(label="car", start=(50, 50), velocity=(0, 0), last=1)

    tracker = Tracker()
    history = followed([flicker], 5, tracker)

    assert numbers(history, flicker) == set()
    assert tracker.tracks == []


def test_a_faint_detection_continues_a_track_and_begins_none() -> None:
    tracker = Tracker(sure=0.5)
    for frame in range(10):
        strong = found((frame, 0, frame + 20, 20), score=0.9 if frame < 3 else 0.2)
        seen = tracker.update([strong, found((100, 100, 120, 120), score=0.45)], frame * STEP_S)

    assert [(track.number, track.hits) for track in seen] == [(1, 10)]


def test_a_thing_far_from_where_another_vanished_is_not_that_other() -> None:
    left = Mover(label="car", start=(20, 20), velocity=(0, 0), last=9)
    right = Mover(label="car", start=(100, 20), velocity=(0, 0), first=10)

    history = followed([left, right], 20)

    assert (numbers(history, left), numbers(history, right)) == ({1}, {2})


def test_a_faint_detection_must_overlap_well() -> None:
    tracker = Tracker(sure=0.5)
    for frame in range(5):
        tracker.update([found((0, 0, 20, 20))], frame * STEP_S)

    assert tracker.update([found((15, 0, 35, 20), score=0.3)], 5 * STEP_S) == []
    assert len(tracker.update([found((3, 0, 23, 20), score=0.3)], 6 * STEP_S)) == 1


def test_at_one_frame_in_two_seconds_one_missed_frame_is_forgiven_and_two_are_not() -> None:
    tracker = Tracker(patience_s=1.0)
    for frame in (0, 1, 2, 4, 5, 8, 9, 10):
        for empty in reversed(range({4: 1, 8: 2}.get(frame, 0))):
            tracker.update([], 2.0 * (frame - 1 - empty))
        seen = tracker.update([found((10, 10, 40, 40))], 2.0 * frame)
        if frame == 5:
            assert [track.number for track in seen] == [1]

    assert [track.number for track in seen] == [2]


def test_the_frame_that_confirms_a_track_gives_its_whole_path() -> None:
    mover = Mover(label="car", start=(0, 0), velocity=(5, 0))
    tracker = Tracker()
    paths = [
        [list(track.path) for track in tracker.update([found(mover.box(frame))], frame * STEP_S)] for frame in range(5)
    ]

    assert paths[:2] == [[], []]
    assert paths[2] == [[mover.box(0), mover.box(1), mover.box(2)]]
    assert paths[3] == [[mover.box(3)]]


@given(st.integers(0, 10_000), st.integers(2, 25))
def test_a_tracker_restored_from_json_goes_on_as_if_nothing_had_happened(seed, cut) -> None:
    rng = np.random.default_rng(seed)
    movers = [
        Mover(
            label=str(rng.choice(["car", "person"])),
            start=tuple(rng.uniform(0, 200, 2)),
            velocity=tuple(rng.uniform(-6, 6, 2)),
        )
        for _ in range(4)
    ]
    frames = [
        [
            found(np.array(m.box(f)) + rng.normal(0, 1, 4), m.label, rng.uniform(0.3, 1))
            for m in movers
            if rng.random() < 0.8
        ]
        for f in range(30)
    ]
    whole, first = Tracker(), Tracker()
    expected = [[(t.number, t.box_xyxy) for t in whole.update(one, f * STEP_S)] for f, one in enumerate(frames)]

    got = [[(t.number, t.box_xyxy) for t in first.update(one, f * STEP_S)] for f, one in enumerate(frames[:cut])]
    second = Tracker()
    second.restore(json.loads(json.dumps(first.state())))
    got += [
        [(t.number, t.box_xyxy) for t in second.update(one, (cut + f) * STEP_S)] for f, one in enumerate(frames[cut:])
    ]

    assert got == expected
    assert any(expected), "the trial has no track at all"


@given(st.lists(st.lists(boxes, max_size=6), max_size=12))
def test_whatever_is_detected_numbers_are_unique_and_only_grow(frames) -> None:
    tracker = Tracker()
    given_numbers = [0]
    for frame, some in enumerate(frames):
        seen = [track.number for track in tracker.update([found(box) for box in some], frame * STEP_S)]
        given_numbers.append(tracker.given)
        assert len(set(seen)) == len(seen) <= len(some)
        assert all(1 <= number <= tracker.given for number in seen)
    assert all(before <= after for before, after in pairwise(given_numbers))


@given(boxes, boxes, st.floats(0.1, 10), st.floats(-100, 100))
def test_likeness_is_symmetric_bounded_and_does_not_know_scale_or_place(one, two, scale, shift) -> None:
    alike = likeness([one], [two])[0, 0]
    moved = likeness([[side * scale + shift for side in one]], [[side * scale + shift for side in two]])[0, 0]

    assert -1 <= alike <= 1 + 1e-9
    assert likeness([two], [one])[0, 0] == pytest.approx(alike)
    assert moved == pytest.approx(alike, abs=1e-6)
    assert likeness([one], [one])[0, 0] == pytest.approx(1)


def test_likeness_of_boxes_that_touch_is_what_one_computes_by_hand() -> None:
    # No overlap; centres 10 apart; around both 20 x 10, diagonal squared 500.
    assert likeness([(0, 0, 10, 10)], [(10, 0, 20, 10)])[0, 0] == pytest.approx(-100 / 500)
    # Overlap 50 of 150; centres 5 apart; around both 15 x 10, diagonal squared 325.
    assert likeness([(0, 0, 10, 10)], [(5, 0, 15, 10)])[0, 0] == pytest.approx(1 / 3 - 25 / 325)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 10_000), st.booleans())
def test_the_pairing_is_the_best_of_all(rows, columns, seed, ties) -> None:
    alike = np.random.default_rng(seed).uniform(-1, 1, (rows, columns))
    alike = np.round(alike * 2) / 2 if ties else alike
    limit = -0.25

    pairs = matched(alike, limit)

    def worth(some):
        return sum(alike[pair] - limit for pair in some)

    tall = alike.T if rows > columns else alike
    every = [
        [(place, other) if rows <= columns else (other, place) for place, other in enumerate(order)]
        for order in permutations(range(tall.shape[1]), tall.shape[0])
    ]
    best = max((worth([pair for pair in some if alike[pair] >= limit]) for some in every), default=0)
    assert worth(pairs) == pytest.approx(best)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
