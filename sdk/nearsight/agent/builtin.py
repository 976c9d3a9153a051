"""The five tools that every agent has: search, count, describe, detect, notify."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nearsight.agent.events import ANYTHING, counted_once, exactly, recorded, when
from nearsight.agent.tools import Outcome, Tool, parameters_of, summary_of
from nearsight.errors import InputError, NearsightError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight.gallery import Gallery
    from nearsight.values import Hit, Hits
    from nearsight_npu import Decision, Policy

# Hits that stand behind a count; the number itself is not limited.
SHOWN = 20


class UnknownCameraError(InputError):
    """No picture of the gallery bears this camera's name."""

    def __init__(self, camera: str, cameras: tuple[str, ...]) -> None:
        there = ", ".join(cameras) if cameras else "none with a name"
        super().__init__(f'there is no camera "{camera}" in this gallery; there are {there}; ask for one of them')
        self.camera, self.cameras = camera, cameras


class UnsentError(NearsightError):
    """The function that was given for messages could not send one."""


@dataclass(frozen=True, kw_only=True)
class BuiltIn:
    """Nearsight's own tools, with what `Agent` was given for them; models are made when they are first needed."""

    gallery: Gallery | None
    detector: Any = None
    captioner: Any = None
    policy: Policy | None = None
    send: Callable[[str], None] | None = None

    def tools(self, language: str = "en") -> tuple[Tool, ...]:
        """Give the five tools; `describe` answers in the language given."""

        def describe(image: str) -> Outcome:
            """Say what a picture file shows."""
            said = self._captioner.caption(image, language=language)
            told = {"text": said.text, "confidence": said.confidence}
            return Outcome(result=told, found=int(bool(said.text)), decision=said.decision)

        return tuple(
            Tool(
                name=call.__name__,
                summary=summary_of(call),
                parameters=parameters_of(call),
                call=call,
                own=True,
                has_effects=call == self.notify,
            )
            for call in (self.search, self.count, describe, self.detect, self.notify)
        )

    def cameras(self) -> tuple[str, ...]:
        """Give the names of the cameras in the gallery."""
        return () if self.gallery is None else tuple(name for name in self.gallery.stats().cameras if name)

    def search(self, query: str, k: int = 5, camera: str = "", after: str = "", before: str = "") -> Outcome:
        """Find the pictures, or the recorded events, that show something; the newest for an empty query."""
        gallery, filters = self._narrowed(camera, after, before)
        if not query.strip():
            return _newest(self._all(gallery, filters), k)
        events = recorded(gallery, query, filters)
        if events:
            return _outcome({"basis": "events", "matches": len(events)}, len(events), tuple(reversed(events))[:k])
        hits = gallery.search(query, k=k, **filters)
        told = {"basis": "pictures", "matches": len(hits), **_judged(hits)}
        return _outcome(told, len(hits), hits.items, hits.decision)

    def count(self, query: str, camera: str = "", after: str = "", before: str = "") -> Outcome:
        """Count what was recorded, else the pictures that show something; all pictures for an empty query."""
        gallery, filters = self._narrowed(camera, after, before)
        if not query.strip():
            everything = _newest(self._all(gallery, filters), SHOWN)
            return replace(everything, result={**everything.result, "count": everything.found})
        events = recorded(gallery, query, filters)
        if events is not None:
            kinds, things = counted_once(events)
            told = {"basis": "events", "kinds": kinds, "count": len(things), "events": len(events)}
            told["uncounted"] = [] if camera else self._without_events(gallery, query)
            return _outcome(told, len(things), things[:SHOWN])
        hits = gallery.search(query, k=max(1, len(gallery)), **filters)
        told = {"basis": "pictures", "count": len(hits), "estimate": True, **_judged(hits)}
        return _outcome(told, len(hits), hits.items[:SHOWN], hits.decision)

    def detect(self, image: str, labels: list[str]) -> Outcome:
        """Find things in a picture file by their names."""
        found = self._detector.detect(image, labels)
        boxes = [
            {"label": label, "score": round(float(score), 4), "box_xyxy": [round(float(side), 1) for side in box]}
            for label, score, box in zip(found.labels, found.scores, found.boxes_xyxy, strict=True)
        ]
        told = {"detections": boxes, "counts": {label: found.labels.count(label) for label in labels}}
        told["unjudged"] = list(found.unjudged)
        similar = {label for label, route in zip(found.labels, found.routes, strict=True) if route == "similar"}
        # Of a word that no class covers, a chance above the limit is rare: not found says little.
        meaning = getattr(self._detector, "meaning", None)
        told["weak"] = [label for label in labels if meaning is not None and meaning(label)[1] == "crop"]
        return Outcome(result={**told, "similar": sorted(similar)}, found=len(boxes), decision=found.decision)

    def notify(self, message: str) -> Outcome:
        """Send a message."""
        if self.send is None:
            raise InputError("a message was to be sent; there is nowhere to send it; give Agent(notify=function)")
        try:
            self.send(message)
        except OSError as error:
            raise UnsentError(f"the message could not be sent: {error.strerror or error}") from error
        return Outcome(result={"sent": message}, found=1)

    @cached_property
    def _detector(self) -> Any:
        from nearsight.detect import Detector

        return Detector(policy=self.policy) if self.detector is None else self.detector

    @cached_property
    def _captioner(self) -> Any:
        from nearsight.caption import Captioner

        return Captioner(policy=self.policy) if self.captioner is None else self.captioner

    def _narrowed(self, camera: str, after: str, before: str) -> tuple[Gallery, dict[str, Any]]:
        """Turn the arguments of a tool into filters of the gallery.

        Raises:
            InputError: without a gallery; UnknownCameraError for a camera that it does not know.
        """
        if self.gallery is None:
            raise InputError("pictures were to be searched; the agent has no gallery; give Agent(gallery=...)")
        name = None
        if camera:
            known = {known.casefold(): known for known in self.cameras()}
            name = known.get(camera.casefold())
            if name is None:
                raise UnknownCameraError(camera, tuple(known.values()))
        return self.gallery, {"camera": name, "after": after or None, "before": before or None}

    def _all(self, gallery: Gallery, filters: dict[str, Any]) -> Hits:
        return gallery.search(ANYTHING, k=max(1, len(gallery)), min_relevance=0, **filters)

    def _without_events(self, gallery: Gallery, query: str) -> list[str]:
        """Name the cameras that never recorded such a thing: their pictures are not counted among events."""
        return [name for name in self.cameras() if recorded(gallery, query, {"camera": name}) is None]


def _judged(hits: Hits) -> dict[str, Any]:
    return {name: getattr(hits, name) for name in ("total_considered", "best_relevance", "min_relevance")}


def _newest(everything: Hits, k: int) -> Outcome:
    """Take the newest pictures."""
    hits = sorted(everything.items, key=when, reverse=True)[:k]
    total = everything.total_considered
    told = {"basis": "all", "matches": total, "total_considered": total}
    return _outcome(told, total, tuple(exactly(hit) for hit in hits))


def _outcome(told: dict[str, Any], found: int, items: tuple[Hit, ...], decision: Decision | None = None) -> Outcome:
    hits = [hit.to_dict() for hit in items]
    return Outcome(result={**told, "hits": hits}, found=found, items=items, decision=decision)
