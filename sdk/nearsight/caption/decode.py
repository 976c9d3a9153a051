"""From the scores of next pieces to a sentence: a beam without loops, within a number of words; pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Scorer = Callable[[NDArray[np.int64], NDArray[np.intp]], NDArray[np.float32]]

# A phrase of up to this many pieces may not be said twice in a row; a longer one would repeat three pieces.
LONGEST_ECHO = 2
REPEATED = 3  # pieces that may not be said a second time in the same order


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A caption that has not ended.

    Attributes:
        said: m pieces.
        chances: their probabilities.
        ends: the probability of an end before each of them.
        log: log probability of all pieces together.
        row: which row of the scorer's latest answer it goes on from.
    """

    said: tuple[int, ...] = ()
    chances: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()
    log: float = 0.0
    row: int = 0


def spoken(scorer: Scorer, pieces: Pieces, rules: Rules, max_words: int, beams: int = 1) -> list[Spoken]:
    """Say the sentences that a beam finds, surest first; with one beam, one: the likeliest piece after each piece.

    No three pieces are said twice in the same order, and no one or two of them twice in a row. A caption that would
    grow longer than `max_words` ends after that of its words after which an end was likeliest, so that it does not stop
    in the middle of a phrase.

    Args:
        scorer: takes the latest ids (n,) and which row of its previous answer each of them goes on from (n,), gives
            float32 (n, v), the logits of the next ones; it remembers what it was told.
        pieces: the vocabulary.
        rules: what the language keeps to.
        max_words: the most words (characters in Chinese, without commas), at least 1.
        beams: how many captions are followed side by side, at least 1.
    """
    ways, done = [_Way()], list[Spoken]()
    while ways and len(done) < beams:
        latest = [way.said[-1] if way.said else rules.start for way in ways]
        logits = scorer(np.array(latest, np.int64), np.array([way.row for way in ways], np.intp))
        ahead = [after for row, way in enumerate(ways) for after in _ahead(way, row, logits[row], rules, 2 * beams)]
        ahead.sort(key=lambda way: -way.log)
        ways = []
        for rank, way in enumerate(ahead[: 2 * beams]):
            if way.said[-1] == rules.end:
                # A mark of a beginning alone shows nothing: that is no sentence.
                done += [_ended(way)] if rank < beams and pieces.decode(list(way.said[:-1])).strip() else []
            elif len(ways) < beams:
                ways.append(way)
        words = [_words(way.said, pieces, rules) for way in ways]
        full = [begun[-1] > max_words or len(way.said) == rules.longest for way, begun in zip(ways, words, strict=True)]
        done += [_shortened(way, begun, max_words) for way, begun, over in zip(ways, words, full, strict=True) if over]
        ways = [way for way, over in zip(ways, full, strict=True) if not over]
    return sorted(done, key=lambda one: -one.sureness)


def written(text: str) -> str:
    """Write "an" where English does: the decoder has "a" from captions that a program made.

    >>> written("a elephant and a one-eyed cat")
    'an elephant and a one-eyed cat'
    """
    return re.sub(r"\ba (?=[aeiou])(?!one|uni|use|eu)", "an ", text)


def _ahead(way: _Way, row: int, logits: NDArray[np.float32], rules: Rules, most: int) -> list[_Way]:
    """Go on by each of the likeliest pieces that may follow; a caption is never empty."""
    odds = _softmax(logits)
    odds[[*rules.silent, *_echoes(way.said, by_characters=rules.by_characters), *_repeated(way.said)]] = 0.0
    end = float(odds[rules.end])
    if not way.said:
        odds[rules.end] = 0.0
    return [
        _Way(
            said=(*way.said, int(piece)),
            chances=(*way.chances, float(odds[piece])),
            ends=(*way.ends, end),
            log=way.log + _log(odds[piece]),
            row=row,
        )
        for piece in np.argsort(-odds, kind="stable")[:most]
    ]


def _ended(way: _Way) -> Spoken:
    """Leave out the end, which counts for the sureness."""
    return _spoken(way.said[:-1], way.chances)


def _shortened(way: _Way, words: list[int], max_words: int) -> Spoken:
    """End after the whole word, of those within `max_words`, after which an end was likeliest.

    Args:
        way: a caption of m pieces.
        words: (m,), how many words have begun with each piece.
        max_words: the most words.
    """
    # Of an end after the last piece nobody was asked.
    ends, begun = [*way.ends, 0.0], [*words, words[-1] + 1]
    whole = [at for at in range(1, len(begun)) if 1 <= begun[at - 1] <= max_words and begun[at] > begun[at - 1]]
    best = max(whole or [len(way.said)], key=lambda at: ends[at])
    return _spoken(way.said[:best], (*way.chances[:best], ends[best]))


def _words(said: Sequence[int], pieces: Pieces, rules: Rules) -> list[int]:
    """Count the words that have begun, up to each piece."""
    texts = [pieces.id_to_piece(one) for one in said]
    if rules.by_characters:
        # Every character is a piece of its own; the mark of a beginning and a comma are none.
        begins = [any(c.isalnum() for c in text) for text in texts]
    else:
        begins, awaited = list[bool](), True
        for text in texts:
            awaited |= text.startswith("▁")
            begins.append(awaited and text != "▁")
            awaited = awaited and not begins[-1]
    return list(accumulate(begins))


def _echoes(said: Sequence[int], *, by_characters: bool) -> list[int]:
    """Give the ids that would say a phrase a second time right after the first; a character only a third time."""
    found = []
    first = 2 if by_characters and said[-1:] != said[-2:-1] else 1
    for size in range(first, LONGEST_ECHO + 1):
        phrase, tail = said[-2 * size + 1 : -size + 1 or None], said[len(said) - size + 1 :]
        if len(phrase) == size and phrase[:-1] == tail:
            found.append(phrase[-1])
    return found


def _repeated(said: Sequence[int]) -> list[int]:
    """Give the ids that would say three pieces in an order in which they were said before."""
    before = REPEATED - 1
    tail = said[-before:]
    return [said[at] for at in range(before, len(said)) if said[at - before : at] == tail]


def _spoken(said: tuple[int, ...], chances: tuple[float, ...]) -> Spoken:
    logs = [_log(chance) for chance in chances]
    return Spoken(ids=said, sureness=math.exp(sum(logs) / len(logs)))


def _log(chance: float) -> float:
    return math.log(max(chance, 1e-9))


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    odds: NDArray[np.float64] = powers / powers.sum()
    return odds
