"""`nearsight caption`: say in one sentence what a picture shows."""

from __future__ import annotations

from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight.cli.terminal import console, for_a_person, write_json
from nearsight.wording import decision_words

if TYPE_CHECKING:
    import argparse

    from nearsight.caption import Caption

HELP = "say in one sentence what a picture shows, in English or Chinese"
EPILOG = """examples:
  nearsight caption photo.jpg
  nearsight caption photo.jpg --language zh --max-words 12"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight caption`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a picture file")
    parser.add_argument("--language", "-l", default="en", metavar="L", help="en or zh (en)")
    parser.add_argument(
        "--max-words", type=_count, default=20, metavar="N", help="the most words; in Chinese the most characters (20)"
    )
    parser.add_argument("--model", default="nano", metavar="M", help="which captioner (nano)")


def run(args: argparse.Namespace) -> int:
    """Caption one picture and print the sentence."""
    from nearsight.caption import Captioner

    said = Captioner(args.model).caption(args.image, language=args.language, max_words=args.max_words)
    if args.json:
        write_json(said.to_dict())
    elif for_a_person():
        _print(said)
    else:
        print(said.text)
    return 0


def _print(said: Caption) -> None:
    from rich.text import Text

    screen = console()
    screen.print(Text(said.text))
    sure = "" if said.confidence is None else f"a small model's guess, confidence {said.confidence:.2f}; "
    screen.print(Text(sure + decision_words(said.decision), "dim"))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"a number from 1 is wanted, such as 20; got {text!r}")
    return int(text)
