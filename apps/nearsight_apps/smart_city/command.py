"""`nearsight watch`: watch a video file or a folder of pictures as a configuration says."""

from __future__ import annotations

import json
import signal
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from types import FrameType

    from nearsight_apps.smart_city.events import Event
    from nearsight_apps.smart_city.watch import Summary

HELP = "watch a video file or a folder of pictures: count over lines, keep events, make them findable"
EPILOG = """a configuration (TOML; paths start from its folder):
  [camera]
  name = "gate-3"
  source = "gate-3.mp4"
  [detect]
  labels = ["car", "person"]
  [[line]]
  name = "entrance"
  from = [0.0, 0.5]
  to = [1.0, 0.5]
then:
  nearsight watch config.toml
  nearsight ask "how many cars were there at gate-3?" --gallery events.nsg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight watch`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("config", metavar="CONFIG.toml", help="what to watch and what for")
    parser.add_argument("--max-frames", type=_count, metavar="N", help="stop after N frames")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on after the last frame that is done")
    again.add_argument("--fresh", action="store_true", help="delete the events there are and begin anew")


def run(args: argparse.Namespace) -> int:
    """Watch, print a line for each event, and a summary, also when the source breaks off."""
    from nearsight_apps.smart_city.config import read_config
    from nearsight_apps.smart_city.watch import Watcher

    # Whoever runs services ends them with SIGTERM; that is an end like Ctrl-C, with a summary.
    signal.signal(signal.SIGTERM, _interrupted)
    with Watcher(read_config(args.config), resume=args.resume, fresh=args.fresh) as watcher:
        try:
            for event in watcher.events(args.max_frames):
                _say(json.dumps(event.to_dict(), ensure_ascii=False) if args.json else _line(event))
        except BaseException:
            # The source broke off, or somebody has seen enough.
            if watcher.summary().last_frame >= 0:
                _sum_up(watcher.summary(), as_json=args.json)
            raise
        _sum_up(watcher.summary(), as_json=args.json)
    return 0


def _interrupted(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    """Write a line at once: whoever reads the pipe wants it when it happens."""
    print(text, flush=True)


def _line(event: Event) -> str:
    what = "appeared" if event.line is None else f"crossed {event.line} ({event.direction})"
    return f"{event.time:%Y-%m-%d %H:%M:%S}  {event.camera}  {event.label} {event.track} {what}  {event.score:.2f}"


def _sum_up(summary: Summary, *, as_json: bool) -> None:
    _say(json.dumps({"summary": summary.to_dict()}, ensure_ascii=False) if as_json else _in_words(summary))


def _in_words(summary: Summary) -> str:
    frames = f"{summary.frames} frames in {summary.seconds:.1f} s ({summary.frames_per_s:.1f} a second)"
    seen = ", ".join(f"{count} {label}" for label, count in summary.appeared.items()) or "nothing"
    left_out = f"; {summary.skipped} unreadable left out" if summary.skipped else ""
    rows = [f"{summary.camera}: {frames}{left_out}; appeared: {seen}"]
    rows += [f"  {line} {direction}: {count} {label}" for (line, direction, label), count in summary.crossings.items()]
    return "\n".join(rows)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"a count is wanted, such as 100; got {text!r}")
    return int(text)
