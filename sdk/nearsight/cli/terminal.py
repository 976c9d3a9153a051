"""Where the command line writes: answers on stdout, talk on stderr, colours only for a person."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str) -> None:
    """Write one line of talk on stderr, whatever line breaks the text holds."""
    print("nearsight: " + " ".join(text.split()), file=sys.stderr, flush=True)


def prepare_streams() -> None:
    """Let any path through: a file name that is not valid UTF-8 leaves as the bytes it came in as."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
            reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def write_json(value: dict[str, Any]) -> None:
    """Write one JSON object on stdout, readable, in UTF-8 unless a name in it is not."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, indent=2)
    print(text)


def for_a_person(stream: Any = None) -> bool:
    """Tell whether a stream (stdout by default) is a terminal that can show a table."""
    stream = sys.stdout if stream is None else stream
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def console(*, stderr: bool = False) -> Console:
    """Return a rich console; rich is imported here, so a pipe never pays for it."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False)
