"""One self-contained HTML page of search results: thumbnails, relevance, and how each answer came about."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight.__about__ import __version__
from nearsight.errors import InputError
from nearsight.pictures import read_image
from nearsight.wording import LIKELY, count_in_words, decision_words, relevance_words

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from PIL import Image

    from nearsight.values import Hit, Hits

THUMBNAIL_SIDE = 240
FIGURE_SIDE = 480
# Twice the side on screen would be sharper on a dense display, and four times the bytes.
THUMBNAIL_QUALITY = 82


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture with what is to be said of it.

    Attributes:
        heading: figures of equal heading stand together under it.
        picture: what is shown; None for words alone.
        title: the first line, in bold.
        lines: what follows below it.
    """

    heading: str
    picture: Image.Image | None
    title: str
    lines: tuple[str, ...] = ()


def contact_sheet(
    answers: Iterable[tuple[str, Hits]],
    out: str | os.PathLike[str] | None = None,
    *,
    title: str = "Nearsight contact sheet",
    notes: Sequence[str] = (),
    figures: Iterable[Figure] = (),
) -> str:
    """Draw search results as one HTML page that needs nothing else: no network, no files beside it.

    Args:
        answers: (query, hits) pairs in the order of the page; all text in them is escaped.
        out: file to write the page to; nothing is written by default.
        title: heading of the page.
        notes: lines below the heading.
        figures: pictures of your own with what is to be said of them; those of one heading stand together, first.

    Returns:
        The page.

    Raises:
        InputError: if `out` lies in a folder that does not exist.
    """
    thumbnails: dict[Path, str] = {}
    sections = [*_figures(figures), *(_section(query, hits, thumbnails) for query, hits in answers)]
    page = _PAGE.format(
        title=escape(title),
        style=_STYLE,
        notes="".join(f"<p>{escape(note)}</p>" for note in notes),
        sections="\n".join(sections),
        foot=f"Nearsight {__version__}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}. The bar is the relevance: the "
        "calibrated probability that a picture is what was asked for.",
    )
    if out is not None:
        target = Path(out).expanduser()
        if not target.parent.is_dir():
            raise InputError(f"cannot write {target}: there is no folder {target.parent}; mkdir -p {target.parent}")
        target.write_text(page, encoding="utf-8", errors="backslashreplace")
    return page


def _figures(figures: Iterable[Figure]) -> list[str]:
    cards: dict[str, list[str]] = {}
    for figure in figures:
        shown = "" if figure.picture is None else _embedded(figure.picture.convert("RGB"), FIGURE_SIDE)
        lines = "".join(f"<p>{escape(line)}</p>" for line in figure.lines)
        card = f'<li class="card figure">{shown}<p class="title"><b>{escape(figure.title)}</b></p>{lines}</li>'
        cards.setdefault(figure.heading, []).append(card)
    return [
        f'<section><h2>{escape(heading)}</h2><ol class="grid wide">{"".join(found)}</ol></section>'
        for heading, found in cards.items()
    ]


def _embedded(picture: Image.Image, side: int) -> str:
    """Return an <img> with the picture inside it, its longer side at most `side`."""
    small = picture.copy()
    small.thumbnail((side, side))
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=THUMBNAIL_QUALITY)
    data = base64.b64encode(jpeg.getvalue()).decode("ascii")
    return f'<img alt="" width="{small.width}" height="{small.height}" src="data:image/jpeg;base64,{data}">'


def _section(query: str, hits: Hits, thumbnails: dict[Path, str]) -> str:
    if hits:
        verdict = count_in_words(hit.relevance for hit in hits)
        if all(hit.relevance < LIKELY for hit in hits):
            verdict = f"nothing matches well: {verdict}"
        body = '<ol class="grid">' + "".join(_card(hit, thumbnails) for hit in hits) + "</ol>"
    else:
        verdict, body = "nothing matches", f'<p class="none">{escape(_why_nothing(hits))}</p>'
    decision = hits.decision
    account = "" if decision is None else json.dumps(decision.to_dict(), ensure_ascii=False, indent=2)
    details = (
        f"<details><summary>{escape(decision_words(decision))}</summary><pre>{escape(account)}</pre></details>"
        if account
        else ""
    )
    return f"<section><h2>{escape(query)}</h2><p class=verdict>{escape(verdict)}</p>{body}{details}</section>"


def _why_nothing(hits: Hits) -> str:
    if hits.best_relevance is None:
        return "No picture passed the filters."
    return (
        f"The best of {hits.total_considered} pictures is a weak match at relevance {hits.best_relevance:.2f}; "
        f"what is shown starts at {hits.min_relevance:.2f}."
    )


