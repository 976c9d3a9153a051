"""`nearsight demo`: one web page, on this machine, with a tab for each capability."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import nearsight as ns
from nearsight_demos.photographs import installed

if TYPE_CHECKING:
    import argparse

HELP = "open a web page on this machine: search, detect, caption, ask, watch"
EPILOG = """examples:
  nearsight demo
  nearsight demo --folder ~/Pictures
  nearsight demo --gallery photos.nsg --language zh
  nearsight demo --port 8000"""
# Photographs that the tour (`make demo`) keeps in the folder where it is run.
TOUR = Path("demo") / "photographs"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight demo`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--gallery", "-g", type=_path, metavar="G", help="a gallery to search; only read")
    parser.add_argument("--folder", type=_path, metavar="DIR", help="pictures to index, into --gallery if given")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=_port, metavar="N", help="port (the first free one from 7860 on)")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="language of the first page (en)")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted.

    Raises:
        InputError: If the extra is not installed, or a folder or port cannot be used.
    """
    if find_spec("gradio") is None:
        raise ns.InputError("the demo needs Gradio, which is not installed; install it: pip install 'nearsight[demo]'")
    if args.host not in LOOPBACK:
        _say(f"whoever reaches {args.host} can see the pictures and use this page; there is no password")
    with tempfile.TemporaryDirectory(prefix="nearsight-demo-", ignore_cleanup_errors=True) as home:
        return _served(args, Path(home).resolve())


def _served(args: argparse.Namespace, home: Path) -> int:
    # Before Gradio is imported: no telemetry, uploads in a folder that ends with the run, no proxy to oneself.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(home / "pages"), HF_HUB_OFFLINE="1")
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(home / "pages" / "examples")
    os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1,localhost,::1")))
    from nearsight_demos.app import launched
    from nearsight_demos.session import Session

    folder, lent = args.folder, False
    if folder is None and args.gallery is None:
        folder = begun(home)
        lent = folder is not None
    session = Session(home, gallery=args.gallery, folder=folder, lent=lent)
    # Both, also where a shell has started this in the background, with the first of them ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        pages, url = launched(session, language=args.language, host=args.host, port=args.port)
        print(json.dumps({"url": url}) if args.json else f"Nearsight is at {url}  (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            _say("ended; what was uploaded is deleted")
        finally:
            pages.close(verbose=False)
    finally:
        session.close()
    return 0


def begun(home: Path) -> Path | None:
    """Find something to begin with where nothing was given: the tour's photographs, or those of packages here."""
    if TOUR.is_dir():
        _say(f"showing the tour's photographs in {TOUR}; yours: nearsight demo --folder DIR")
        return TOUR.resolve()
    folder = home / "photographs"
    pictures = installed(folder)
    if not pictures:
        _say("nothing to search yet; add photographs on the page, or begin with yours: nearsight demo --folder DIR")
        return None
    _say(f"showing {len(pictures)} photographs that installed packages carry; yours: nearsight demo --folder DIR")
    return folder


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"nearsight: {text}", file=sys.stderr, flush=True)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ArgumentTypeError(f"a port is a number from 1 to 65535; got {text!r}")
    return int(text)
