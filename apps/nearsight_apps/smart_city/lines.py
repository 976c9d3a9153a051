"""Count what crosses a line; pure.

A line has two ends. Standing at `start` and looking towards `end`, a crossing from the left hand to the right hand is
"in", the other way "out"; so over a line drawn from left to right, downwards is in. What is watched is one point of the
box. A band on both sides of the line must be left on the other side before a crossing counts, so that a box that
trembles on the line does not count again and again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearsight_apps.smart_city.tracking import Track

# Half the band's width as a share of the box's shorter side: a detector's boxes tremble in proportion to their size.
BAND = 0.1
POINTS = ("centre", "foot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Where to count.

    Attributes:
        name: what reports call it.
        start, end: (x, y) as fractions of the frame, 0 to 1, y downwards.
        labels: what is counted over it.
        point: which point of a box is watched: "centre", or "foot" (the middle of its lower edge: where a thing seen
            from the side stands on the ground).
    """

    name: str
    start: tuple[float, float]
    end: tuple[float, float]
    labels: tuple[str, ...]
    point: str = "centre"


@dataclass(slots=True)
class _Walk:
    """Where one track is, as seen from one line: its counted side, its last distance, where it last cut the line."""

    side: int = 0
    distance: float = 0.0
    along: float = 0.0
    cut: float | None = None


@dataclass(slots=True, kw_only=True)
class Counter:
    """Remembers on which side of one line each track is.

    Attributes:
        line: where to count.
    """

    line: Line
    _walks: dict[int, _Walk] = field(default_factory=dict)

    def walked(self, track: Track, size_wh: tuple[int, int]) -> list[str]:
        """Take in where a track has been since the last frame; give its crossings, at most one but for odd tracks."""
        if track.label not in self.line.labels:
            return []
        steps = [self.step(track.number, box, size_wh) for box in track.path]
        return [direction for direction in steps if direction is not None]

    def step(self, number: int, box_xyxy: Sequence[float], size_wh: tuple[int, int]) -> str | None:
        """Take in where a track is now.

        Args:
            number: of the track.
            box_xyxy: its box in pixels.
            size_wh: of the frame, in pixels.

        Returns:
            "in" or "out" when it has crossed, else None.
        """
        walk = self._walks.setdefault(number, _Walk())
        distance, along = self._seen_from_line(box_xyxy, size_wh)
        if walk.distance * distance < 0:
            share = walk.distance / (walk.distance - distance)
            walk.cut = walk.along + share * (along - walk.along)
        if distance:
            walk.distance, walk.along = distance, along
        band = BAND * min(box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1])
        side = 0 if abs(distance) <= band else int(math.copysign(1, distance))
        if side in {0, walk.side}:
            return None
        came_from, walk.side = walk.side, side
        # Around the end of the line is not over it.
        if came_from == 0 or walk.cut is None or not 0 <= walk.cut <= 1:
            return None
        return "in" if side > 0 else "out"

    def forget(self, alive: set[int]) -> None:
        """Forget all tracks but these."""
        self._walks = {number: walk for number, walk in self._walks.items() if number in alive}

    def state(self) -> dict[str, Any]:
        """Give everything remembered as JSON-able values."""
        return {str(number): [w.side, w.distance, w.along, w.cut] for number, w in self._walks.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._walks = {int(number): _Walk(*values) for number, values in state.items()}

    def _seen_from_line(self, box_xyxy: Sequence[float], size_wh: tuple[int, int]) -> tuple[float, float]:
        """Give the distance from the line in pixels (right hand positive), and the place along it (0 start, 1 end)."""
        x1, y1, x2, y2 = box_xyxy
        x, y = (x1 + x2) / 2, (y1 + y2) / 2 if self.line.point == "centre" else y2
        (start_x, start_y), (end_x, end_y) = (
            (x_share * size_wh[0], y_share * size_wh[1]) for x_share, y_share in (self.line.start, self.line.end)
        )
        right, down = end_x - start_x, end_y - start_y
        length = math.hypot(right, down)
        return (
            ((y - start_y) * right - (x - start_x) * down) / length,
            ((x - start_x) * right + (y - start_y) * down) / length**2,
        )
