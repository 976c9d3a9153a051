"""`nearsight caption`: say in one sentence what each picture shows."""

from __future__ import annotations

from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.cli.terminal import console, for_a_person, say, write_json
from nearsight.errors import PictureUnreadableError
from nearsight.wording import decision_words

if TYPE_CHECKING:
    import argparse

    from nearsight.caption import Caption

HELP = "say in one sentence what each picture shows, in English or Chinese"
EPILOG = """examples:
  nearsight caption photo.jpg
  nearsight caption photo.jpg --language zh --max-words 12
  nearsight caption holiday/*.jpg --json
in a pipe a line is the sentence, a tab and its confidence (of several pictures: path, sentence, confidence)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight caption`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture files")
    parser.add_argument("--language", "-l", default="en", metavar="L", help="en or zh (en)")
    parser.add_argument(
        "--max-words", type=_count, default=20, metavar="N", help="the most words; in Chinese the most characters (20)"
    )
    parser.add_argument("--model", default="nano", metavar="M", help="which captioner (nano)")


def run(args: argparse.Namespace) -> int:
    """Caption the pictures one after another; of several, one that cannot be read is named and left out."""
    from nearsight.caption import Captioner

    captioner, alone, rows, failed = Captioner(args.model), len(args.images) == 1, list[dict[str, Any]](), False
    for image in args.images:
        try:
            said = captioner.caption(image, language=args.language, max_words=args.max_words)
        except PictureUnreadableError as error:
            if alone:
                raise
            say(str(error))
            failed = True
            continue
        if args.json:
            rows.append(said.to_dict() if alone else {"path": str(image), **said.to_dict()})
        elif for_a_person():
            _print(said, None if alone else image)
        else:
            sure = "-" if said.confidence is None else f"{said.confidence:.2f}"
            print(f"{said.text}\t{sure}" if alone else f"{image}\t{said.text}\t{sure}")
    if args.json:
        write_json(rows[0] if alone else {"captions": rows})
    return 2 if failed else 0


def _print(said: Caption, image: Path | None) -> None:
    from rich.text import Text

    screen = console()
    if image is not None:
        screen.print(Text(str(image), "bold"))
    screen.print(Text(said.text))
    missing = ", ".join(noun for noun, seen in said.grounding if not seen)
    if missing:
        screen.print(Text(f"not seen in the picture: {missing}", "yellow"))
    sure = "" if said.confidence is None else f"a small model's guess, confidence {said.confidence:.2f}; "
    screen.print(Text(sure + decision_words(said.decision), "dim"))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"a number from 1 is wanted, such as 20; got {text!r}")
    return int(text)
