"""Recorded events among a gallery's pictures: what `nearsight watch` saw, counted instead of guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nearsight.gallery import Gallery
    from nearsight.values import Hit

KIND = "event"
CROSSING, APPEARED = "crossing", "appeared"
# Any text will do where metadata decide and relevance does not.
ANYTHING = "photo"


def recorded(gallery: Gallery, query: str, filters: dict[str, Any]) -> tuple[Hit, ...] | None:
    """Give the events about a thing that pass the filters, oldest first.

    Args:
        gallery: where to look.
        query: what is asked for.
        filters: `camera`, `after` and `before` of `Gallery.search`.

    Returns:
        The events; None where the gallery (or the camera) has never recorded such a thing, so that pictures must be
        looked at.
    """
    # A watch keeps the words that it was told to look for; which of them the query means is a matter of the lexicon.
    ever = _events(gallery, {"camera": filters["camera"]})
    labels = {label for label in {str(hit.metadata.get("label")) for hit in ever} if _is_one(label, query)}
    if not labels:
        return None
    found = (hit for hit in _events(gallery, filters) if hit.metadata.get("label") in labels)
    return tuple(exactly(hit) for hit in sorted(found, key=when))


def exactly(hit: Hit) -> Hit:
    """Say of a hit that metadata chose that it is what was asked for; its likeness to the stand-in says nothing."""
    return replace(hit, score=0.0, relevance=1.0)


def _events(gallery: Gallery, filters: dict[str, Any]) -> tuple[Hit, ...]:
    return gallery.search(ANYTHING, k=max(1, len(gallery)), min_relevance=0, where={"kind": KIND}, **filters).items


def _is_one(label: str, query: str) -> bool:
    """Tell whether a thing with this label is what a query asks for: a "汽车" is one of the "cars" and "vehicles"."""
    from nearsight.detect.lexicon import meaning, normalised

    # Words that the lexicon does not know are compared as they are, one or many.
    if normalised(label).removesuffix("s") == normalised(query).removesuffix("s"):
        return True
    held, asked = meaning(label), meaning(query)
    return held is not None and asked is not None and asked.exact and set(held.classes) <= set(asked.classes)


def counted_once(events: tuple[Hit, ...]) -> tuple[dict[str, dict[str, int]], tuple[Hit, ...]]:
    """Pick one event for each thing that was seen: crossings of a line at a camera that has any, else appearances.

    Args:
        events: oldest first.

    Returns:
        How many at each camera, by kind of event, and the first of each track; the same track of one run
        counts once.
    """
    crossed = {hit.camera for hit in events if hit.metadata.get("event") == CROSSING}
    first: dict[tuple[Any, ...], Hit] = {}
    kinds: dict[str, dict[str, int]] = {}
    for hit in events:
        kind = CROSSING if hit.camera in crossed else APPEARED
        if hit.metadata.get("event") == kind and first.setdefault(_identity(hit), hit) is hit:
            places = kinds.setdefault(kind, {})
            places[hit.camera or ""] = places.get(hit.camera or "", 0) + 1
    return kinds, tuple(first.values())


def when(hit: Hit) -> str:
    """Give a key by which hits are put in the order of time; those without one come first."""
    return "" if hit.captured_at is None else hit.captured_at.replace(tzinfo=None).isoformat()


def _identity(hit: Hit) -> tuple[Any, ...]:
    track = hit.metadata.get("track")
    # Without a track each event stands for itself. Track numbers start anew with each run of the watch; where none is
    # stated, with each day.
    run = hit.metadata.get("run") or when(hit)[:10]
    return (str(hit.path),) if track is None else (hit.camera, hit.metadata.get("label"), run, track)
