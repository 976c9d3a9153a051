"""The pieces of HTML that the pages show; every text in them is escaped, every picture is inside them."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

import nearsight as ns
from nearsight_demos.words import matched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from PIL import Image

SIDE, QUALITY = 360, 82


class Html(str):
    """Text that is HTML already and needs no escaping."""

    __slots__ = ()


def results(hits: ns.Hits, nearest: ns.Hits, say: Callable[..., str]) -> Html:
    """Show the answer to a search, or say plainly that nothing matches.

    Args:
        hits: the answer.
        nearest: the nearest picture, however weak; for where there is no hit.
        say: the page's words.
    """
    if not hits:
        return nothing(hits, nearest, say)
    head = say("found", shown=len(hits), total=hits.total_considered)
    return Html(f"<p class='ns-head'>{escape(head)}</p>{cards(hits, say)}")


def nothing(hits: ns.Hits, nearest: ns.Hits, say: Callable[..., str]) -> Html:
    """Say that nothing matches, which picture is the nearest, and how near it is."""
    if not nearest:
        return note(say("filtered out"))
    best = nearest[0]
    why = say(
        "nearest",
        total=hits.total_considered,
        name=best.path.name,
        words=matched(best.relevance, say),
        best=best.relevance,
        least=hits.min_relevance,
    )
    said = f"<p><b>{escape(say('nothing', query=hits.query))}</b><br>{escape(why)}</p>"
    return Html(f"<div class='ns-note ns-nearest'>{picture(best.path, say)}{said}</div>")


def cards(hits: Iterable[ns.Hit], say: Callable[..., str]) -> Html:
    """Show hits with their relevance as a bar and in words."""
    return Html(f"<ol class='ns-grid'>{''.join(_card(hit, say) for hit in hits)}</ol>")


def _card(hit: ns.Hit, say: Callable[..., str]) -> str:
    facts = [f"{hit.captured_at:%Y-%m-%d %H:%M}" if hit.captured_at else "", hit.camera or ""]
    told = " · ".join(filter(None, facts))
    kind = ns.relevance_words(hit.relevance).split()[0]
    return (
        f"<li class='ns-card ns-{kind}'>{picture(hit.path, say)}{bar(hit.relevance)}"
        f"<p class='ns-words'><b>{escape(matched(hit.relevance, say))}</b><span>{hit.relevance:.2f}</span></p>"
        f"<p class='ns-name' title='{escape(str(hit.path))}'>{escape(hit.path.name)}</p>"
        f"<p class='ns-facts'>{escape(told)}</p></li>"
    )


def bar(share: float) -> Html:
    """Draw a share of one as a bar."""
    percent = round(100 * min(max(share, 0.0), 1.0))
    return Html(f"<div class='ns-bar' role='img' aria-label='{percent} %'><i style='width:{percent}%'></i></div>")


def picture(path: Path, say: Callable[..., str]) -> Html:
    """Show a picture file, small; a frame that says so where it cannot be read."""
    try:
        return Html(f"<img alt='{escape(path.name)}' src='{thumbnail(path, path.stat().st_mtime_ns)}'>")
    except (OSError, ns.InputError):
        return Html(f"<div class='ns-gone'>{escape(say('gone'))}</div>")


@lru_cache(maxsize=512)
def thumbnail(path: Path, changed_ns: int) -> str:  # noqa: ARG001  (a file that changed is another thumbnail)
    """Give a small JPEG of a picture as a `data:` address."""
    return embedded(ns.read_image(path, size_hint=(SIDE, SIDE)))


def embedded(image: Image.Image) -> str:
    """Give a small JPEG of a picture as a `data:` address."""
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Make a table; cells are escaped unless they are `Html`."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    whole = f"<table class='ns-table'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return Html(f"<div class='ns-scroll'>{whole}</div>")


def _cell(value: object) -> str:
    if isinstance(value, Html):
        return value
    return escape(f"{value:.2f}" if isinstance(value, float) else str(value))


def note(text: str, kind: str = "", command: str = "") -> Html:
    """Say one thing in a box, with a command to type where there is one."""
    typed = f"<code>{escape(command)}</code>" if command else ""
    return Html(f"<div class='ns-note {kind}'>{escape(text)}{typed}</div>")


def title(text: str) -> Html:
    """Head a part of a page."""
    return Html(f"<h3 class='ns-title'>{escape(text)}</h3>")


def joined(*parts: str) -> Html:
    """Put pieces one under the other."""
    return Html("".join(part if isinstance(part, Html) else f"<p>{escape(part)}</p>" for part in parts if part))
