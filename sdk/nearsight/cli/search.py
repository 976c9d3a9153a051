"""`nearsight search`: find photographs by words, by a picture, or by both."""

from __future__ import annotations

import json
import os
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.cli.place import add_gallery_argument, encoder_of, gallery_path
from nearsight.cli.terminal import console, for_a_person, say, write_json
from nearsight.errors import InputError
from nearsight.wording import count_in_words, decision_words, relevance_words

if TYPE_CHECKING:
    import argparse

    from nearsight.values import Hit, Hits

HELP = "find photographs by a sentence (English or Chinese), by a picture, or by both"
EPILOG = """examples:
  nearsight search "a dog on the beach" --gallery photos.nsg
  nearsight search 雪地里的狗 -g photos.nsg -t 20
  nearsight search ./dog.jpg "on grass" -g photos.nsg --minus 0.5:leash --html found.html"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight search`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("query", nargs="+", metavar="QUERY|IMAGE", help="words; an existing picture file; or both")
    add_gallery_argument(parser)
    parser.add_argument("--top", "-t", "-k", type=_count, default=5, metavar="N", help="how many hits (5)")
    parser.add_argument("--offset", type=_count, default=0, metavar="N", help="skip the first N hits")
    parser.add_argument("--filepath-only", "-f", action="store_true", help="print paths alone, one a line")
    parser.add_argument("--after", type=_moment, metavar="T", help="taken at or after this ISO 8601 time")
    parser.add_argument("--before", type=_moment, metavar="T", help="taken before this ISO 8601 time")
    parser.add_argument("--camera", metavar="NAME", help="only pictures of this camera")
    parser.add_argument(
        "--where", action="append", default=[], type=_equality, metavar="KEY=VALUE", help="metadata equals, repeatable"
    )
    parser.add_argument(
        "--min-relevance", type=_share, metavar="R", help="0 to 1; 0 shows everything (default: calibrated)"
    )
    for sign, word in (("plus", "more of"), ("minus", "less of")):
        parser.add_argument(
            f"--{sign}",
            action="append",
            default=[],
            metavar="TERM",
            help=f"{word} this, repeatable; a word, a picture file, or weighted as 2:word",
        )
    parser.add_argument("--html", type=Path, metavar="OUT", help="also write a contact sheet")


def run(args: argparse.Namespace) -> int:
    """Search and print the hits, or say in words that nothing matches."""
    place = gallery_path(args)
    text, pictures = _split_query(args.query)
    if not text.strip() and not pictures:
        raise InputError("the query is blank; write what to look for, or name a picture")
    query = None if text and pictures else text or pictures[0]
    plus, minus = ([_term(word) for word in words] for words in (args.plus, args.minus))
    from nearsight.encoders import Encoder
    from nearsight.gallery import Gallery

    encoder = Encoder(encoder_of(place))
    with Gallery.open(place, encoder, read_only=True) as gallery:
        wanted: dict[str, Any] = {
            "both": (text, pictures[0]) if query is None else None,
            "camera": args.camera,
            "after": args.after,
            "before": args.before,
            "where": dict(args.where) or None,
            "plus": plus,
            "minus": minus,
        }
        in_words = isinstance(query, str) and all(isinstance(term, str) for _, term in (*plus, *minus))
        # The vector of such a text says nothing, so that not even weak matches are shown.
        unread = in_words and not encoder.reads(text)
        least = None if unread else args.min_relevance
        hits = gallery.search(query, k=args.top, offset=args.offset, min_relevance=least, **wanted)
        nearest = None
        if not hits and not unread and hits.best_relevance is not None and hits.best_relevance < hits.min_relevance:
            nearest = gallery.search(query, k=1, min_relevance=0, **wanted)[0]
        empty = not hits and gallery.stats().items == 0
    asked = " ".join(args.query)
    if args.html is not None:
        _write_sheet(args.html, asked, hits)
    if args.json:
        write_json(_as_json(asked, hits))
    elif hits:
        _print_hits(asked, hits, filepath_only=args.filepath_only)
    if unread and not empty:
        name = encoder.identity.model
        say(f"{name} does not read this script: {asked!r}; ask in one of its languages: nearsight models list {name}")
    elif not hits:
        filtered = bool(args.camera or args.after or args.before or args.where)
        say(_nothing(asked, hits, nearest, empty=empty, filtered=filtered))
    return 0


def _as_json(query: str, hits: Hits) -> dict[str, Any]:
    answer = {**hits.to_dict(), "query": query}
    for hit in answer["hits"]:
        hit["match"] = relevance_words(hit["relevance"])
    return answer


def _print_hits(query: str, hits: Hits, *, filepath_only: bool) -> None:
    if filepath_only:
        for hit in hits:
            print(hit.path)
    elif for_a_person():
        _print_table(query, hits)
    else:
        for hit in hits:
            print(f"{hit.score:.3f}  {hit.relevance:.2f}  {hit.path}")


def _print_table(query: str, hits: Hits) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"{query}: {count_in_words(hit.relevance for hit in hits)}"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("match")
    table.add_column("relevance", justify="right")
    table.add_column("score", justify="right", style="dim")
    for title, wanted in (
        ("taken", any(hit.captured_at for hit in hits)),
        ("camera", any(hit.camera for hit in hits)),
    ):
        if wanted:
            table.add_column(title)
    table.add_column("path", overflow="fold")
    styles = {"strong match": "bold green", "likely match": "yellow", "weak match": "dim"}
    for hit in hits:
        words = relevance_words(hit.relevance)
        cells = [Text(words, styles[words]), Text(f"{hit.relevance:.2f}"), Text(f"{hit.score:.3f}")]
        if any(other.captured_at for other in hits):
            cells.append(Text(f"{hit.captured_at:%Y-%m-%d %H:%M}" if hit.captured_at else ""))
        if any(other.camera for other in hits):
            cells.append(Text(hit.camera or ""))
        table.add_row(*cells, Text(str(hit.path)))
    screen = console()
    screen.print(table)
    screen.print(Text(decision_words(hits.decision), "dim"))


def _nothing(query: str, hits: Hits, nearest: Hit | None, *, empty: bool, filtered: bool) -> str:
    if empty:
        return "the gallery is empty; fill it with: nearsight index DIR --gallery G"
    if nearest is not None:
        return (
            f"nothing matches {query!r}; the nearest of {hits.total_considered} pictures is {nearest.path}, a weak "
            f"match at relevance {nearest.relevance:.2f} (below {hits.min_relevance:.2f}); "
            "see weak matches with --min-relevance 0"
        )
    if filtered and not hits.total_considered:
        return f"nothing matches {query!r}: no picture passes --camera, --after, --before and --where together"
    return f"no more matches for {query!r} from this --offset on"


def _write_sheet(out: Path, query: str, hits: Hits) -> None:
    from nearsight.sheet import contact_sheet

    contact_sheet([(query, hits)], out)
    say(f"contact sheet written to {out}")


def _split_query(words: list[str]) -> tuple[str, list[Path]]:
    """Tell pictures from words.

    Raises:
        InputError: for two pictures, or a path that looks like a picture and is not there.
    """
    pictures = [path for word in words if (path := picture_of(word)) is not None]
    text = " ".join(word for word in words if picture_of(word) is None)
    if len(pictures) > 1:
        raise InputError(f"{len(pictures)} pictures in one query; give one, and the others with --plus or --minus")
    return text, pictures


def picture_of(word: str) -> Path | None:
    """Return the picture file that a word names, or None where it is just a word.

    Raises:
        InputError: if the word is written as a path to a picture (`dog.jpg`) that is not there.
    """
    as_path = word.startswith((".", "/", "~"))
    path = Path(os.path.expanduser(word)) if as_path else Path(word)
    there = _is_file(path)
    if not there and not as_path and "." not in word:
        return None
    from nearsight.pictures import EXTENSIONS

    if path.suffix.lower() not in EXTENSIONS:
        return None
    if not there:
        raise InputError(f"no picture at {word}; give an existing file, or words")
    return path


def _is_file(path: Path) -> bool:
    """Tell whether a file is there; a sentence can be too long or too odd to be a path."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"a count is wanted, such as 5; got {text!r}")
    return int(text)


def _share(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if 0.0 <= value <= 1.0:
            return value
    raise ArgumentTypeError(f"a number from 0 to 1 is wanted; got {text!r}")


def _moment(text: str) -> str:
    """Check a time as the gallery reads it (a date, a month or a year will do) and hand it on as it is."""
    from nearsight.gallery.times import moment

    try:
        moment(text, "time")
    except InputError as error:
        raise ArgumentTypeError(f"an ISO 8601 time is wanted, such as 2026-11-25T18:00; got {text!r}") from error
    return text


def _equality(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE; a value that reads as JSON (a number, true, a quoted string) is that."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise ArgumentTypeError(f"key=value is wanted; got {text!r}")
    with suppress(json.JSONDecodeError):
        return key, json.loads(value)
    return key, value


def _term(text: str) -> tuple[float, str | Path]:
    """Parse TERM or WEIGHT:TERM."""
    head, colon, rest = text.partition(":")
    weight, term = 1.0, text
    with suppress(ValueError):
        if colon and rest:
            weight, term = float(head), rest
    return weight, picture_of(term) or term
