"""A picture of what was measured: each graph's files by size and speed, drawn as SVG inside the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from nearsight_demos.cards import Html

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 18, 46
# A colour for each way to store weights; the same for all that compute in integers.
COLOURS = {"fp32": "#6b7280", "fp16": "#2563eb", "int8": "#2f8f5b", "a8w8": "#2f8f5b", "w8": "#d0921f", "w4": "#b4477f"}
OTHER = "#7c5cc4"
STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One file of a graph on one target.

    Attributes:
        graph: which graph, such as "nano.image".
        precision: which of its files.
        where: the target and how it is set up.
        mb: size of the file.
        ms: milliseconds of a run.
        chosen: whether answers come from it.
    """

    graph: str
    precision: str
    where: str
    mb: float
    ms: float
    chosen: bool


def chart(points: Sequence[Point], say: Callable[..., str]) -> Html:
    """Draw points by their time (across) and size (upwards), both in steps of the same factor; full: chosen."""
    across = _Axis([point.ms for point in points], LEFT, WIDTH - RIGHT)
    upwards = _Axis([point.mb for point in points], HEIGHT - BOTTOM, TOP)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        *(_upright(across.place(tick), f"{tick:g}") for tick in across.ticks),
        *(_level(upwards.place(tick), f"{tick:g}") for tick in upwards.ticks),
        f"<text x='{middle:.0f}' y='{HEIGHT - 8}' text-anchor='middle'>{escape(say('ms a run'))}</text>",
        f"<text x='12' y='{TOP + 2}' dominant-baseline='middle'>MB</text>",
        *_families(points, across, upwards),
        # The chosen ones last, so that none is hidden.
        *(_dot(point, across, upwards) for point in sorted(points, key=lambda point: point.chosen)),
        *_names(points, across, upwards),
        *_legend(points),
    ]
    label = escape(say("measured picture"), quote=True)
    return Html(
        f"<svg class='ns-chart' viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{label}'>{''.join(parts)}</svg>"
    )


class _Axis:
    """Places values between two ends of the picture, equal factors at equal distances."""

    def __init__(self, values: Iterable[float], first: float, last: float) -> None:
        found = [value for value in values if value > 0]
        marks = [step * 10.0**power for power in range(-4, 7) for step in STEPS]
        low = max((mark for mark in marks if mark < min(found)), default=marks[0])
        high = min((mark for mark in marks if mark > max(found)), default=marks[-1])
        self.ticks = [mark for mark in marks if low <= mark <= high]
        self._low, self._factor = low, math.log(high / low)
        self._first, self._span = first, last - first

    def place(self, value: float) -> float:
        return self._first + self._span * math.log(max(value, self._low) / self._low) / self._factor


def _upright(x: float, text: str) -> str:
    line = f"<line class='ns-rule' x1='{x:.1f}' y1='{TOP}' x2='{x:.1f}' y2='{HEIGHT - BOTTOM}'/>"
    return f"{line}<text x='{x:.1f}' y='{HEIGHT - BOTTOM + 16}' text-anchor='middle'>{text}</text>"


def _level(y: float, text: str) -> str:
    line = f"<line class='ns-rule' x1='{LEFT}' y1='{y:.1f}' x2='{WIDTH - RIGHT}' y2='{y:.1f}'/>"
    return f"{line}<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{text}</text>"


def _dot(point: Point, across: _Axis, upwards: _Axis) -> str:
    colour = COLOURS.get(point.precision, OTHER)
    told = f"{point.graph}: {point.precision}, {point.where}: {point.ms:.2f} ms, {point.mb:.1f} MB"
    x, y = across.place(point.ms), upwards.place(point.mb)
    size, fill = (6, colour) if point.chosen else (4.5, "none")
    circle = f"cx='{x:.1f}' cy='{y:.1f}' r='{size}' fill='{fill}' stroke='{colour}' stroke-width='1.6'"
    return f"<circle {circle}><title>{escape(told)}</title></circle>"


def _families(points: Sequence[Point], across: _Axis, upwards: _Axis) -> list[str]:
    """Join what was taken for a graph with what else it could have been."""
    taken = {point.graph: point for point in points if point.chosen}
    pairs = [(taken[point.graph], point) for point in points if not point.chosen and point.graph in taken]
    return [
        f"<line class='ns-family' x1='{across.place(one.ms):.1f}' y1='{upwards.place(one.mb):.1f}' "
        f"x2='{across.place(other.ms):.1f}' y2='{upwards.place(other.mb):.1f}'/>"
        for one, other in pairs
    ]


def _names(points: Sequence[Point], across: _Axis, upwards: _Axis) -> list[str]:
    """Write each graph's name above what was chosen for it."""
    return [
        f"<text x='{across.place(point.ms):.1f}' y='{upwards.place(point.mb) - 10:.1f}' text-anchor='middle'>"
        f"{escape(point.graph)}</text>"
        for point in points
        if point.chosen
    ]


def _legend(points: Sequence[Point]) -> list[str]:
    found = sorted({point.precision for point in points})
    return [
        f"<circle cx='{WIDTH - RIGHT + 70}' cy='{TOP + 6 + 20 * row}' r='5' fill='{COLOURS.get(name, OTHER)}'/>"
        f"<text x='{WIDTH - RIGHT + 82}' y='{TOP + 10 + 20 * row}'>{escape(name)}</text>"
        for row, name in enumerate(found)
    ]
