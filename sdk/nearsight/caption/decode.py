"""From the scores of next pieces to a sentence: greedy, without loops, within a number of words; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Scorer = Callable[[int], NDArray[np.float32]]

# A phrase of up to this many pieces may not be said twice in a row.
LONGEST_ECHO = 4


class Pieces(Protocol):
    """A vocabulary, as far as decoding needs it; a sentencepiece processor is one."""

    def id_to_piece(self, id: int) -> str:  # noqa: A002 -- sentencepiece calls it so
        """Give a piece as text, with the mark of a word's beginning."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Join pieces to a text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a caption in one language keeps to.

    Attributes:
        start: id that begins a caption in this language.
        end: id that ends one.
        silent: ids that are never said: padding, the unknown, every start.
        longest: the most pieces that the model was trained to say.
        by_characters: whether a word is a character (Chinese), which may then be doubled (妈妈), or what stands between
            blanks.
    """

    start: int
    end: int
    silent: tuple[int, ...]
    longest: int
    by_characters: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What was said.

    Attributes:
        ids: the pieces, without start and end.
        sureness: geometric mean of the probabilities of the pieces and of the end, 0 to 1.
    """

    ids: tuple[int, ...]
    sureness: float


def greedy(scorer: Scorer, pieces: Pieces, rules: Rules, max_words: int) -> Spoken:
    """Say the likeliest piece after each piece, until the end is the likeliest.

    A caption that would grow longer than `max_words` ends after that of its words after which an end was likeliest, so
    that it does not stop in the middle of a phrase.

    Args:
        scorer: takes the latest id, gives float32 (v,), the logits of the next one; it remembers what it was told.
        pieces: the vocabulary.
        rules: what the language keeps to.
        max_words: the most words (characters in Chinese, without commas), at least 1.
    """
    said: list[int] = []
    chances: list[float] = []  # of each piece
    ends: list[float] = []  # of an end before each piece
    latest = rules.start
    while True:
        odds = _softmax(scorer(latest))
        odds[[*rules.silent, *_echoes(said, by_characters=rules.by_characters)]] = 0.0
        ends.append(float(odds[rules.end]))
        if not said:
            odds[rules.end] = 0.0
        latest = int(odds.argmax())
        if latest == rules.end:
            return _spoken(said, [*chances, ends[-1]])
        said.append(latest)
        chances.append(float(odds[latest]))
        words = _words(said, pieces, rules)
        if words[-1] > max_words or len(said) == rules.longest:
            return _shortened(said, chances, [*ends, 0.0], [*words, words[-1] + 1], max_words)


def _shortened(said: list[int], chances: list[float], ends: list[float], words: list[int], max_words: int) -> Spoken:
    """End after the whole word, of those within `max_words`, after which an end was likeliest.

    Args:
        said: m pieces.
        chances: their probabilities.
        ends: (m + 1,), the probability of an end before each piece and after the last.
        words: (m + 1,), how many words have begun with each piece, and one more.
        max_words: the most words.
    """
    whole = [at for at in range(1, len(said) + 1) if 1 <= words[at - 1] <= max_words and words[at] > words[at - 1]]
    best = max(whole or [len(said)], key=lambda at: ends[at])
    return _spoken(said[:best], [*chances[:best], ends[best]])


def _words(said: Sequence[int], pieces: Pieces, rules: Rules) -> list[int]:
    """Count the words that have begun, up to each piece."""
    texts = [pieces.id_to_piece(one) for one in said]
    if rules.by_characters:
        # Every character is a piece of its own; the mark of a beginning and a comma are none.
        begins = [any(c.isalnum() for c in text) for text in texts]
    else:
        begins = [at == 0 or text.startswith("▁") for at, text in enumerate(texts)]
    return list(accumulate(begins))


def _echoes(said: list[int], *, by_characters: bool) -> list[int]:
    """Give the ids that would say a phrase a second time right after the first; a character only a third time."""
    found = []
    first = 2 if by_characters and said[-1:] != said[-2:-1] else 1
    for size in range(first, LONGEST_ECHO + 1):
        phrase, tail = said[-2 * size + 1 : -size + 1 or None], said[len(said) - size + 1 :]
        if len(phrase) == size and phrase[:-1] == tail:
            found.append(phrase[-1])
    return found


def _spoken(said: list[int], chances: list[float]) -> Spoken:
    logs = [math.log(max(chance, 1e-9)) for chance in chances]
    return Spoken(ids=tuple(said), sureness=math.exp(sum(logs) / len(logs)))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    odds: NDArray[np.float64] = powers / powers.sum()
    return odds
