"""`nearsight detect`: find things in a picture by their names, or by a picture of them."""

from __future__ import annotations

import re
import shlex
from argparse import Action, ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nearsight.cli.terminal import console, for_a_person, say, write_json
from nearsight.errors import InputError
from nearsight.wording import decision_words

if TYPE_CHECKING:
    import argparse

    from nearsight.detect import Detections

HELP = "find things in a picture by their names (English or Chinese)"
EPILOG = """examples:
  nearsight detect street.jpg car person 红绿灯
  nearsight detect street.jpg "traffic light" taxi --draw found.png --json
  nearsight detect crossing.png car "traffic cone" --tiles 3
  nearsight detect street.jpg --example my_bag.jpg
  nearsight detect street.jpg "a yellow raincoat" --model owlv2-base"""
SEEN = {
    "class": "",
    "similar": "only a {} was seen",
    "crop": "by comparing crops with the word",
    "example": "by comparing parts with the picture",
    "text": "",
}
_LISTED = re.compile(r"[^,，、;；]*\w[^,，、;；]*")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight detect`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture file")
    labels = parser.add_argument(
        "labels", nargs="+", default=[], metavar="LABEL", help="what to look for; quote a name of several words"
    )
    parser.add_argument(
        "--example",
        type=Path,
        action=_InPlaceOf,
        instead=labels,
        default=[],
        metavar="FILE",
        help="a picture of what to look for; may be given several times, with labels or without",
    )
    parser.add_argument(
        "--tiles",
        type=_tiles,
        metavar="N",
        help="look at N x N parts as well (or CxR: columns and rows), for small things in a large picture",
    )
    parser.add_argument(
        "--draw", type=_drawing, metavar="OUT", help="also write the picture with boxes, such as out.png"
    )
    parser.add_argument(
        "--min-score", type=_share, metavar="S", help="0 to 1; 0 shows everything (default: calibrated)"
    )
    parser.add_argument("--model", default="nano", metavar="M", help="which detector, such as owlv2-base (nano)")


def run(args: argparse.Namespace) -> int:
    """Detect, print the boxes, and say which labels cannot be judged and which were not found."""
    from nearsight.detect import Detector
    from nearsight.detect.labels import example_names

    if args.draw is not None and args.draw.exists() and args.image.exists() and args.draw.samefile(args.image):
        raise InputError(f"{args.draw} is the picture itself; draw into another file")
    labels = [*args.labels, *args.example]
    if listed := next((label for label in args.labels if len(_LISTED.findall(label)) > 1), None):
        apart = " ".join(map(shlex.quote, map(str.strip, _LISTED.findall(listed))))
        say(f"{listed!r} is looked for as one thing; several are written apart: nearsight detect {args.image} {apart}")
    detector = Detector(args.model)
    found = detector.detect(args.image, labels, args.min_score, tiles=args.tiles)
    if args.draw is not None:
        _write_drawing(args.draw, args.image, found)
    if args.json:
        write_json(found.to_dict())
    elif for_a_person():
        _print_table(found)
    else:
        for line in found.to_dicts():
            print(f"{line['score']:.3f}  {' '.join(f'{edge:.0f}' for edge in line['box_xyxy'])}  {line['label']}")
    for label in found.unjudged:
        say(f"cannot judge {label!r}: it is a negation, names no thing, or is in a script that {args.model} lacks")
    names = dict.fromkeys([*args.labels, *(name for name, _ in example_names(labels))])
    missed = [label for label in names if label not in (*found.labels, *found.unjudged)]
    if missed:
        say(f"not found: {', '.join(missed)}")
    return 0


def _print_table(found: Detections) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    if len(found):
        table = Table(box=None, pad_edge=False)
        for title, justify in (
            ("label", "left"),
            ("score", "right"),
            ("box (left top right bottom)", "right"),
            ("", "left"),
        ):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for row in found.to_dicts():
            seen = SEEN[row["route"]].format(row["class"])
            corners = " ".join(f"{edge:.0f}" for edge in row["box_xyxy"])
            table.add_row(Text(row["label"]), Text(f"{row['score']:.2f}"), Text(corners), Text(seen, "dim"))
        screen.print(table)
    screen.print(Text(decision_words(found.decision), "dim"))


def _write_drawing(out: Path, image: Path, found: Detections) -> None:
    """Draw into a file that appears whole or not at all."""
    from nearsight.detect.draw import draw

    drawn = draw(image, found)
    try:
        with TemporaryDirectory(dir=out.parent, prefix=".nearsight-") as folder:
            part = Path(folder) / f"part{out.suffix}"
            drawn.save(part)
            part.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}; give a path that can be written") from error
    say(f"drawing written to {out}")


class _InPlaceOf(Action):
    """An option that may be given several times, and without which a positional argument is required."""

    def __init__(self, *args: Any, instead: Action, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._instead = instead

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:  # noqa: ARG002
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])
        self._instead.required = False


def _tiles(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"(\d{1,3})(?:[x,](\d{1,3}))?", text)
    if match is None:
        raise ArgumentTypeError(f"a number such as 3, or columns and rows such as 3x2, is wanted; got {text!r}")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def _drawing(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in PICTURES:
        raise ArgumentTypeError(f"a picture file is wanted, such as out.png ({', '.join(PICTURES)}); got {text!r}")
    return path


def _share(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if 0.0 <= value <= 1.0:
            return value
    raise ArgumentTypeError(f"a number from 0 to 1 is wanted; got {text!r}")
