"""Generation by hand: what is said, in which order it is looked for, when it ends, and how a text grows from it."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight.families.generation import Rules, beamed, greedy, pieces

if TYPE_CHECKING:
    from collections.abc import Callable

END, SIZE = 0, 6
RULES = Rules(ends=(END,), longest=8)


def tree(after: dict[tuple[int, ...], dict[int, float]], prompt: int = 1) -> Callable:
    """A scorer that knows the chances of next tokens for what was said so far, through the rows that it is told."""
    told: list[tuple[int, ...]] = [()]

    def scorer(latest: np.ndarray, rows: np.ndarray) -> np.ndarray:
        nonlocal told
        told = [(*told[row], *map(int, new)) for row, new in zip(rows, latest, strict=True)]
        return np.stack([logits(after.get(said[prompt:], {END: 1.0})) for said in told])

    return scorer


def logits(chances: dict[int, float]) -> np.ndarray:
    rest = (1 - sum(chances.values())) / (SIZE - len(chances)) if len(chances) < SIZE else 0
    return np.log([max(chances.get(token, rest), 1e-9) for token in range(SIZE)]).astype(np.float32)


def test_the_likeliest_token_follows_until_the_end_is_likeliest():
    scorer = tree({(): {2: 0.6, 3: 0.4}, (2,): {4: 0.9}, (2, 4): {END: 0.5, 5: 0.4}})

    assert list(greedy(scorer, (1,), RULES)) == [2, 4]


def test_the_first_call_brings_the_whole_prompt_and_later_ones_a_token_each():
    shapes = []

    def scorer(latest: np.ndarray, _: np.ndarray) -> np.ndarray:
        shapes.append(latest.shape)
        return np.stack([logits({3: 0.9})])

    said = list(itertools.islice(greedy(scorer, (1, 2, 3), RULES), 3))

    assert said == [3, 3, 3]
    assert shapes == [(1, 3), (1, 1), (1, 1)]


def test_a_token_is_given_before_the_next_one_is_computed():
    calls = 0

    def scorer(latest: np.ndarray, _: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.stack([logits({2: 0.9})] * len(latest))

    spoken = greedy(scorer, (1,), RULES)
    next(spoken)

    assert calls == 1


def test_an_answer_ends_at_its_longest():
    scorer = tree({tuple([2] * count): {2: 0.9} for count in range(20)})

    assert list(greedy(scorer, (1,), RULES)) == [2] * 8


def test_any_of_several_ends_ends():
    scorer = tree({(): {2: 0.9}, (2,): {5: 0.9}})

    assert list(greedy(scorer, (1,), Rules(ends=(END, 5), longest=8))) == [2]


def test_what_may_not_be_said_is_passed_over():
    scorer = tree({(): {2: 0.6, 3: 0.3}, (3,): {END: 0.9}})

    assert list(greedy(scorer, (1,), Rules(ends=(END,), longest=8, never=(2,)))) == [3]


def test_a_first_token_that_is_demanded_comes_first():
    scorer = tree({(): {2: 0.9}, (4,): {3: 0.9}, (4, 3): {END: 0.9}})

    assert list(greedy(scorer, (1,), Rules(ends=(END,), longest=8, first=4))) == [4, 3]


def test_three_tokens_are_not_said_twice_in_the_same_order_the_prompt_included():
    def scorer(latest: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.stack(
            [logits({2: 0.6, 3: 0.3}) if token != 2 else logits({3: 0.6, 2: 0.3}) for (*_, token) in latest]
        )

    said = (3, 2, *greedy(scorer, (3, 2), Rules(ends=(END,), longest=9, unrepeated=3)))

    triples = [said[at : at + 3] for at in range(len(said) - 2)]
    assert len(set(triples)) == len(triples)
    assert said[:4] == (3, 2, 3, 2)


def test_a_beam_finds_the_sentence_that_greed_misses():
    after = {(): {2: 0.55, 3: 0.45}, (2,): {4: 0.4, 5: 0.3}, (2, 4): {END: 0.9}, (3,): {4: 0.99}, (3, 4): {END: 0.99}}

    assert list(greedy(tree(after), (1,), RULES)) == [2, 4]
    assert beamed(tree(after), (1,), RULES, 2) == (3, 4)


def test_a_beam_that_stops_early_does_not_wait_for_a_better_end():
    after = {
        (): {2: 0.6, 3: 0.4},
        (2,): {END: 0.4, 4: 0.6},
        (3,): {END: 0.8, 5: 0.2},
        (2, 4): {5: 0.999},
        (2, 4, 5): {5: 0.999},
        (2, 4, 5, 5): {END: 0.999},
    }

    assert beamed(tree(after), (1,), RULES, 2, early=True) == (3,)
    assert beamed(tree(after), (1,), RULES, 2) == (2, 4, 5, 5)


@given(st.lists(st.floats(0.05, 1.0), min_size=SIZE * 13, max_size=SIZE * 13), st.integers(1, 3))
def test_a_beam_as_wide_as_everything_finds_the_likeliest_of_all_short_answers(weights, longest):
    """Against a search through every answer there is; the tokens 0 to 2 exist."""
    rows = np.array(weights).reshape(13, SIZE)[:, :3]
    keys = [said for length in range(3) for said in itertools.product((1, 2), repeat=length)]
    chances = {key: row / row.sum() for key, row in zip(keys, rows[: len(keys)], strict=True)}
    after = {key: dict(enumerate(row * (1 - 1e-6))) for key, row in chances.items()}

    def mean_log(said: tuple[int, ...]) -> float:
        return sum(math.log(chances[said[:at]][token]) for at, token in enumerate(said)) / len(said)

    every = [
        said
        for length in range(1, longest + 1)
        for said in itertools.product((0, 1, 2), repeat=length)
        if 0 not in said[:-1] and (said[-1] == 0 or length == longest)
    ]
    best = max(every, key=mean_log)

    found = beamed(tree(after), (1,), Rules(ends=(END,), longest=longest, never=(3, 4, 5)), 16)

    ended = found if len(found) == longest else (*found, END)
    assert mean_log(ended) == pytest.approx(mean_log(best), abs=1e-4)


class Letters:
    """Reads ids as bytes of UTF-8."""

    def __call__(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf8", errors="replace")


@given(st.text(max_size=30))
def test_pieces_are_together_the_text_without_blanks_around_it(text):
    grown = list(pieces(text.encode(), Letters()))

    assert "".join(grown) == text.strip()
    assert all(grown)


def test_half_a_character_waits_for_its_other_half():
    assert list(pieces("狗 a".encode(), Letters())) == ["狗", " a"]


def test_a_blank_waits_for_the_word_after_it():
    assert list(pieces(b" a b \n", Letters())) == ["a", " b"]
