"""The file that is written: where meanwhile, which operators compute in integers, how it gets to its place whole."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.source import INTEGER_KINDS, nodes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nearsight_npu.quantization.source import Node

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_BORDERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Make a folder to write in meanwhile, and say in one line if there is no room left for it.

    Args:
        name: of the model.

    Yields:
        The folder.

    Raises:
        QuantizationError: if the folder for temporary files is full.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="nearsight-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in _FULL:
            raise  # somebody else's, such as a metric's own
        raise QuantizationError(
            f"{name} was to be quantized; {error.strerror} in {tempfile.gettempdir()}; free some space there, or name "
            "another folder for temporary files with TMPDIR="
        ) from error


def outcome(path: Path, original: Collection[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tell the operators of a quantized graph that compute in integers from those that stayed in float.

    One between DequantizeLinear and QuantizeLinear, with its weights behind DequantizeLinear, is what runtimes fuse
    into an integer operator.

    Args:
        path: the graph.
        original: names of operators that the model had; the tool's own are not counted.

    Returns:
        Names of those in integers, and name -> kind of those in float.
    """
    import onnx

    nodes = nodes_of(onnx.load(str(path)))
    restored = {name for node in nodes if node.kind == "DequantizeLinear" for name in node.outputs}
    stored = {name for node in nodes if node.kind == "QuantizeLinear" for name in node.inputs}
    integer = [node.name for node in nodes if _integer(node, restored, stored)]
    floating = {
        node.name: node.kind
        for node in nodes
        if node.kind not in _BORDERS and node.name in original and not _integer(node, restored, stored)
    }
    return tuple(integer), floating


def _integer(node: Node, restored: Collection[str], stored: Collection[str]) -> bool:
    if node.kind in INTEGER_KINDS - {"QuantizeLinear", "DynamicQuantizeLinear"}:
        return True
    taken = node.inputs[:2] if node.kind in _WEIGHTED else node.inputs[:1]
    # A product of integers may give its answer unrounded.
    given = () if node.kind in _PRODUCTS else node.outputs
    return bool(taken) and all(name in restored for name in taken) and all(name in stored for name in given)


def put(written: Path, target: Path) -> None:
    """Copy a file to its place so that it appears there whole or not at all.

    Raises:
        QuantizationError: if it cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".nearsight-") as folder:
            # Renaming is one step only within a file system, so the copy lies beside its place.
            part = shutil.copyfile(written, Path(folder) / "part")
            part.replace(target)
    except OSError as error:
        raise QuantizationError(
            f"{target} was to be written; {error.strerror or error}; free some space or choose another place with out="
        ) from error
