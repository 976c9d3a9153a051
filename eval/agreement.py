"""How far a caption agrees with what people wrote: CIDEr-D and BLEU over words or characters; pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence

LONGEST = 4  # n-grams of one to four
SIGMA = 6.0  # CIDEr-D's penalty on a length that differs, in tokens
WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*|'[a-z]+")

Tokens = Sequence[Hashable]  # words, characters, or ids of a vocabulary
Gram = tuple[Hashable, ...]
Grams = Counter[Gram]


def words(text: str) -> list[str]:
    """Cut English into lower-case words without punctuation, `'s` apart: close to the Penn Treebank's manner."""
    return WORD.findall(text.lower())


def characters(text: str) -> list[str]:
    """Cut Chinese into characters without punctuation and blanks."""
    return [c for c in text.lower() if c.isalnum()]


def grams(tokens: Tokens, n: int) -> Grams:
    """Count the n-grams of one caption."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


class Consensus:
    """CIDEr-D against what people wrote about a set of pictures.

    How rare an n-gram is, is counted over the pictures of this very set, so figures of two sets cannot be compared.

    Args:
        asked: what people wrote about each picture, as tokens.

    Source: Vedantam, Zitnick and Parikh 2015, CIDEr: consensus-based image description evaluation (the -D form).
    """

    def __init__(self, asked: Sequence[Sequence[Tokens]]) -> None:
        seen = Counter(
            gram for row in asked for gram in {g for one in row for n in range(1, LONGEST + 1) for g in grams(one, n)}
        )
        self._whole = math.log(len(asked))
        self._rarity = {gram: self._whole - math.log(count) for gram, count in seen.items()}
        self._asked = [[(len(one), self._weighed(one)) for one in row] for row in asked]

    def __call__(self, said: Tokens, picture: int) -> float:
        """Judge a caption of one of the pictures: 0 to 10."""
        mine, row, total = self._weighed(said), self._asked[picture], 0.0
        for length, theirs in row:
            alike = sum(map(_similar, mine, theirs))
            total += alike * math.exp(-((len(said) - length) ** 2) / (2 * SIGMA**2))
        return 10.0 * total / (LONGEST * len(row))

    def _weighed(self, tokens: Tokens) -> list[tuple[dict[Gram, float], float]]:
        """N-grams of each length with their weights, and the length of that vector."""
        found = []
        for n in range(1, LONGEST + 1):
            weights = {gram: count * self._rarity.get(gram, self._whole) for gram, count in grams(tokens, n).items()}
            found.append((weights, math.sqrt(sum(weight * weight for weight in weights.values()))))
        return found


def cider(said: Sequence[Tokens], asked: Sequence[Sequence[Tokens]]) -> list[float]:
    """CIDEr-D of every caption; the mean over a set is the figure that is quoted.

    Args:
        said: one caption for each picture, as tokens.
        asked: what people wrote about each picture.

    Returns:
        One figure a picture, 0 to 10.
    """
    judge = Consensus(asked)
    return [judge(one, at) for at, one in enumerate(said)]


def _similar(mine: tuple[dict[Gram, float], float], theirs: tuple[dict[Gram, float], float]) -> float:
    """Cosine of two weighed captions, where repeating a good word more often than people do gains nothing."""
    (ours, size), (others, length) = mine, theirs
    both = sum(min(value, others[gram]) * others[gram] for gram, value in ours.items() if gram in others)
    return both / (size * length) if size and length else 0.0


def bleu(said: Sequence[Tokens], asked: Sequence[Sequence[Tokens]], longest: int = LONGEST) -> float:
    """Corpus BLEU: how much of what was said stands in a reference, with a penalty on saying too little.

    Args:
        said: one caption for each picture, as tokens.
        asked: what people wrote about each picture.
        longest: the longest n-grams that count.

    Returns:
        0 to 1.

    Source: Papineni, Roukos, Ward and Zhu 2002, BLEU; the closest reference's length counts, ties to the shorter.
    """
    right, made = [0] * longest, [0] * longest
    length = closest = 0
    for spoken, row in zip(said, asked, strict=True):
        length += len(spoken)
        closest += min((abs(len(one) - len(spoken)), len(one)) for one in row)[1]
        for n in range(1, longest + 1):
            mine, best = grams(spoken, n), Grams()
            for one in row:
                best |= grams(one, n)
            right[n - 1] += (mine & best).total()
            made[n - 1] += mine.total()
    if not all(right):
        return 0.0
    precision = sum(math.log(r / m) for r, m in zip(right, made, strict=True)) / longest
    return math.exp(precision + min(0.0, 1 - closest / length))
