"""Which gallery a command means (`--gallery`, else the environment variable NEARSIGHT_GALLERY), and its encoder."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight.errors import GalleryNotFoundError, InputError

if TYPE_CHECKING:
    import argparse

VARIABLE = "NEARSIGHT_GALLERY"


def add_gallery_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--gallery` to a command."""
    parser.add_argument("--gallery", "-g", metavar="G", help=f"folder of the gallery; default: ${VARIABLE}")


def gallery_path(args: argparse.Namespace) -> Path:
    """Return the folder of the gallery that was named.

    Raises:
        InputError: if neither `--gallery` nor the variable names one.
    """
    named = args.gallery or os.environ.get(VARIABLE)
    if not named:
        raise InputError(f"no gallery named; give --gallery photos.nsg, or set {VARIABLE}")
    return Path(os.path.expanduser(named))


def encoder_of(place: Path) -> str:
    """Return the name of the model that a gallery's vectors were made with; nano where there is no gallery yet."""
    from nearsight.folders import absolute
    from nearsight.gallery.reader import Reader

    try:
        with closing(Reader.open(absolute(place), read_only=True)) as store:
            return str(store.fact("model"))
    except GalleryNotFoundError:
        return "nano"
