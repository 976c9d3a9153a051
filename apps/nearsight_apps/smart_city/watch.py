"""Watch one camera: detect, follow, count, record; can be stopped at any moment and goes on where it was."""

from __future__ import annotations

import time
from collections import Counter as Tally
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

import nearsight as ns
from nearsight_apps.smart_city.config import complaint
from nearsight_apps.smart_city.events import APPEARED, CROSSING, Event, thumbnail
from nearsight_apps.smart_city.journal import Journal
from nearsight_apps.smart_city.state import State, begun
from nearsight_apps.smart_city.tracking import Found

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from nearsight_apps.smart_city.config import Config
    from nearsight_apps.smart_city.tracking import Track

# A detection from this share of `min_score` on still continues a track.
FAINT = 0.5
_LONG_AGO = datetime(2000, 1, 1)


class Detects(Protocol):
    """What is needed of a detector; `nearsight.Detector` is one."""

    @property
    def default_min_score(self) -> float:
        """Score from which a detection is to be believed."""

    def detect(self, image: Any, labels: Any, min_score: float | None = None) -> Any:
        """Give `boxes_xyxy`, `scores`, `labels` and `decision`."""

    def meaning(self, label: str) -> tuple[tuple[str, ...], str]:
        """Give the classes that answer a label, none where it cannot be judged, and by which route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What came of watching.

    Attributes:
        camera: its name.
        frames: frames looked at in this run.
        seconds: that this run took.
        skipped: pictures of the source that could not be read, as far as it was read.
        last_frame: index of the last frame that is done, in this run or before; -1 before the first.
        appeared: how many of each label, all runs together.
        crossings: (line, direction, label) and how many, all runs together.
        decision: how the last frame was judged; None when none was looked at.
    """

    camera: str
    frames: int
    seconds: float
    skipped: int
    last_frame: int
    appeared: dict[str, int]
    crossings: dict[tuple[str, str, str], int]
    decision: ns.Decision | None

    @property
    def frames_per_s(self) -> float:
        """Frames looked at a second, from decoding to the durable event."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Give the summary as JSON-able values."""
        return {
            "camera": self.camera,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_s": round(self.frames_per_s, 2),
            "skipped": self.skipped,
            "last_frame": self.last_frame,
            "appeared": self.appeared,
            "crossings": [
                {"line": line, "direction": direction, "label": label, "count": count}
                for (line, direction, label), count in self.crossings.items()
            ],
            "decision": None if self.decision is None else self.decision.to_dict(),
        }


