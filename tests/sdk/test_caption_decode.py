"""Decoding, greedy and by a beam, on a vocabulary and scores that one can follow by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsight.caption.decode import LONGEST_ECHO, REPEATED, Rules, Spoken, spoken

PIECES = ["<pad>", "<unk>", "</s>", "<en>", "<zh>", "▁a", "▁dog", "▁run", "s", "▁fast", "妈", "狗", "，", "跑", "▁"]
PAD, UNKNOWN, END, EN, ZH = range(5)
LONGEST = 10
ENGLISH = Rules(start=EN, end=END, silent=(PAD, UNKNOWN, EN, ZH), longest=LONGEST, by_characters=False)
CHINESE = Rules(start=ZH, end=END, silent=(PAD, UNKNOWN, EN, ZH), longest=LONGEST, by_characters=True)


class Vocabulary:
    """A sentencepiece processor of fifteen pieces."""

    def id_to_piece(self, id: int) -> str:  # noqa: A002
        return PIECES[id]

    def decode(self, ids: list[int]) -> str:
        return "".join(PIECES[one] for one in ids).replace("▁", " ").strip()


def odds(**wanted: float) -> np.ndarray:
    """Logits that make these pieces as likely as stated, and the others share what is left."""
    rest = (1 - sum(wanted.values())) / (len(PIECES) - len(wanted))
    chances = np.full(len(PIECES), rest)
    for name, chance in wanted.items():
        chances[PIECES.index({"end": "</s>"}.get(name, name))] = chance
    return np.log(chances).astype(np.float32)


Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


def script(*rows: np.ndarray) -> Scorer:
    """Scores in the order of the steps, whatever was said; the last row goes on for ever."""
    steps = iter(rows)

    def scorer(latest: np.ndarray, _: np.ndarray) -> np.ndarray:
        nonlocal row
        row = next(steps, row)
        return np.stack([row] * len(latest))

    row = rows[-1]
    return scorer


def tree(after: dict[str, dict[str, float]]) -> Scorer:
    """Scores by all that was said before, as the rows that each step goes on from tell it."""
    told: list[tuple[int, ...]] = [()]

    def scorer(latest: np.ndarray, rows: np.ndarray) -> np.ndarray:
        nonlocal told
        told = [(*told[row], int(piece)) for row, piece in zip(rows, latest, strict=True)]
        return np.stack([odds(**after[Vocabulary().decode(list(way[1:]))]) for way in told])

    return scorer


def say(*rows: np.ndarray, rules: Rules = ENGLISH, max_words: int = 20, beams: int = 1) -> Spoken:
    return spoken(script(*rows), Vocabulary(), rules, max_words, beams)[0]


def text(spoken: Spoken) -> str:
    return Vocabulary().decode(list(spoken.ids))


def test_the_likeliest_pieces_are_said_until_the_end_is_the_likeliest():
    said = say(odds(**{"▁a": 0.5}), odds(**{"▁dog": 0.8}), odds(**{"▁run": 0.5}), odds(s=0.8), odds(end=0.9))

    assert text(said) == "a dog runs"
    assert said.sureness == pytest.approx((0.5 * 0.8 * 0.5 * 0.8 * 0.9) ** (1 / 5), rel=1e-5)


def test_each_piece_is_told_to_the_scorer():
    told = []

    def scorer(latest: np.ndarray, rows: np.ndarray) -> np.ndarray:
        told.extend(latest)
        assert rows.tolist() == [0]
        return np.stack([[odds(**{"▁a": 0.9}), odds(**{"▁dog": 0.9}), odds(end=0.9)][len(told) - 1]])

    spoken(scorer, Vocabulary(), ENGLISH, 20)

    assert told == [EN, PIECES.index("▁a"), PIECES.index("▁dog")]


def test_padding_the_unknown_and_starts_are_never_said():
    said = say(odds(**{"<unk>": 0.6, "▁a": 0.2}), odds(**{"<zh>": 0.6, "▁dog": 0.2}), odds(end=0.9))

    assert text(said) == "a dog"


def test_a_caption_is_never_empty():
    assert text(say(odds(**{"end": 0.9, "▁dog": 0.05}), odds(end=0.9))) == "dog"


def test_a_word_is_not_said_twice_in_a_row():
    said = say(odds(**{"▁dog": 0.9}), odds(**{"▁dog": 0.6, "▁run": 0.3}), odds(end=0.9))

    assert text(said) == "dog run"


def test_a_phrase_is_not_said_twice_in_a_row():
    loop = [odds(**{"▁a": 0.9}), odds(**{"▁dog": 0.9}), odds(**{"▁a": 0.9}), odds(**{"▁dog": 0.6, "▁run": 0.3})]

    assert text(say(*loop, odds(end=0.9))) == "a dog a run"


def test_a_chinese_character_may_be_doubled_but_not_said_three_times():
    mother = odds(妈=0.6, 跑=0.3)

    assert text(say(mother, mother, mother, odds(end=0.9), rules=CHINESE)) == "妈妈跑"


def test_a_caption_that_grows_too_long_ends_where_an_end_was_likeliest():
    rows = [
        odds(**{"▁a": 0.9}),
        odds(**{"▁dog": 0.9}),
        odds(**{"▁run": 0.6, "end": 0.3}),
        odds(s=0.9),
        odds(**{"▁fast": 0.9}),
    ]

    assert text(say(*rows, odds(end=0.9), max_words=3)) == "a dog"
    assert text(say(*rows, odds(end=0.9), max_words=4)) == "a dog runs fast"


def test_a_word_is_not_cut_in_two():
    rows = [
        odds(**{"▁a": 0.9}),
        odds(**{"▁dog": 0.9}),
        odds(**{"▁run": 0.9}),
        odds(s=0.6, end=0.3),
        odds(**{"▁fast": 0.8, "end": 0.1}),
    ]

    assert text(say(*rows, max_words=3)) == "a dog runs"


def test_the_words_of_a_chinese_caption_are_its_characters():
    rows = [odds(狗=0.9), odds(**{"，": 0.9}), odds(跑=0.9), odds(妈=0.9), odds(end=0.9)]

    assert text(say(*rows, rules=CHINESE, max_words=3)) == "狗，跑妈"
    assert sum(c.isalnum() for c in text(say(*rows, rules=CHINESE, max_words=2))) <= 2


def test_three_pieces_are_not_said_twice_in_one_order():
    words = ["▁a", "▁dog", "▁run", "▁fast", "▁a", "▁dog"]
    rows = [odds(**{word: 0.9}) for word in words]

    said = say(*rows, odds(**{"▁run": 0.6, "s": 0.3}), odds(end=0.9))

    assert text(said) == "a dog run fast a dogs"


LATER = {
    "": {"▁a": 0.55, "▁dog": 0.4},
    "a": {"▁dog": 0.4, "▁run": 0.3},
    "a dog": {"end": 0.5},
    "a run": {"end": 0.5},
    "dog": {"s": 0.9},
    "dogs": {"end": 0.9},
}


def test_a_beam_finds_what_is_likelier_as_a_whole():
    """One beam says "a dog" at .55 x .4 x .5; two find "dogs" at .4 x .9 x .9."""
    (greedy,), beam = (spoken(tree(LATER), Vocabulary(), ENGLISH, 20, beams) for beams in (1, 2))

    assert text(greedy) == "a dog"
    assert [text(one) for one in beam] == ["dogs", "a dog"]
    assert beam[0].sureness == pytest.approx((0.4 * 0.9 * 0.9) ** (1 / 3), rel=1e-5)


def test_a_beam_that_grows_too_long_ends_where_an_end_was_likeliest():
    rows = [odds(**{"▁a": 0.9}), odds(**{"▁dog": 0.9}), odds(**{"▁run": 0.6, "end": 0.3}), odds(**{"▁fast": 0.9})]

    assert len(text(say(*rows, max_words=2, beams=3)).split()) <= 2


@given(
    seed=st.integers(0, 10_000),
    max_words=st.integers(1, 12),
    by_characters=st.booleans(),
    beams=st.sampled_from([1, 3]),
)
def test_whatever_the_scores_a_caption_ends_in_time_and_does_not_loop(seed, max_words, by_characters, beams):
    random = np.random.default_rng(seed)
    rules = CHINESE if by_characters else ENGLISH

    def scorer(latest: np.ndarray, rows: np.ndarray) -> np.ndarray:
        assert len(latest) == len(rows) <= beams
        return random.normal(size=(len(latest), len(PIECES))).astype(np.float32) * 3

    sentences = spoken(scorer, Vocabulary(), rules, max_words, beams)

    said = sentences[-1]
    ids = list(said.ids)
    assert [one.sureness for one in sentences] == sorted((one.sureness for one in sentences), reverse=True)
    assert 1 <= len(ids) <= LONGEST
    assert not set(ids) & {*rules.silent, END}
    assert 0 < said.sureness <= 1
    assert math.isfinite(said.sureness)
    if by_characters:
        assert sum(PIECES[one] not in {"，", "▁"} for one in ids) <= max_words
    else:
        assert sum(PIECES[one].startswith("▁") and PIECES[one] != "▁" for one in ids) <= max_words
        assert all(a != b for a, b in pairwise(ids))
    for size in range(2, LONGEST_ECHO + 1):
        assert all(ids[at : at + size] != ids[at + size : at + 2 * size] for at in range(len(ids) - 2 * size + 1))
    runs = [tuple(ids[at : at + REPEATED]) for at in range(len(ids) - REPEATED + 1)]
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("max_words", [1, 20])
def test_a_mark_of_a_beginning_alone_is_no_sentence(beams, max_words) -> None:
    blank, ended = odds(**{"▁": 0.9}), odds(end=0.9, **{"▁dog": 0.05})

    said = say(blank, ended, odds(end=0.9), max_words=max_words, beams=beams)

    assert Vocabulary().decode(list(said.ids)) == "dog"
