"""The five tools that every agent has: search, count, describe, detect, notify."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from nearsight.agent.events import ANYTHING, counted_once, exactly, recorded, when
from nearsight.agent.tools import Outcome, Parameter, Tool
from nearsight.errors import InputError, NearsightError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nearsight.gallery import Gallery
    from nearsight.values import Hit, Hits
    from nearsight_npu import Policy

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


class BuiltIn:
    """Nearsight's own tools over one gallery; models are loaded when the first question needs them.

    Args:
        gallery: where `search` and `count` look; None for an agent that only looks at pictures.
        detector: what `detect` asks; None makes a `Detector` when it is first needed.
        captioner: what `describe` asks; None makes a `Captioner` when it is first needed.
        policy: for the models made here.
        notify: what `notify` calls with the message.
    """

    def __init__(
        self,
        *,
        gallery: Gallery | None,
        detector: Any = None,
        captioner: Any = None,
        policy: Policy | None = None,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        self.gallery = gallery
        self.policy = policy
        self._given_detector, self._given_captioner, self._notify = detector, captioner, notify

    def tools(self, language: str = "en") -> tuple[Tool, ...]:
        """Give the five tools; `describe` answers in the language given."""
        text = [Parameter(name=name, kind="str", default="") for name in ("camera", "after", "before")]
        query, image = Parameter(name="query", kind="str"), Parameter(name="image", kind="str")
        labels = Parameter(name="labels", kind="list[str]")
        k = Parameter(name="k", kind="int", default=5)
        return (
            _tool("search", "find the pictures that show something", self.search, query, k, *text),
            _tool("count", "count what was recorded, or the pictures that show something", self.count, query, *text),
            _tool("describe", "say what a picture file shows", partial(self.describe, language=language), image),
            _tool("detect", "find things in a picture file by their names", self.detect, image, labels),
            _tool("notify", "send a message", self.notify, Parameter(name="message", kind="str"), has_effects=True),
        )

    def cameras(self) -> tuple[str, ...]:
        """Give the names of the cameras in the gallery."""
        return () if self.gallery is None else tuple(name for name in self.gallery.stats().cameras if name)

    def search(self, query: str, k: int, camera: str, after: str, before: str) -> Outcome:
        """Find pictures; recorded events where the query names a class and there are some; the newest for ""."""
        gallery, filters = self._narrowed(camera, after, before)
        if not query.strip():
            return _newest(self._all(gallery, filters), k)
        events = recorded(gallery, query, filters)
        if events:
            items = tuple(reversed(events))[:k]
            return Outcome(
                result={"basis": "events", "matches": len(events), "hits": _plain(items)},
                found=len(events),
                items=items,
            )
        hits = gallery.search(query, k=k, **filters)
        told = {"basis": "pictures", "matches": len(hits), "hits": _plain(hits.items), **_judged(hits)}
        return Outcome(result=told, found=len(hits), items=hits.items, decision=hits.decision)

    def count(self, query: str, camera: str, after: str, before: str) -> Outcome:
        """Count recorded things exactly, else pictures above the relevance threshold; all pictures for ""."""
        gallery, filters = self._narrowed(camera, after, before)
        if not query.strip():
            everything = _newest(self._all(gallery, filters), SHOWN)
            return replace(everything, result={**everything.result, "count": everything.found})
        events = recorded(gallery, query, filters)
        if events is not None:
            kinds, things = counted_once(events)
            told = {"basis": "events", "kinds": kinds, "count": len(things), "events": len(events)}
            told["uncounted"] = [] if camera else self._without_events(gallery, query)
            shown = things[:SHOWN]
            return Outcome(result={**told, "hits": _plain(shown)}, found=len(things), items=shown)
        hits = gallery.search(query, k=max(1, len(gallery)), **filters)
        told = {"basis": "pictures", "count": len(hits), "estimate": True, **_judged(hits)}
        shown = hits.items[:SHOWN]
        return Outcome(result={**told, "hits": _plain(shown)}, found=len(hits), items=shown, decision=hits.decision)

    def describe(self, image: str, *, language: str) -> Outcome:
        """Caption a picture file."""
        said = self._captioner.caption(image, language=language)
        told = {"text": said.text, "confidence": said.confidence}
        return Outcome(result=told, found=int(bool(said.text)), decision=said.decision)

    def detect(self, image: str, labels: list[str]) -> Outcome:
        """Find things in a picture file."""
        found = self._detector.detect(image, labels)
        boxes = [
            {"label": label, "score": round(float(score), 4), "box_xyxy": [round(float(side), 1) for side in box]}
            for label, score, box in zip(found.labels, found.scores, found.boxes_xyxy, strict=True)
        ]
        told = {"detections": boxes, "counts": {label: found.labels.count(label) for label in labels}}
        told["unjudged"] = list(found.unjudged)
        similar = {label for label, route in zip(found.labels, found.routes, strict=True) if route == "similar"}
        return Outcome(result={**told, "similar": sorted(similar)}, found=len(boxes), decision=found.decision)

    def notify(self, message: str) -> Outcome:
        """Hand a message to the function that was given for it."""
        if self._notify is None:
            raise InputError("a message was to be sent; there is nowhere to send it; give Agent(notify=function)")
        try:
            self._notify(message)
        except OSError as error:
            raise UnsentError(f"the message could not be sent: {error.strerror or error}") from error
        return Outcome(result={"sent": message}, found=1)

    @cached_property
    def _detector(self) -> Any:
        if self._given_detector is not None:
            return self._given_detector
        from nearsight.detect import Detector

        return Detector(policy=self.policy)

    @cached_property
    def _captioner(self) -> Any:
        if self._given_captioner is not None:
            return self._given_captioner
        from nearsight.caption import Captioner

        return Captioner(policy=self.policy)

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


def _tool(
    name: str, summary: str, call: Callable[..., Outcome], *parameters: Parameter, has_effects: bool = False
) -> Tool:
    return Tool(name=name, summary=summary, parameters=parameters, call=call, own=True, has_effects=has_effects)


def _newest(everything: Hits, k: int) -> Outcome:
    """Take the newest pictures."""
    hits = sorted(everything.items, key=when, reverse=True)[:k]
    items = tuple(exactly(hit) for hit in hits)
    total = everything.total_considered
    told = {"basis": "all", "matches": total, "total_considered": total}
    return Outcome(result={**told, "hits": _plain(items)}, found=total, items=items)


def _plain(items: tuple[Hit, ...]) -> list[dict[str, Any]]:
    return [hit.to_dict() for hit in items]