class Watcher:
    """Watches as a configuration says; a context manager."""

    def __init__(
        self,
        config: Config,
        *,
        resume: bool = False,
        fresh: bool = False,
        detector: Detects | None = None,
        gallery: ns.Gallery | None = None,
    ) -> None:
        """Open camera, gallery and events; no frame is read yet.

        Args:
            config: what to watch.
            resume: go on after the last frame that is done; from the start when there is none.
            fresh: take out the events there are, with their pictures, and begin anew.
            detector: in place of `nearsight.Detector()`.
            gallery: in place of the one that the configuration names; the caller closes it.

        Raises:
            InputError: when there are events already and neither is chosen, the configuration has changed since,
                the detector cannot judge a label or takes two for one thing, or events cannot be written.
        """
        self.config = config
        self._frames, self._seconds = 0, 0.0
        self._decision: ns.Decision | None = None
        with ExitStack() as opened:
            camera = ns.Camera(config.source, name=config.camera, fps=config.fps, start=config.start)
            self._camera = opened.enter_context(camera)
            self._journal = opened.enter_context(closing(Journal(config.out)))
            if not (resume or fresh) and begun(config.out):
                raise ns.InputError(
                    f"{config.out} holds events already; go on after the last frame with --resume, or begin anew with "
                    "--fresh (it deletes them and their pictures)"
                )
            self._detector: Detects = ns.Detector() if detector is None else detector
            _require_distinct(config, self._detector)
            self._sure = self._detector.default_min_score if config.min_score is None else config.min_score
            found = opened.enter_context(ns.Gallery.open(config.gallery)) if gallery is None else gallery
            if fresh:
                _require_own(config, self._journal)
                self._journal.clear(found)
            self._state = State(config, self._sure)
            self._state.load(self._journal.events)
            self._state.keep()
            self._journal.begin(config.thumbnails, found, run=self._state.run, indexed=self._state.indexed)
            opened.callback(self._journal.settle)
            self._state.indexed = self._journal.indexed
            self._opened = opened.pop_all()

    def events(self, max_frames: int | None = None) -> Iterator[Event]:
        """Look at frame after frame and give what happens, each event when it is durable.

        Args:
            max_frames: stop after so many frames; None for all.

        Raises:
            CameraError: when the source cannot be read on; what happened before is kept.
            NearsightError: when the disk is full.
        """
        began = time.perf_counter()
        last = None if max_frames is None else self._frames + max_frames
        try:
            for frame in self._camera:
                if self._frames == last:
                    break
                if frame.index > self._state.done:
                    happened = self._look(frame)
                    self._frames += 1
                    yield from happened
        except ns.CameraError:
            self._state.keep()
            raise
        finally:
            self._seconds += time.perf_counter() - began
        self._state.keep()

    def summary(self) -> Summary:
        """Count what has happened so far."""
        events = self._journal.events
        crossings = Tally((str(e.line), str(e.direction), e.label) for e in events if e.event == CROSSING)
        return Summary(
            camera=self.config.camera,
            frames=self._frames,
            seconds=self._seconds,
            skipped=len(self._camera.skipped),
            last_frame=self._state.done,
            appeared=dict(sorted(Tally(event.label for event in events if event.event == APPEARED).items())),
            crossings=dict(sorted(crossings.items())),
            decision=self._decision,
        )

    def close(self) -> None:
        """Let go of everything; what happened is durable already."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self, frame: ns.Frame) -> list[Event]:
        """Do everything about one frame; when this returns, its events are durable."""
        state, known = self._state, self._state.tracker.given
        moment_s = (frame.captured_at.replace(tzinfo=None) - _LONG_AGO).total_seconds()
        seen = state.tracker.update(self._found(frame), moment_s)
        happened = [self._event(frame, track, APPEARED) for track in seen if track.number > known]
        for counter in state.counters:
            happened += [
                self._event(frame, track, CROSSING, counter.line.name, direction)
                for track in seen
                for direction in counter.walked(track, frame.size_wh)
            ]
            counter.forget({track.number for track in state.tracker.tracks})
        placed = [replace(event, thumbnail=self._journal.place_of(event)) for event in happened]
        fresh = [event for event in placed if self._journal.record(event, thumbnail(frame.pixels, event))]
        state.done, state.indexed = frame.index, self._journal.indexed
        state.keep(now=bool(placed))
        return fresh

    def _event(
        self, frame: ns.Frame, track: Track, kind: str, line: str | None = None, direction: str | None = None
    ) -> Event:
        return Event(
            time=frame.captured_at,
            camera=frame.camera,
            run=self._state.run,
            event=kind,
            label=track.label,
            track=track.number,
            score=track.score,
            box_xyxy=track.box_xyxy,
            frame=frame.index,
            line=line,
            direction=direction,
        )

    def _found(self, frame: ns.Frame) -> list[Found]:
        answer = self._detector.detect(frame.pixels, list(self.config.labels), min_score=FAINT * self._sure)
        self._decision = answer.decision
        return [
            Found(box_xyxy=tuple(map(float, box)), score=float(score), label=label)
            for box, score, label in zip(answer.boxes_xyxy, answer.scores, answer.labels, strict=True)
        ]


def _require_own(config: Config, journal: Journal) -> None:
    """Refuse to delete what another camera recorded.

    Raises:
        InputError: when there is such an event.
    """
    others = sorted({event.camera for event in journal.events} - {config.camera})
    if others:
        raise ns.InputError(
            f"{config.out} holds events of {', '.join(others)}, not of {config.camera}; name another file in [events] "
            "out, or delete that one yourself"
        )


def _require_distinct(config: Config, detector: Detects) -> None:
    """Refuse labels that no class answers, and two that one class answers: each thing would count twice."""
    owners: dict[str, str] = {}
    for label in config.labels:
        classes, _ = detector.meaning(label)
        if not classes:
            what = f"{label} cannot be judged by this detector; take out or name it otherwise"
            raise complaint(config.path, "detect", "labels", what)
        for name in classes:
            if name in owners:
                what = f"{owners[name]!r} and {label!r} are both seen as {name!r}, so each would count twice; keep one"
                raise complaint(config.path, "detect", "labels", what)
            owners[name] = label
