"""From a query in words and pictures to one vector, and from ranked pictures to a page of hits."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

import numpy as np

from nearsight.errors import InputError
from nearsight.gallery.relevance import Judgement, judged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from nearsight.gallery.encoder import GalleryEncoder
    from nearsight.gallery.index import Index
    from nearsight_npu import Decision

Term: TypeAlias = Any
"""A text, a picture (path object, bytes, Pillow image or array), or a pair (weight, text or picture)."""

# Cosine from which two pictures count as the same shot.
DUPLICATE_COSINE = 0.97
# A query's calibration sees at least this many of the best scores, so that it does not change with k.
CALIBRATION_DEPTH = 50
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """One search, encoded.

    Attributes:
        vector: float32 (d,), unit length.
        label: the query in words, for people.
        text: the text when the query is all text; None when a picture takes part.
        decision: how its first part was encoded.
    """

    vector: NDArray[np.float32]
    label: str
    text: str | None
    decision: Decision | None


def encoded(
    encoder: GalleryEncoder,
    query: Term | None,
    both: tuple[Term, Term] | None,
    plus: Iterable[Term],
    minus: Iterable[Term],
) -> Query:
    """Encode all parts of a query and add them up: a sum of unit vectors by weight, made a unit vector again.

    Raises:
        InputError: when nothing is asked, a part is empty, a weight is not positive, or the parts cancel out.
    """
    if query is not None and both is not None:
        raise InputError("give either a query or both=(text, picture), not the two")
    main: list[Term] = []
    if both is not None:
        if not isinstance(both, (tuple, list)) or len(both) != 2:
            raise InputError(f"both must be a pair (text, picture); got {both!r}")
        main = list(both)
    elif query is not None:
        main = [query]
    parts = [_part(term, 1.0) for term in main]
    parts += [_part(term, 1.0) for term in _several(plus, "plus")]
    if not parts:
        raise InputError('nothing is asked; give a text, a picture, or plus=["..."]')
    parts += [_part(term, -1.0) for term in _several(minus, "minus")]
    sources = [source for _, source in parts]
    texts = [source for source in sources if isinstance(source, str)]
    pictures = [source for source in sources if not isinstance(source, str)]
    from_texts = encoder.texts(texts) if texts else None
    from_pictures = encoder.images(pictures) if pictures else None
    text_rows = iter(from_texts.vectors if from_texts is not None else ())
    picture_rows = iter(from_pictures.vectors if from_pictures is not None else ())
    total = np.zeros(encoder.identity.dimensions, np.float64)
    for weight, source in parts:
        total += weight * next(text_rows if isinstance(source, str) else picture_rows).astype(np.float64)
    length = float(np.linalg.norm(total))
    if length < 1e-4:
        raise InputError("the parts of the query cancel each other out; leave one of them out or change its weight")
    first = from_texts if isinstance(sources[0], str) else from_pictures
    return Query(
        vector=(total / length).astype(np.float32),
        label=" ".join(_label(weight, source, place) for place, (weight, source) in enumerate(parts)),
        text=None if pictures else sources[0],
        decision=first.decision if first is not None else None,
    )


def whole(value: object, name: str, least: int) -> int:
    """Read a whole number.

    Raises:
        InputError: when it is something else, or less than the least.
    """
    number = operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    if number is None or number < least:
        raise InputError(f"{name}={value!r} is not a whole number from {least}")
    return number


def _several(terms: Iterable[Term], name: str) -> list[Term]:
    # One text or picture is taken for itself, not letter by letter.
    if isinstance(terms, (tuple, list)):
        weighted = len(terms) == 2 and isinstance(terms[0], (int, float))
        return [tuple(terms)] if weighted else list(terms)
    if terms is None:
        raise InputError(f"{name}=None is no list of texts or pictures; leave it out")
    return [terms]


def _part(term: Term, sign: float) -> tuple[float, Any]:
    weight: Any = 1.0
    source = term
    if isinstance(term, (tuple, list)):
        if len(term) != 2:
            raise InputError(f"{term!r} is not a pair (weight, text or picture)")
        weight, source = term
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0.0 < weight < math.inf:
        raise InputError(f"weight {weight!r} is not a positive number; use minus= to take something away")
    if isinstance(source, str) and not source.strip():
        raise InputError("the query text is empty; say what to look for")
    if source is None:
        raise InputError("a part of the query is None; give a text or a picture")
    return sign * float(weight), source


def _label(weight: float, source: Any, place: int) -> str:
    name = source if isinstance(source, str) else os.fspath(source) if isinstance(source, os.PathLike) else "[picture]"
    sign = "-" if weight < 0 else "+" if place else ""
    size = "" if abs(weight) == 1.0 else f"{abs(weight):g}:"
    return f"{sign}{size}{name}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """The best pictures for a query.

    Attributes:
        ids: int64 (n,), best first.
        scores: float32 (n,).
        judgement: their relevance.
        places: intp (m,), which of them to show: relevant enough, and no near duplicates if grouped.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    judgement: Judgement
    places: NDArray[np.intp]


