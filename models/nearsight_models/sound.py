"""Whether a file can be what its name says, where nobody states its hash: no pointer, no rubbish, not cut."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

_POINTER = b"version https://git-lfs"
# A model's graph, and the widths of the wire types of one width. Source: onnx.proto, ModelProto; protobuf's encoding.
_GRAPH = 7
_WIDTHS = {1: 8, 5: 4}
_MOST_SHIFT = 63


def is_pointer(path: Path) -> bool:
    """Whether this is the short text that git-lfs keeps in a file's place."""
    with path.open("rb") as stream:
        return stream.read(len(_POINTER)) == _POINTER


def fault(path: Path) -> str:
    """Say what is wrong with a file of which no hash is known; empty where nothing is to be seen.

    Args:
        path: A file that is there; `.onnx` and `.json` are looked into.
    """
    if is_pointer(path):
        return "is a git-lfs pointer, not the file"
    if path.suffix == ".onnx" and not _is_model(path):
        return "is no ONNX model, or was cut"
    if path.suffix == ".json" and not _is_json(path):
        return "is no JSON, or was cut"
    return ""


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def _is_model(path: Path) -> bool:
    """Go from field to field of a protobuf message: a model has a graph, and ends where its last field ends."""
    size, fields = path.stat().st_size, set()
    with path.open("rb") as stream:
        while stream.tell() < size:
            tag = _varint(stream)
            length = _WIDTHS.get(tag & 7, 0)
            if tag & 7 == 0:
                tag = tag if _varint(stream) >= 0 else -1
            elif tag & 7 == 2:  # a length follows, and so many bytes
                length = _varint(stream)
            elif not length:
                return False
            if tag < 1 or length < 0:
                return False
            fields.add(tag >> 3)
            stream.seek(length, os.SEEK_CUR)
        return stream.tell() == size and _GRAPH in fields


def _varint(stream: BinaryIO) -> int:
    """Read a number of seven bits a byte; -1 where there is none."""
    value = 0
    for shift in range(0, _MOST_SHIFT + 1, 7):
        byte = stream.read(1)
        if not byte:
            return -1
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return -1
