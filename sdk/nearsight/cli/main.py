"""The `nearsight` command: find the sub-command asked for, run it, turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NoReturn, Protocol

from nearsight.__about__ import __version__
from nearsight.cli.terminal import prepare_streams, say
from nearsight.errors import InputError, NearsightError, translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GROUP = "nearsight.commands"
OURS = ("nearsight.cli.", "nearsight_apps.", "nearsight_demos.")
INTERRUPTED = 130
# They run a few times and end. Another runtime is ready .3 s of processor time later than the processor's own
# (measured with OpenVINO 2026.4), which 16 captions do not earn back.
BRIEF = ("ask", "caption", "detect", "search")


class Command(Protocol):
    """What the module behind an entry point of the group `nearsight.commands` holds."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments; `--json` and `--debug` are there already."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line with the remedy, like every other error here."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as a user's mistake (exit code 2)."""
        raise InputError(f"{message}; {self._meant(message)}: {self.prog} --help")

    def _meant(self, message: str) -> str:
        """Say which options begin like the first unknown one, or which is written nearly so; and where all are."""
        from difflib import get_close_matches

        _, unknown, words = message.partition("unrecognized arguments: ")
        wrong = next((word.partition("=")[0] for word in words.split() if word.startswith("-")), "")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        if not unknown or not wrong.strip("-"):
            return "see"
        close = [option for option in options if option.startswith(wrong)]
        close = close or get_close_matches(wrong, options, n=1, cutoff=0.6)
        return f"did you mean {' or '.join(close)}? See" if close else "see"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: the words after `nearsight`; those of the process by default.

    Returns:
        0 when it went well, 1 for a failure, 2 for a user's mistake, 130 when interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    prepare_streams()
    if not debug:
        warnings.showwarning = _say_warning
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`, say) has what it wanted; nothing more may be written, not even at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        say("interrupted; what was stored stays stored")
        return INTERRUPTED
    except NearsightError as error:
        if debug:
            raise
        say(str(error))
        return error.exit_code
    except OSError as error:
        if debug:
            raise
        say(f"{error}; --debug shows where")
        return 1
    return code


def _say_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Say our own warnings (a refused target, say) as one line; a library's are for its developers."""
    if category.__module__.startswith("nearsight"):
        say(str(message))


def _dispatch(words: list[str]) -> int:
    """Take the words up to the command's name, then hand over to the command."""
    while words and words[0] == "--debug":
        words = words[1:]
    if not words or words[0] in {"-h", "--help", "help"}:
        print(_overview())
        return 0
    name, rest = words[0], words[1:]
    if name == "--version":
        print(f"nearsight {__version__}")
        return 0
    known = commands()
    if name not in known:
        raise InputError(_unknown(name, sorted(known)))
    command = _load(known[name])
    parser = Parser(prog=f"nearsight {name}", description=command.HELP, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="machine output on stdout, talk on stderr")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.add_arguments(parser)
    # Intermixed: options may stand between the words of a query.
    args = parser.parse_intermixed_args(rest)
    with translated(), _ready_soon(name):
        return command.run(args)


@contextmanager
def _ready_soon(name: str) -> Iterator[None]:
    """Let brief commands run on the processor's own runtime, where the user does not name others."""
    from nearsight_npu.targets.probe import FALLBACK, TARGETS_VARIABLE

    named = os.environ.get(TARGETS_VARIABLE)
    if name in BRIEF and not (named and named.strip()):
        os.environ[TARGETS_VARIABLE] = FALLBACK
    try:
        yield
    finally:
        os.environ.pop(TARGETS_VARIABLE, None)
        if named is not None:
            os.environ[TARGETS_VARIABLE] = named


def commands() -> dict[str, EntryPoint]:
    """Return the sub-commands that are installed, by name; ours win over a stranger's of the same name."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.value.startswith(OURS), entry.name))
    return {entry.name: entry for entry in found}


def _load(entry: EntryPoint) -> Command:
    command: Command = entry.load()
    return command


def _overview() -> str:
    known = commands()
    width = max((len(name) for name in known), default=0)
    lines = [f"  {name:{width}}  {_one_line(entry)}" for name, entry in sorted(known.items())]
    return "\n".join(
        [
            f"Nearsight {__version__}: find, describe and watch by words in English or Chinese, offline.",
            "",
            "usage: nearsight COMMAND [ARGUMENTS] [--json] [--debug]",
            "",
            *lines,
            "",
            "nearsight COMMAND --help says more; nearsight --version says which.",
        ]
    )


def _one_line(entry: EntryPoint) -> str:
    """Return a command's help; one that cannot be imported must not hide the others."""
    try:
        return _load(entry).HELP
    except (ImportError, AttributeError) as error:
        return f"(cannot be loaded: {error})"


def _unknown(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    if name.startswith("-"):
        return f"no option {name} before the command; see: nearsight --help"
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
    return f"no command {name!r}; {hint} See: nearsight --help" if close else f"no command {name!r}; {hint}"