def ranked(
    index: Index,
    encoder: GalleryEncoder,
    query: Query,
    *,
    wanted: int,
    allowed: NDArray[np.int64] | None,
    min_relevance: float | None,
    group: bool,
) -> Ranking:
    """Rank the allowed pictures, as far as it takes to show the wanted number."""
    depth = max(wanted, CALIBRATION_DEPTH)
    considered = len(index) if allowed is None else len(allowed)
    while True:
        ids, scores = index.nearest(query.vector, depth, allowed)
        found = index.vectors[np.searchsorted(index.ids, ids)]
        judgement = judged(encoder, query.vector, found, query.text, considered, min_relevance)
        kept = judgement.kept
        places = distinct(index, ids[:kept], wanted) if group else np.arange(min(wanted, kept))
        if not group or len(places) == wanted or kept < depth:
            return Ranking(ids=ids, scores=scores, judgement=judgement, places=places)
        depth *= 4


def distinct(index: Index, ids: NDArray[np.int64], wanted: int) -> NDArray[np.intp]:
    """Pick, best first, pictures of which none is a near duplicate of a better one.

    Args:
        index: holds the vectors.
        ids: int64 (n,), best first.
        wanted: how many to pick at most.

    Returns:
        intp (m,), places in `ids` of the picked ones, ascending.
    """
    vectors = index.vectors
    rows = np.searchsorted(index.ids, ids)
    picked: list[int] = []
    kept = np.empty((min(wanted, len(ids)), index.dimensions), np.float32)
    for place, row in enumerate(rows):
        if len(picked) == wanted:
            break
        vector = vectors[row]
        if picked and float((kept[: len(picked)] @ vector).max()) >= DUPLICATE_COSINE:
            continue
        kept[len(picked)] = vector
        picked.append(place)
    return np.array(picked, np.intp)


def folded(index: Index, picked: NDArray[np.int64], allowed: NDArray[np.int64] | None) -> list[list[int]]:
    """Name the near duplicates of each picked picture; one that is near several counts with the best.

    Args:
        index: holds the vectors.
        picked: int64 (n,), best first.
        allowed: int64 (m,) ascending ids to look among; None for all.
    """
    vectors = index.vectors
    kept = vectors[np.searchsorted(index.ids, picked)]
    chosen = set(picked.tolist())
    near_ids: list[list[int]] = [[] for _ in picked]
    everything = np.arange(len(index)) if allowed is None else np.searchsorted(index.ids, allowed)
    for start in range(0, len(everything), _ROWS_AT_ONCE):
        some = everything[start : start + _ROWS_AT_ONCE]
        near = vectors[some] @ kept.T >= DUPLICATE_COSINE
        for place in np.flatnonzero(near.any(axis=1)):
            number = int(index.ids[some[place]])
            if number not in chosen:
                near_ids[int(np.argmax(near[place]))].append(number)
    return near_ids
