"""Follow boxes from frame to frame; pure: boxes in, tracks out.

Constant velocity, one Kalman filter for each of a box's four coordinates; detections are assigned to predictions
exactly (Hungarian method), by overlap and distance of centres together; those of low score only keep tracks alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nearsight_apps.smart_city.assignment import likeness, matched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# How far a box is believed to be off, in box sizes: by place, by velocity a frame, and ten times that at first. Source:
# DeepSORT (Wojke et al. 2017), as ByteTrack carries it, with the width for x and w as in BoT-SORT (Aharon et al. 2022).
_PLACE_NOISE, _VELOCITY_NOISE, _FIRST_VELOCITY = 1 / 20, 1 / 160, 10.0
# Least likeness (see `likeness`) of a detection and a prediction: boxes of one size may lie half a box apart, but one
# of low score must overlap well. Source: the first is ours, the second stands for the IoU of .5 in ByteTrack's second
# stage (Zhang et al. 2022).
_NEAR, _FAINT_NEAR = -0.3, 0.3
_LEAST_SIDE = 1.0


@dataclass(slots=True, kw_only=True)
class Motion:
    """Place and velocity of a box with their uncertainty; each list has four numbers: centre x, y, width, height.

    Attributes:
        place: in pixels.
        velocity: in pixels a frame.
        place_variance, velocity_variance, covariance: of the two, in squared pixels.
    """

    place: NDArray[np.float64]
    velocity: NDArray[np.float64]
    place_variance: NDArray[np.float64]
    velocity_variance: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def at(cls, place: NDArray[np.float64]) -> Self:
        """Begin at a place, with unknown velocity."""
        size = _size(place)
        return cls(
            place=place,
            velocity=np.zeros(4),
            place_variance=(2 * _PLACE_NOISE * size) ** 2,
            velocity_variance=(_FIRST_VELOCITY * _VELOCITY_NOISE * size) ** 2,
            covariance=np.zeros(4),
        )

    def predict(self) -> None:
        """Go on by one frame."""
        size = _size(self.place)
        self.place = self.place + self.velocity
        self.place[2:] = np.maximum(self.place[2:], _LEAST_SIDE)
        self.place_variance = (
            self.place_variance + 2 * self.covariance + self.velocity_variance + (_PLACE_NOISE * size) ** 2
        )
        self.covariance = self.covariance + self.velocity_variance
        self.velocity_variance = self.velocity_variance + (_VELOCITY_NOISE * size) ** 2

    def correct(self, seen: NDArray[np.float64]) -> None:
        """Take in what was seen; the textbook Kalman update, for each coordinate alone."""
        total = self.place_variance + (_PLACE_NOISE * _size(self.place)) ** 2
        gain, velocity_gain = self.place_variance / total, self.covariance / total
        surprise = seen - self.place
        self.place = self.place + gain * surprise
        self.velocity = self.velocity + velocity_gain * surprise
        self.velocity_variance = self.velocity_variance - velocity_gain * self.covariance
        self.covariance = (1 - gain) * self.covariance
        self.place_variance = (1 - gain) * self.place_variance


@dataclass(slots=True, kw_only=True)
class Track:
    """One thing that is followed.

    Attributes:
        number: its own within one tracker, from 1; 0 until it is confirmed.
        label: what it is.
        box_xyxy: where it was last seen, pixels; as the detector said, not smoothed.
        score: of that detection.
        seen_s: time of that frame.
        hits: frames in which it was seen.
        missed: frames since it was seen.
        path: boxes, the last of them `box_xyxy`, that no update has given back yet: one, but all since the first in the
            frame that confirms the track.
        motion: where it is expected.
    """

    number: int
    label: str
    box_xyxy: tuple[float, ...]
    score: float
    seen_s: float
    hits: int = 1
    missed: int = 0
    path: list[tuple[float, ...]]
    motion: Motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One detection: (x1, y1, x2, y2) in pixels, score 0 to 1, label."""

    box_xyxy: tuple[float, ...]
    score: float
    label: str


