"""`nearsight caption`: say in one sentence what each picture shows, or answer a question about it."""

from __future__ import annotations

from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.cli.terminal import console, for_a_person, say, write_json
from nearsight.errors import PictureUnreadableError
from nearsight.wording import decision_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Iterator

    from nearsight.caption import Caption

HELP = "say in one sentence what each picture shows, in English or Chinese, or answer a question about it"
EPILOG = """examples:
  nearsight caption photo.jpg
  nearsight caption photo.jpg --language zh --max-words 12
  nearsight caption holiday/*.jpg --json
  nearsight caption photo.jpg --model smolvlm-256m --ask 'how many people are there?'
in a pipe a line is the sentence, and behind a tab its confidence (of several pictures: path, sentence, confidence)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight caption`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="picture files")
    parser.add_argument("--language", "-l", default="en", metavar="L", help="en or zh (en)")
    parser.add_argument(
        "--ask",
        "-a",
        metavar="QUESTION",
        help="answer this instead, with a model that answers, such as blip-vqa-base, smolvlm-256m or florence-2-base",
    )
    parser.add_argument(
        "--max-words",
        type=_count,
        metavar="N",
        help="the most words; in Chinese the most characters (20; 100 for an answer)",
    )
    parser.add_argument("--model", default="nano", metavar="M", help="which captioner (nano)")


def run(args: argparse.Namespace) -> int:
    """Caption the pictures one after another; of several, one that cannot be read is named and left out."""
    from nearsight.caption import Captioner

    captioner, alone, rows, failed = Captioner(args.model), len(args.images) == 1, list[dict[str, Any]](), False
    for image in args.images:
        try:
            heard = _Heard(captioner.stream(image, args.ask, language=args.language, max_words=args.max_words))
            if for_a_person() and not args.json:
                _print(heard, None if alone else image)
                continue
            text = " ".join("".join(heard).split())  # in a pipe a caption is one line, and a tab parts it from others
        except PictureUnreadableError as error:
            if alone:
                raise
            say(str(error))
            failed = True
            continue
        if args.json:
            rows.append(heard.said.to_dict() if alone else {"path": str(image), **heard.said.to_dict()})
        else:
            sure = "" if heard.said.confidence is None else f"\t{heard.said.confidence:.2f}"
            print(text + sure if alone else f"{image}\t{text}{sure}")
    if args.json:
        write_json(rows[0] if alone else {"captions": rows})
    return 2 if failed else 0


class _Heard:
    """Iterates over what is spoken, and keeps the caption that it turns out to be."""

    def __init__(self, spoken: Generator[str, None, Caption]) -> None:
        self._spoken = spoken
        self.said: Caption

    def __iter__(self) -> Iterator[str]:
        self.said = yield from self._spoken


def _print(heard: _Heard, image: Path | None) -> None:
    """Show the words as they come, then what is to be known of them."""
    from rich.text import Text

    screen = console()
    for place, piece in enumerate(heard):
        if image is not None and place == 0:
            screen.print(Text(str(image), "bold"))
        screen.print(Text(piece), end="")
    screen.print()
    said = heard.said
    missing = ", ".join(noun for noun, seen in said.grounding if not seen)
    if missing:
        screen.print(Text(f"not seen in the picture: {missing}", "yellow"))
    sure = "" if said.confidence is None else f"a small model's guess, confidence {said.confidence:.2f}; "
    screen.print(Text(sure + decision_words(said.decision), "dim"))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"a number from 1 is wanted, such as 20; got {text!r}")
    return int(text)
