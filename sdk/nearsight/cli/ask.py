"""`nearsight ask`: a question in one sentence, answered with the steps that were taken for it."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.cli.place import add_gallery_argument, encoder_of, gallery_path
from nearsight.cli.terminal import for_a_person, say, write_json
from nearsight.errors import InputError
from nearsight.wording import decision_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from io import RawIOBase

    from nearsight.agent import Answer, Step
    from nearsight.gallery import Gallery

HELP = "answer a question about a gallery or a picture file, in English or Chinese"
EPILOG = """examples:
  nearsight ask "was there a red truck at gate-3 yesterday after six?" --gallery photos.nsg
  nearsight ask 昨天下午3号门有多少辆车 -g photos.nsg --trace
  nearsight ask "what is in street.jpg?"
  nearsight ask "notify me if there was a dog at gate-3 today" -g photos.nsg --yes --notify-to told.jsonl"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight ask`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("question", nargs="+", metavar="QUESTION", help="one sentence")
    add_gallery_argument(parser)
    parser.add_argument("--now", type=_moment, metavar="T", help="what `yesterday` counts from, ISO 8601 (the clock)")
    parser.add_argument(
        "--planner",
        default="nano",
        metavar="NAME",
        help="who plans: nano, the rules (default), or an installed language model",
    )
    parser.add_argument("--yes", action="store_true", help="approve every step that has an effect, such as notify")
    parser.add_argument("--trace", action="store_true", help="show the steps, with arguments and milliseconds")
    parser.add_argument(
        "--notify-to",
        type=Path,
        metavar="FILE",
        help="append messages to this file, a JSON object a line, not to stderr",
    )


def run(args: argparse.Namespace) -> int:
    """Answer and print; 0 whatever the answer is, 1 when every step failed.

    Raises:
        InputError: where every step failed through a mistake in the question: a camera or picture that is not there.
    """
    from nearsight.agent import Agent

    question = " ".join(args.question)
    with _log(args.notify_to) as log, _gallery(args, question) as gallery:
        agent = Agent(
            gallery=gallery,
            planner=args.planner,
            now=args.now,
            approve=_approver(yes=args.yes),
            notify=_notifier(log),
        )
        answer = agent.run(question)
    lost = bool(answer.steps) and all(step.status == "failed" for step in answer.steps)
    if lost and all(step.result["mistake"] for step in answer.steps):
        raise InputError("; ".join(step.result["error"] for step in answer.steps))
    if args.json:
        write_json(answer.to_dict())
    else:
        print(answer.text)
        _print_behind(answer)
    if args.trace:
        for step in answer.steps:
            say(_traced(step))
        say(decision_words(answer.decision))
    return int(lost)


def _gallery(args: argparse.Namespace, question: str) -> AbstractContextManager[Gallery | None]:
    """Open the gallery that a question is about; nothing where it needs none."""
    if not _wants_gallery(args, question):
        return nullcontext()
    from nearsight.gallery import Gallery

    place = gallery_path(args)
    return Gallery.open(place, encoder_of(place), read_only=True)


def _wants_gallery(args: argparse.Namespace, question: str) -> bool:
    """Tell whether a question needs a gallery, unless one is named: one that is searched for does."""
    from nearsight.agent.loop import LONGEST_QUESTION
    from nearsight.agent.planners.rules import RulePlanner, Scene

    steps = RulePlanner().plan(question[:LONGEST_QUESTION], Scene(now=args.now or datetime.now())).steps  # noqa: DTZ005  (as the agent)
    return bool(args.gallery) or any(step.tool in {"search", "count"} for step in steps)


def _print_behind(answer: Answer) -> None:
    """List the pictures behind an answer, as `nearsight search` does."""
    for hit in answer.items:
        time = f"{hit.captured_at:%Y-%m-%d %H:%M}" if hit.captured_at else "-"
        print(f"{hit.relevance:.2f}  {time}  {hit.camera or '-'}  {hit.path}")


def _traced(step: Step) -> str:
    given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in step.arguments.items())
    took = "" if step.latency_ms is None else f", {step.latency_ms:.1f} ms"
    return f"{step.tool}({given}): {step.status}, {step.found} found{took}"


def _approver(*, yes: bool) -> Callable[[Step], bool] | None:
    """Approve everything with `--yes`, ask a person at a terminal, and nobody else."""
    if yes:
        return lambda _: True
    return _asked if for_a_person(sys.stderr) and sys.stdin.isatty() else None


def _asked(step: Step) -> bool:
    given = json.dumps(step.arguments, ensure_ascii=False)
    print(f"nearsight: run {step.tool} {given}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes", "是", "好"}


def _log(file: Path | None) -> Any:
    """Open the file for messages before anything is asked, so that a wrong path costs no answer."""
    try:
        return nullcontext() if file is None else open(file, "ab", buffering=0)
    except OSError as error:
        told = f"messages were to go to {file}: {error.strerror or error}; give a file that can be written"
        raise InputError(told) from error


def _notifier(log: RawIOBase | None) -> Callable[[str], None]:
    if log is None:
        return lambda message: say(f"notify: {message}")

    def append(message: str) -> None:
        line: dict[str, Any] = {"time": datetime.now().astimezone().isoformat(timespec="seconds"), "message": message}
        log.write(f"{json.dumps(line, ensure_ascii=False)}\n".encode())

    return append


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"an ISO 8601 time is wanted, such as 2026-11-25T18:00; got {text!r}") from error
