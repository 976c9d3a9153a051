"""What can be had for how many bytes and how much time: rows to choose from, as a table and as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from nearsight_npu.quantization.latency import timed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.mixed import Mixer

_PANEL, _GAP, _TOP, _HEIGHT = 330, 90, 50, 260  # of the picture, in pixels
_WORD_WIDE, _WORD_HIGH = 80, 12  # room for a name
_INK, _PALE, _DOT, _LINE = "#1f2933", "#cbd2d9", "#0b7285", "#c92a2a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file that was made and measured.

    Attributes:
        name: what it is.
        error: of its outputs, on samples that were not allocated with; see `sensitivity.Reference`.
        mb: of the file, in millions of bytes.
        ms: median time of a run; None where it was not timed.
    """

    name: str
    error: float
    mb: float
    ms: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Give the same as `json.dumps` takes it."""
        return {"name": self.name, "error": self.error, "mb": self.mb, "ms": self.ms}


def frontier(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Keep the rows that no other beats: one that is as good in error, size and time, and better in one of them."""
    return tuple(row for row in rows if not any(_beats(other, row) for other in rows))


def _beats(other: Row, row: Row) -> bool:
    pairs = [(other.error, row.error), (other.mb, row.mb)]
    if other.ms is not None and row.ms is not None:
        pairs.append((other.ms, row.ms))
    return all(left <= right for left, right in pairs) and any(left < right for left, right in pairs)


def curve(
    mixer: Mixer,
    held_out: Sequence[dict[str, Array]],
    folder: Path,
    *,
    steps: int = 5,
    threads: int = 1,
) -> tuple[Row, ...]:
    """Make and measure every uniform file, and mixed ones in equal steps of size between the smallest and the largest.

    Args:
        mixer: what makes plans.
        held_out: samples that were not allocated with.
        folder: where to write meanwhile.
        steps: how many mixed files.
        threads: of one run, for the times.

    Returns:
        A row for each file, by size.

    Raises:
        QuantizationError: if a file cannot be written or run.
    """
    plans = {choice: mixer.uniform(choice) for choice in mixer.choices}
    least, most = mixer.ends()
    for step in range(1, steps + 1):
        budget = least + (most - least) * step // (steps + 1)
        plans[f"mixed {budget / 1e6:.1f} MB"] = mixer.plan(budget)
    files = []
    for place, plan in enumerate(plans.values()):
        files.append(folder / f"row{place}.onnx")
        mixer.write(plan, files[-1])
    judge = mixer.trials_on(held_out)
    times = timed(files, held_out, threads)
    rows = [
        Row(name=name, error=judge.of_file(path), mb=path.stat().st_size / 1e6, ms=ms)
        for name, path, ms in zip(plans, files, times, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row.mb))


def table(rows: Sequence[Row]) -> tuple[str, ...]:
    """Write rows as lines of plain text, what no other beats marked with a star."""
    best = frontier(rows)
    wide = max((len(row.name) for row in rows), default=0)
    head = f"  {'':{wide}}  {'MB':>8}  {'ms':>8}  {'error':>8}"
    lines = (
        f"{'*' if row in best else ' '} {row.name:{wide}}  {row.mb:8.2f}  "
        f"{'' if row.ms is None else f'{row.ms:.1f}':>8}  {row.error:8.4f}"
        for row in rows
    )
    return (head, *lines)


def picture(rows: Sequence[Row], title: str) -> str:
    """Draw error against size, and against time where it is known.

    Args:
        rows: at least one.
        title: what they are of.

    Returns:
        An SVG document.
    """
    panels = [("MB", [row.mb for row in rows], list(rows))]
    times = [row for row in rows if row.ms is not None]
    if times:
        panels.append(("ms", [row.ms for row in times if row.ms is not None], times))
    errors = [row.error for row in rows if row.error > 0 and math.isfinite(row.error)]
    low, high = (min(errors) / 1.5, max(errors) * 1.5) if errors else (0.1, 1.0)
    wide = len(panels) * (_PANEL + _GAP) + 20
    size = f'width="{wide}" height="{_TOP + _HEIGHT + 60}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11" fill="{_INK}">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_GAP - 20}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for place, (unit, along, shown) in enumerate(panels):
        parts += _panel(place * (_PANEL + _GAP) + _GAP - 20, unit, along, shown, (low, high))
    return "\n".join([*parts, "</svg>\n"])


def _panel(left: int, unit: str, along: Sequence[float], rows: Sequence[Row], ends: tuple[float, float]) -> list[str]:
    bottom, reach = _TOP + _HEIGHT, max(along) * 1.08 or 1.0
    low, high = math.log10(ends[0]), math.log10(ends[1])

    def at(value: float, error: float) -> tuple[float, float]:
        height = (math.log10(min(max(error, ends[0]), ends[1])) - low) / (high - low)
        return left + value / reach * _PANEL, bottom - height * _HEIGHT

    parts = [f'<path d="M{left} {_TOP}V{bottom}H{left + _PANEL}" fill="none" stroke="{_INK}"/>']
    for power in range(math.ceil(low), math.floor(high) + 1):
        y = at(0, 10**power)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{left + _PANEL}" stroke="{_PALE}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    step = _step(reach / 6)
    for count in range(1, int(reach / step) + 1):
        x = left + count * step / reach * _PANEL
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{count * step:g}</text>')
    parts.append(f'<text x="{left + _PANEL / 2:.1f}" y="{bottom + 34}" text-anchor="middle">{unit}</text>')
    parts.append(f'<text x="{left}" y="{_TOP - 8}" text-anchor="middle">error</text>')
    pairs = sorted((value, row.error) for value, row in zip(along, rows, strict=True))
    steps = [at(value, error) for value, error in _lower(pairs)]
    parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in steps)}" fill="none" stroke="{_LINE}"/>')
    words: list[tuple[float, float]] = []
    # From the top down, so that a name that has to make room moves towards its own dot's side.
    for value, row in sorted(zip(along, rows, strict=True), key=lambda pair: -pair[1].error):
        x, y = at(value, row.error)
        side, anchor = (-7, "end") if x > left + 0.6 * _PANEL else (7, "start")
        height = y - 5
        while any(abs(x - other) < _WORD_WIDE and abs(height - taken) < _WORD_HIGH for other, taken in words):
            height += _WORD_HIGH
        words.append((x, height))
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_DOT}"/>')
        parts.append(f'<text x="{x + side:.1f}" y="{height:.1f}" text-anchor="{anchor}">{escape(row.name)}</text>')
    return parts


def _step(least: float) -> float:
    """Round up to a number that is easy to read: 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= least * 0.999)


def _lower(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points that have less error than all to their left."""
    kept: list[tuple[float, float]] = []
    for value, error in pairs:
        if not kept or error < kept[-1][1]:
            kept.append((value, error))
    return kept
