"""Draws kept against false match as an SVG, so that the whole trade is seen and not one point of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIDE, MARGIN, GAP = 260, 46, 40
COLOURS = {"en": "#2563eb", "zh": "#dc2626"}


def panel(title: str, by_language: dict[str, Any], left: int) -> str:
    """One set of axes with a line and a dot (the default threshold) a language."""
    x0, y0 = left + MARGIN, MARGIN + SIDE
    parts = [f'<text x="{x0}" y="{MARGIN - 14}" font-weight="bold">{title}</text>']
    for tick in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
        x, y = x0 + tick * SIDE, y0 - tick * SIDE
        dash = ' stroke-dasharray="4 3"' if tick == 0.1 else ""
        parts.append(f'<line x1="{x}" y1="{y0}" x2="{x}" y2="{MARGIN}" stroke="#ddd"{dash}/>')
        parts.append(f'<text x="{x}" y="{y0 + 15}" text-anchor="middle">{tick:g}</text>')
        if tick != 0.1:
            parts.append(f'<line x1="{x0}" y1="{y}" x2="{x0 + SIDE}" y2="{y}" stroke="#ddd"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for row, (language, figures) in enumerate(by_language.items()):
        line = " ".join(f"{x0 + wrong * SIDE:.1f},{y0 - kept * SIDE:.1f}" for _, wrong, kept in figures["curve"])
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[language]}" stroke-width="2"/>')
        x, y = x0 + figures["false_match"] * SIDE, y0 - figures["kept"] * SIDE
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[language]}"/>')
        parts.append(
            f'<text x="{x0 + SIDE - 6}" y="{y0 - 12 - 16 * row}" text-anchor="end" fill="{COLOURS[language]}">'
            f"{language}: {figures['kept']:.2f} kept at {figures['false_match']:.2f}</text>"
        )
    parts.append(f'<text x="{x0 + SIDE / 2}" y="{y0 + 34}" text-anchor="middle">false match</text>')
    parts.append(f'<text x="{x0 - 6}" y="{MARGIN - 4}" text-anchor="end">kept</text>')
    return "\n".join(parts)


def draw(target: Path, found: dict[str, dict[str, Any]]) -> None:
    """Write one picture with a panel for each test.

    Args:
        target: the SVG file.
        found: test -> language -> figures with `curve` (threshold, false match, kept), `false_match`, `kept`.
    """
    width, height = len(found) * (SIDE + MARGIN + GAP), SIDE + MARGIN + 50
    panels = [
        panel(name.replace("_", " "), by_language, place * (SIDE + MARGIN + GAP))
        for place, (name, by_language) in enumerate(found.items())
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
    body = "\n".join(panels)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'{head} font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')
