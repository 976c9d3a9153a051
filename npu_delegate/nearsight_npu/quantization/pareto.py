"""What can be had for how many bytes and how much time: rows to choose from, as a table and as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from nearsight_npu.quantization.artifacts import sha256_of
from nearsight_npu.quantization.latency import timed
from nearsight_npu.quantization.progress import Progress, counted, untold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.mixed import Mixer
    from nearsight_npu.quantization.progress import OnProgress

_PANEL, _GAP, _TOP, _HEIGHT = 330, 90, 50, 260  # of the picture, in pixels
_LETTER, _WORD_HIGH, _RADIUS = 6, 12, 4  # room for a letter, for a line of them, and for a dot
_INK, _PALE, _DOT, _LINE = "#1f2933", "#cbd2d9", "#0b7285", "#c92a2a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file that was made and measured.

    Attributes:
        name: what it is.
        error: of its outputs, on samples that were not allocated with; see `sensitivity.Reference`.
        mb: of the file, in millions of bytes.
        ms: median time of a run; None where it was not timed.
        written: whether it is the file that the call wrote.
    """

    name: str
    error: float
    mb: float
    ms: float | None = None
    written: bool = False

    @property
    def label(self) -> str:
        """Its name, and whether it is what was written."""
        return f"{self.name} (written)" if self.written else self.name

    def to_dict(self) -> dict[str, object]:
        """Give the same as `json.dumps` takes it."""
        return {"name": self.name, "error": self.error, "mb": self.mb, "ms": self.ms, "written": self.written}


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
    written: tuple[str, Path] | None = None,
    told: OnProgress = untold,
) -> tuple[Row, ...]:
    """Make and measure every uniform file, and mixed ones in equal steps of size between the smallest and the largest.

    More room than can be made use of leads to the same file again, which is one row.

    Args:
        mixer: what makes plans.
        held_out: samples that were not allocated with.
        folder: where to write meanwhile.
        steps: how many mixed files to make.
        threads: of one run, for the times.
        written: a file that there is already, and what to call it where it is unlike the others.
        told: takes what is being done.

    Returns:
        A row for each file that is unlike the others, by size.

    Raises:
        QuantizationError: if a file cannot be written or run.
    """
    least, most = mixer.ends()
    plans = [(choice, mixer.uniform(choice)) for choice in mixer.choices]
    plans += [("", mixer.plan(least + (most - least) * step // (steps + 1))) for step in range(1, steps + 1)]
    made: dict[str, tuple[str, Path]] = {}
    turns = counted(plans, "making files to choose from", told, len(plans))
    for place, (name, plan) in enumerate(turns):
        path = folder / f"row{place}.onnx"
        mixer.write(plan, path)
        made.setdefault(sha256_of(path), (name or f"mixed {path.stat().st_size / 1e6:.3g} MB", path))
    own = None
    if written is not None:
        own = sha256_of(written[1])
        made.setdefault(own, written)
    names, files = zip(*made.values(), strict=True)
    judge = mixer.trials_on(held_out)
    told(Progress(stage="timing files to choose from"))
    times = timed(files, held_out, threads)
    errors = [judge.of_file(path) for path in counted(files, "comparing files to choose from", told, len(files))]
    rows = [
        Row(name=name, error=error, mb=path.stat().st_size / 1e6, ms=ms, written=digest == own)
        for digest, name, path, error, ms in zip(made, names, files, errors, times, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row.mb))


def table(rows: Sequence[Row]) -> tuple[str, ...]:
    """Write rows as lines of plain text: what no other beats has a star, and what was written is called so."""
    best = frontier(rows)
    wide = max((len(row.label) for row in rows), default=0)
    head = f"  {'':{wide}}  {'MB':>8}  {'ms':>8}  {'error':>8}"
    lines = (
        f"{'*' if row in best else ' '} {row.label:{wide}}  {row.mb:8.2f}  "
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
    dots = [(at(value, row.error), row.label) for value, row in zip(along, rows, strict=True)]
    rings = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS + 3}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
        for ((x, y), _), row in zip(dots, rows, strict=True)
        if row.written
    ]
    return [*parts, *rings, *_dots(dots, left + 0.6 * _PANEL)]


def _dots(dots: Sequence[tuple[tuple[float, float], str]], turn: float) -> list[str]:
    """Draw dots, and beside each its name, on the nearest height where no other name and no dot is.

    Args:
        dots: where they are, and their names.
        turn: names of dots to the right of it stand to the left of them.
    """
    parts = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{_DOT}"/>' for (x, y), _ in dots]
    taken = [(x - _RADIUS, x + _RADIUS, y - _RADIUS, y + _RADIUS) for (x, y), _ in dots]
    for (x, y), name in sorted(dots, key=lambda dot: dot[0][1]):
        wide, left = _LETTER * len(name), x > turn
        start = x - 7 - wide if left else x + 7
        # The line falls from left to right, so below on its left and above on its right there is room.
        height = _height(
            y + 13 if left else y - 5, [box[2:] for box in taken if start < box[1] and box[0] < start + wide]
        )
        taken.append((start, start + wide, height - _WORD_HIGH, height))
        parts.append(
            f'<text x="{x + (-7 if left else 7):.1f}" y="{height:.1f}" text-anchor="{"end" if left else "start"}">'
            f"{escape(name)}</text>"
        )
    return parts


def _height(wanted: float, taken: Sequence[tuple[float, float]]) -> float:
    """Give the free height inside of a panel that is nearest to the wanted one, which it is if none is free."""
    lowest, highest = _TOP + _HEIGHT - 3, _TOP + 9
    steps = (count // 2 * (-1) ** count for count in range(1, 2 * _HEIGHT))
    free = (
        height
        for height in (min(max(wanted, highest), lowest) + step for step in steps)
        if highest <= height <= lowest and all(height <= top or bottom <= height - _WORD_HIGH for top, bottom in taken)
    )
    return next(free, wanted)


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
