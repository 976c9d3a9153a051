"""From the scores of next tokens to tokens, one by one or by beams, under the rules a model was made with; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    # Takes tokens (n, t) and which row of its previous answer each row goes on from (n,); gives float32 (n, v), the
    # logits of the next token of each row. It remembers what it was told; the first call brings the whole prompt.
    Scorer = Callable[[NDArray[np.int64], NDArray[np.intp]], NDArray[np.float32]]

UNFINISHED = "\ufffd"  # what a decoder writes for a character of which bytes are still to come


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an answer keeps to; the fields follow `generation_config.json`.

    Attributes:
        ends: ids of which each ends an answer.
        longest: the most tokens of an answer, the end included.
        first: the id that an answer has to begin with; None for any.
        unrepeated: how many tokens in a row may not be said a second time, the prompt included; 0 for any.
        never: ids that are not said.
    """

    ends: tuple[int, ...]
    longest: int
    first: int | None = None
    unrepeated: int = 0
    never: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Way:
    """An answer so far: its tokens without the prompt, their log probability, and which row it goes on from."""

    said: tuple[int, ...] = ()
    log: float = 0.0
    row: int = 0


def greedy(scorer: Scorer, prompt: Sequence[int], rules: Rules) -> Iterator[int]:
    """Say the likeliest token after each token, until an end is the likeliest or `rules.longest` is reached.

    Args:
        scorer: see `Scorer`.
        prompt: at least one id.
        rules: what the answer keeps to.

    Yields:
        The tokens of the answer, without the end, each as soon as it is known.
    """
    said: tuple[int, ...] = ()
    latest, row = np.array([prompt], np.int64), np.zeros(1, np.intp)
    while len(said) < rules.longest:
        logits = scorer(latest, row)[0]
        token = int(_allowed(logits, prompt, said, rules).argmax())
        if token in rules.ends:
            return
        said = (*said, token)
        yield token
        latest = np.array([[token]], np.int64)


def beamed(scorer: Scorer, prompt: Sequence[int], rules: Rules, beams: int, *, early: bool = False) -> tuple[int, ...]:
    """Say the answer that a beam search finds likeliest, by mean log probability of its tokens.

    Args:
        scorer: see `Scorer`.
        prompt: at least one id.
        rules: what the answer keeps to.
        beams: how many answers are followed side by side.
        early: whether to stop as soon as so many have ended, also if another one could still become likelier.

    Returns:
        The tokens of the answer, without the end.

    Source: the order in which candidates are kept and the rule to stop are those of transformers' beam search
        (`early_stopping` true or false, `length_penalty` 1), so that a model says here what it says there.
    """
    ways, done = [_Way()], list[tuple[float, tuple[int, ...]]]()
    latest = np.array([prompt], np.int64)
    while ways:
        logits = scorer(latest, np.array([way.row for way in ways], np.intp))
        ahead = _ahead(ways, logits, prompt, rules, max(2, 1 + len(rules.ends)) * beams)
        length = len(ahead[0].said)
        over = [way.said[-1] in rules.ends or length >= rules.longest for way in ahead]
        done += [(way.log / length, way.said) for way, ended in zip(ahead[:beams], over, strict=False) if ended]
        done = sorted(done, key=lambda one: -one[0])[:beams]
        ways = [way for way, ended in zip(ahead, over, strict=True) if not ended][:beams]
        if ways and len(done) == beams and (early or ways[0].log / length <= done[-1][0]):
            break
        latest = np.array([[way.said[-1]] for way in ways], np.int64)
    best = done[0][1]
    return best[:-1] if best[-1] in rules.ends else best


def pieces(tokens: Iterable[int], read: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Give the text of tokens as it grows; together the pieces are the whole text without blanks around it.

    A blank, and a character of which bytes are missing, waits for what follows.

    Args:
        tokens: ids, as they come.
        read: makes a text of ids; more ids may only make it longer.
    """
    said, given = list[int](), 0
    for token in tokens:
        said.append(token)
        text = read(said).lstrip()
        ready = len(text.rstrip()) if not text.endswith(UNFINISHED) else given
        if ready > given:
            yield text[given:ready]
            given = ready
    rest = read(said).strip()[given:]
    if rest:
        yield rest


def _ahead(
    ways: Sequence[_Way], logits: NDArray[np.float32], prompt: Sequence[int], rules: Rules, most: int
) -> list[_Way]:
    """Give the likeliest continuations of all ways together, likeliest first."""
    logs = np.stack(
        [way.log + _allowed(_log_softmax(row), prompt, way.said, rules) for way, row in zip(ways, logits, strict=True)]
    )
    flat = logs.ravel()
    count = min(most, int(np.isfinite(flat).sum()))
    best = np.argpartition(-flat, count - 1)[:count]
    best = best[np.lexsort((best, -flat[best]))]
    return [
        _Way((*ways[at // logs.shape[1]].said, at % logs.shape[1]), float(flat[at]), at // logs.shape[1])
        for at in best.tolist()
    ]


def _allowed(
    scores: NDArray[np.float32], prompt: Sequence[int], said: Sequence[int], rules: Rules
) -> NDArray[np.float32]:
    """Give scores (v,) with -inf for what the rules forbid; the first token that they demand has 0."""
    if rules.first is not None and not said:
        only = np.full_like(scores, -math.inf)
        only[rules.first] = 0
        return only
    forbidden = [*rules.never, *_repeats((*prompt, *said), rules.unrepeated)]
    if forbidden:
        scores = scores.copy()
        scores[forbidden] = -math.inf
    return scores


def _repeats(said: tuple[int, ...], length: int) -> list[int]:
    """Give the ids that would say `length` tokens in an order in which they were said before."""
    if not 0 < length <= len(said):
        return []
    tail = said[len(said) - length + 1 :]
    return [said[at] for at in range(length - 1, len(said)) if said[at - length + 1 : at] == tail]


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max()
    logs: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum())
    return logs