@dataclass(slots=True, kw_only=True)
class Tracker:
    """Gives the detections of one camera their identity over time.

    Attributes:
        sure: score from which a detection may begin a track; lower ones only continue a track.
        confirm: frames in a row in which a thing must be seen before it counts.
        patience_s: seconds for which a confirmed track that is not seen is remembered; one frame in any case.
        tracks: those that are alive.
        given: numbers given so far.
    """

    sure: float = 0.5
    confirm: int = 3
    patience_s: float = 1.0
    tracks: list[Track] = field(default_factory=list)
    given: int = 0

    def update(self, found: Sequence[Found], time_s: float) -> list[Track]:
        """Take in what was found in the next frame.

        Args:
            found: detections, of any score.
            time_s: time of the frame in seconds, never less than before.

        Returns:
            The confirmed tracks that were seen in this frame, by number.
        """
        for track in self.tracks:
            track.motion.predict()
            track.missed += 1
        for label in sorted({detection.label for detection in found}):
            mine = [detection for detection in found if detection.label == label]
            clear = [detection for detection in mine if detection.score >= self.sure]
            faint = [detection for detection in mine if detection.score < self.sure]
            waiting = [track for track in self.tracks if track.label == label]
            waiting, new = self._continued(waiting, clear, _NEAR, time_s)
            self._continued([track for track in waiting if track.number], faint, _FAINT_NEAR, time_s)
            self._begin(new, time_s)
        self.tracks = [track for track in self.tracks if self._remembered(track, time_s)]
        return sorted((track for track in self.tracks if track.number and not track.missed), key=lambda t: t.number)

    def state(self) -> dict[str, Any]:
        """Give everything remembered as JSON-able values."""
        return {"given": self.given, "tracks": [_plain(track) for track in self.tracks]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.given = state["given"]
        self.tracks = [_revived(values) for values in state["tracks"]]

    def _continued(
        self, tracks: list[Track], found: list[Found], limit: float, time_s: float
    ) -> tuple[list[Track], list[Found]]:
        """Pair them and take in the pairs; give the tracks and detections that stay alone."""
        expected = [corners(track.motion.place) for track in tracks]
        pairs = matched(likeness(expected, [detection.box_xyxy for detection in found]), limit)
        for row, column in pairs:
            track, detection = tracks[row], found[column]
            track.motion.correct(_place(detection.box_xyxy))
            track.box_xyxy, track.score, track.seen_s = detection.box_xyxy, detection.score, time_s
            track.path = [detection.box_xyxy] if track.number else [*track.path, detection.box_xyxy]
            track.hits, track.missed = track.hits + 1, 0
            self._confirm(track)
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        return (
            [track for row, track in enumerate(tracks) if row not in rows],
            [detection for column, detection in enumerate(found) if column not in columns],
        )

    def _begin(self, found: list[Found], time_s: float) -> None:
        for detection in found:
            track = Track(
                number=0,
                label=detection.label,
                box_xyxy=detection.box_xyxy,
                score=detection.score,
                seen_s=time_s,
                path=[detection.box_xyxy],
                motion=Motion.at(_place(detection.box_xyxy)),
            )
            self._confirm(track)
            self.tracks.append(track)

    def _confirm(self, track: Track) -> None:
        if not track.number and track.hits >= self.confirm:
            self.given += 1
            track.number = self.given

    def _remembered(self, track: Track, time_s: float) -> bool:
        if track.missed == 0:
            return True
        return track.number > 0 and (track.missed == 1 or time_s - track.seen_s <= self.patience_s)


def corners(place: NDArray[np.float64]) -> tuple[float, ...]:
    """Turn (centre x, centre y, width, height) into (x1, y1, x2, y2)."""
    half = place[2:] / 2
    return (*(place[:2] - half).tolist(), *(place[:2] + half).tolist())


def _place(box_xyxy: Sequence[float]) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box_xyxy
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def _size(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(place[[2, 3, 2, 3]], _LEAST_SIDE)


def _plain(track: Track) -> dict[str, Any]:
    values = {name: getattr(track, name) for name in Track.__slots__}
    values["motion"] = {name: getattr(track.motion, name).tolist() for name in Motion.__slots__}
    return values


def _revived(values: dict[str, Any]) -> Track:
    motion = Motion(**{name: np.array(numbers) for name, numbers in values["motion"].items()})
    path = [tuple(box) for box in values["path"]]
    return Track(**{**values, "box_xyxy": tuple(values["box_xyxy"]), "path": path, "motion": motion})
