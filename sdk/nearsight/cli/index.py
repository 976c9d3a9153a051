"""`nearsight index`: walk folders and put their photographs into a gallery."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentTypeError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nearsight.cli.place import add_gallery_argument, encoder_of, gallery_path
from nearsight.cli.terminal import console, for_a_person, say, write_json
from nearsight.errors import InputError, SpaceMismatchError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nearsight.gallery import Gallery
    from nearsight.values import AddReport, Progress

HELP = "put the photographs of folders into a gallery; unchanged ones are skipped"
INTERRUPTED = 130
FAILURES_SHOWN = 20
TALK_EVERY_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight index`."""
    parser.add_argument("paths", nargs="+", metavar="DIR|FILE", help="folders (walked) and picture files")
    add_gallery_argument(parser)
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="model that encodes the pictures (the gallery's own; nano for a new one); "
        "another than the gallery's encodes all that it holds anew",
    )
    parser.add_argument("--camera", metavar="NAME", help="camera of these pictures, instead of what EXIF says")
    parser.add_argument(
        "--exclude-dir",
        action="append",
        default=[],
        metavar="NAME",
        help="folder name to leave out, repeatable (besides .git, node_modules and @eaDir)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=_megapixels,
        default=50.0,
        metavar="N",
        help="skip larger pictures (default 50), or `none` for no limit",
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress, only the summary")


def run(args: argparse.Namespace) -> int:
    """Index, and say what was added and what could not be read.

    Returns:
        0; 1 if there was something to read and nothing could be; 130 if interrupted.
    """
    place = gallery_path(args)
    from nearsight.folders import EXCLUDED_FOLDERS, absolute

    # Before the gallery is made: a slip of the pen should not leave an empty one behind.
    for path in args.paths:
        if not os.path.exists(absolute(path)):
            raise InputError(f"no such file or folder: {path}; check the spelling")
    max_pixels = None if args.max_megapixels is None else int(args.max_megapixels * 1e6)
    with _opened(place, args.encoder) as (gallery, encoder), _progress_shown(quiet=args.quiet) as progress:
        before = gallery.stats().items
        try:
            if encoder is not None:
                anew = gallery.reindex(encoder, max_pixels=max_pixels, progress=progress)
                say(f"{anew.changed} encoded anew with {encoder} in {anew.seconds:.1f} s{_speed(anew)}")
            report = gallery.add(
                *args.paths,
                camera=args.camera,
                exclude=(*EXCLUDED_FOLDERS, *args.exclude_dir),
                max_pixels=max_pixels,
                progress=progress,
            )
        except KeyboardInterrupt:
            stored = gallery.stats().items
            say(
                f"interrupted; {stored} pictures are stored in {place}, {stored - before} of them new; "
                "the same command goes on from there"
            )
            return INTERRUPTED
        items = gallery.stats().items
    if args.json:
        write_json({"gallery": str(place), "items": items, **report.to_dict()})
    else:
        print(_summary(report, items, str(place)))
    _tell_failures(report)
    usable = report.added + report.changed + report.unchanged + report.renamed
    return 1 if (report.failed or report.skipped_heif) and not usable else 0


@contextmanager
def _opened(place: Path, wished: str | None) -> Iterator[tuple[Gallery, str | None]]:
    """Give the gallery, and the encoder that it has to be moved to before anything is added; None where it has it."""
    from nearsight.gallery import Gallery

    encoder = wished or encoder_of(place)
    try:
        gallery, moved = Gallery.open(place, encoder), None
    except SpaceMismatchError:
        if wished is None:
            raise
        gallery, moved = Gallery.open(place, None), wished
        say(f"encoding {len(gallery)} pictures of {place} anew with {wished}; until then it answers as before")
    with gallery:
        yield gallery, moved


def _megapixels(text: str) -> float | None:
    if text.lower() == "none":
        return None
    with suppress(ValueError):
        value = float(text)
        if 0 < value < float("inf"):
            return value
    raise ArgumentTypeError(f"megapixels are wanted, such as 100, or none; got {text!r}")


def _summary(report: AddReport, items: int, place: str) -> str:
    parts = [f"{report.added} added"]
    for count, word in (
        (report.changed, "changed"),
        (report.unchanged, "unchanged"),
        (report.renamed, "renamed"),
        (report.missing, "missing (gallery.remove(missing=True) takes them out)"),
        (len(report.failed), "failed"),
    ):
        if count:
            parts.append(f"{count} {word}")
    return f"{', '.join(parts)} in {report.seconds:.1f} s{_speed(report)}; {place} holds {items}"


def _speed(report: AddReport) -> str:
    return f" ({report.rate_per_s:.1f} pictures/s)" if report.encoded else ""


def _tell_failures(report: AddReport) -> None:
    for failure in report.failed[:FAILURES_SHOWN]:
        say(f"skipped {failure.path}: {failure.reason}")
    if len(report.failed) > FAILURES_SHOWN:
        say(f"skipped {len(report.failed) - FAILURES_SHOWN} more; --json names them all")
    if report.skipped_heif:
        say(f"skipped {report.skipped_heif} HEIC pictures; to read them: pip install 'nearsight[heif]'")


@contextmanager
def _progress_shown(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Give a callback that shows progress: a bar for a person, a line now and then for a log."""
    if quiet:
        yield None
    elif for_a_person(sys.stderr):
        with _bar() as advance:
            yield advance
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("indexing"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", style="green"),
        TextColumn("{task.fields[left]}", style="cyan"),
    )
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task("indexing", total=None, rate="", left="")

        def advance(progress: Progress) -> None:
            rate, left = _pace(progress)
            bars.update(task, completed=progress.done, total=progress.total, rate=rate, left=left)

        yield advance


def _lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def advance(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= TALK_EVERY_S:
            last = time.monotonic()
            say(f"{progress.done} of {progress.total} pictures {' '.join(_pace(progress))}")

    return advance


def _pace(progress: Progress) -> tuple[str, str]:
    """Return the rate and the time left, in words; empty where unknown."""
    rate = f"{progress.rate_per_s:.1f}/s" if progress.rate_per_s > 0 else ""
    if progress.seconds_left is None:
        return rate, ""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
    return rate, f"{left} left"