def _card(hit: Hit, thumbnails: dict[Path, str]) -> str:
    words = relevance_words(hit.relevance)
    percent = round(100 * min(max(hit.relevance, 0.0), 1.0))
    facts = [f"score {hit.score:.3f}"]
    if hit.captured_at is not None:
        facts.append(f"{hit.captured_at:%Y-%m-%d %H:%M}")
    if hit.camera:
        facts.append(hit.camera)
    folder = f'<span class="folder"><bdi>{escape(str(hit.path.parent))}</bdi></span>'
    return (
        f'<li class="card {words.split()[0]}">{_thumbnail(hit.path, thumbnails)}'
        f'<div class="bar" role="img" aria-label="relevance {percent} percent"><i style="width:{percent}%"></i></div>'
        f'<p class="words"><b>{words}</b> <span>{hit.relevance:.2f}</span></p>'
        f'<p class="name" title="{escape(str(hit.path))}">{escape(hit.path.name)}{folder}</p>'
        f'<p class="facts">{escape(" · ".join(facts))}</p></li>'
    )


def _thumbnail(path: Path, thumbnails: dict[Path, str]) -> str:
    """Return an <img> with the picture inside it; a file that is gone or unreadable leaves an empty frame."""
    if path not in thumbnails:
        try:
            picture = read_image(path, size_hint=(THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        except (InputError, OSError):
            thumbnails[path] = '<div class="gone">the file is gone or unreadable</div>'
        else:
            thumbnails[path] = _embedded(picture, THUMBNAIL_SIDE)
    return thumbnails[path]


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{notes}</header>
<main>
{sections}
</main>
<footer>{foot}</footer>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --ground: #f6f5f2; --card: #fff; --ink: #1d1d1b; --soft: #6b6a66; --line: #e3e1db;
  --strong: #2f8f5b; --likely: #c98a1b; --weak: #a9a7a1; }
@media (prefers-color-scheme: dark) { :root { --ground: #161615; --card: #212120; --ink: #ecebe7; --soft: #9c9a94;
  --line: #353432; --strong: #4dbb80; --likely: #e0a93f; --weak: #6f6d68; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--ink); padding: 2.5rem clamp(1rem, 4vw, 4rem);
  font: 15px/1.5 system-ui, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
header { margin-bottom: 2.5rem; } h1 { font-size: 1.7rem; letter-spacing: -.02em; } header p { color: var(--soft); }
section { border-top: 1px solid var(--line); padding: 1.6rem 0 1.8rem; }
h2 { font-size: 1.25rem; overflow-wrap: anywhere; } .verdict { color: var(--soft); margin-bottom: 1rem; }
.grid { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(200px, 46%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.card img, .gone { display: block; width: 100%; height: 180px; object-fit: cover; background: var(--line); }
.gone { display: grid; place-items: center; padding: 1rem; color: var(--soft); font-size: .85rem; text-align: center; }
.card p { padding: 0 .8rem; } .card .facts { padding-bottom: .8rem; color: var(--soft); font-size: .82rem; }
.bar { height: 5px; background: var(--line); margin-bottom: .6rem; } .bar i { display: block; height: 100%; }
.words { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.strong .bar i { background: var(--strong); } .likely .bar i { background: var(--likely); }
.weak .bar i { background: var(--weak); } .strong b { color: var(--strong); } .likely b { color: var(--likely); }
.weak b { color: var(--soft); font-weight: 500; } .weak img { opacity: .75; }
.name { overflow-wrap: anywhere; } .folder { display: block; color: var(--soft); font-size: .78rem;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; direction: rtl; text-align: left; }
.wide { grid-template-columns: repeat(auto-fill, minmax(min(290px, 92%), 1fr)); }
.figure img { height: 240px; object-fit: contain; } .figure p { font-size: .9rem; }
.figure .title { padding-top: .6rem; }
.figure p:last-child { padding-bottom: .8rem; }
.none { background: var(--card); border: 1px dashed var(--line); border-radius: 10px; padding: 1rem; }
details { margin-top: 1rem; color: var(--soft); font-size: .85rem; } summary { cursor: pointer; }
pre { overflow-x: auto; padding: .8rem; background: var(--card); border-radius: 8px; margin-top: .5rem; }
footer { border-top: 1px solid var(--line); padding-top: 1rem; color: var(--soft); font-size: .82rem; }
"""
