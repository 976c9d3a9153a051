"""How far a caption agrees with what people wrote: CIDEr-D and BLEU over words or characters; pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 4  # n-grams of one to four
SIGMA = 6.0  # CIDEr-D's penalty on a length that differs, in tokens
WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*|'[a-z]+")

Tokens = Sequence[str]
Grams = Counter[tuple[str, ...]]


def words(text: str) -> list[str]:
    """Cut English into lower-case words without punctuation, `'s` apart: close to the Penn Treebank's manner."""
    return WORD.findall(text.lower())


def characters(text: str) -> list[str]:
    """Cut Chinese into characters without punctuation and blanks."""
    return [c for c in text.lower() if c.isalnum()]


def grams(tokens: Tokens, n: int) -> Grams:
    """Count the n-grams of one caption."""
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def cider(said: Sequence[Tokens], asked: Sequence[Sequence[Tokens]]) -> list[float]:
    """CIDEr-D of every caption; the mean over a set is the figure that is quoted.

    How rare an n-gram is, is counted over the pictures of this very set, so figures of two sets cannot be compared.

    Args:
        said: one caption for each picture, as tokens.
        asked: what people wrote about each picture.

    Returns:
        One figure a picture, 0 to 10.

    Source: Vedantam, Zitnick and Parikh 2015, CIDEr: consensus-based image description evaluation (the -D form).
    """
    seen = Counter(
        gram for row in asked for gram in {g for one in row for n in range(1, LONGEST + 1) for g in grams(one, n)}
    )
    whole = math.log(len(asked))

    def weighed(counts: Grams) -> dict[tuple[str, ...], float]:
        return {gram: count * (whole - math.log(max(1, seen[gram]))) for gram, count in counts.items()}

    found = []
    for spoken, row in zip(said, asked, strict=True):
        total = 0.0
        for n in range(1, LONGEST + 1):
            mine = weighed(grams(spoken, n))
            for one in row:
                gap = len(spoken) - len(one)
                total += _similar(mine, weighed(grams(one, n))) * math.exp(-(gap**2) / (2 * SIGMA**2))
        found.append(10.0 * total / (LONGEST * len(row)))
    return found


def _similar(mine: dict[tuple[str, ...], float], theirs: dict[tuple[str, ...], float]) -> float:
    """Cosine of two weighed captions, where repeating a good word more often than people do gains nothing."""
    both = sum(min(value, theirs[gram]) * theirs[gram] for gram, value in mine.items() if gram in theirs)
    size = math.sqrt(sum(v * v for v in mine.values()) * sum(v * v for v in theirs.values()))
    return both / size if size else 0.0


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
            mine, best = grams(spoken, n), Counter[tuple[str, ...]]()
            for one in row:
                best |= grams(one, n)
            right[n - 1] += (mine & best).total()
            made[n - 1] += mine.total()
    if not all(right):
        return 0.0
    precision = sum(math.log(r / m) for r, m in zip(right, made, strict=True)) / longest
    return math.exp(precision + min(0.0, 1 - closest / length))
