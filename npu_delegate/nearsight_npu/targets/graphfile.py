"""What an ONNX file says of itself (ports, axis names, operators), read without a library and without its weights.

Runtimes drop the names of axes, and some print to stderr or try other formats when a file is damaged. So a file is
looked at here before a runtime sees it. Weights are stepped over, so that a file of gigabytes takes milliseconds.

Source: the messages and numbers of onnx.proto (ModelProto, GraphProto, NodeProto, ValueInfoProto, TensorProto) and the
wire format of protocol buffers.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nearsight_npu.errors import UnplaceableError, UnreadableGraphError
from nearsight_npu.targets.target import Port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Field = tuple[int, int, int]

_VARINT, _EIGHT_BYTES, _SPAN, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes
_EXTERNAL = 1  # TensorProto.DataLocation
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of a graph.

    Attributes:
        name: its name; empty where the file gives none.
        kind: what it does, such as "Conv".
        domain: whose operator it is; empty for ONNX's own.
        inputs: names of the arrays it takes; empty for one that is left out.
        outputs: names of the arrays it gives.
        integers: its whole-number attributes by name.
    """

    name: str
    kind: str
    domain: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    integers: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.name else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """What a file says of its graph.

    Attributes:
        inputs: the arrays it takes, without its weights.
        outputs: the arrays it gives.
        operators: its operators, in order.
        weights: the names of its weights.
        beside: names of the files next to it in which weights lie.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: tuple[Operator, ...]
    weights: frozenset[str]
    beside: tuple[str, ...]

    @property
    def free_axes(self) -> tuple[str, ...]:
        """Names of the lengths of the inputs that vary, each once, in order."""
        lengths = (length for port in self.inputs for length in port.shape)
        return tuple(dict.fromkeys(length for length in lengths if isinstance(length, str)))


def graph_file(path: Path, target: str) -> GraphFile:
    """Read what an ONNX file says of its graph.

    Args:
        path: the file.
        target: for whom it is read, for messages.

    Returns:
        Its ports and operators.

    Raises:
        UnreadableGraphError: if the file is missing, cut off, or no ONNX graph.
        UnplaceableError: if it takes or gives something other than arrays of numbers.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data, path, target).model()
    except (OSError, ValueError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableGraphError(
            f"{path.name} was to be loaded; {target} cannot read it as an ONNX graph ({reason}); fetch or export it "
            "again"
        ) from error


class _Reader:
    """Walks through the messages of one file; whatever does not fit raises `ValueError`."""

    def __init__(self, data: mmap.mmap, path: Path, target: str) -> None:
        self._data = data
        self._path = path
        self._target = target

    def model(self) -> GraphFile:
        graphs = [(begin, end) for number, begin, end in self._spans(0, len(self._data)) if number == 7]
        if len(graphs) != 1:
            raise ValueError("it holds no graph")
        inputs, outputs = [], []
        operators: list[Operator] = []
        weights: set[str] = set()
        beside: dict[str, None] = {}
        for number, begin, end in self._spans(*graphs[0]):
            if number == 1:
                operators.append(self._operator(begin, end))
            elif number == 5:
                weights.add(self._weight(begin, end, beside))
            elif number == 11:
                inputs.append((begin, end))
            elif number == 12:
                outputs.append((begin, end))
        if not operators:
            raise ValueError("it holds no operators")
        return GraphFile(
            inputs=tuple(self._port(*span) for span in inputs if self._text(*span, 1) not in weights),
            outputs=tuple(self._port(*span) for span in outputs),
            operators=tuple(operators),
            weights=frozenset(weights),
            beside=tuple(beside),
        )

    def _operator(self, begin: int, end: int) -> Operator:
        integers: dict[str, int] = {}
        arrays: tuple[list[str], list[str]] = [], []
        for number, first, last in self._spans(begin, end):
            if number in (1, 2):
                arrays[number - 1].append(self._data[first:last].decode())
            elif number == 5 and (value := self._number(first, last, 3)) is not None:
                integers[self._text(first, last, 1)] = value
        name, kind, domain = (self._text(begin, end, number) for number in (3, 4, 7))
        inputs, outputs = map(tuple, arrays)
        return Operator(name=name, kind=kind, domain=domain, inputs=inputs, outputs=outputs, integers=integers)

    def _weight(self, begin: int, end: int, beside: dict[str, None]) -> str:
        if self._number(begin, end, 14) == _EXTERNAL:
            for number, first, last in self._spans(begin, end):
                if number == 13 and self._text(first, last, 1) == "location":
                    beside[self._text(first, last, 2)] = None
        return self._text(begin, end, 8)

    def _port(self, begin: int, end: int) -> Port:
        name, kind = self._text(begin, end, 1), self._span(begin, end, 2)
        tensor = self._span(*kind, 1) if kind else None
        code = self._number(*tensor, 1) if tensor else None
        if tensor is None or code not in _DTYPES:
            raise UnplaceableError(
                f"{self._path.name} has {name!r}, which is not an array of numbers; {self._target} takes and gives "
                "those only; export the model without it"
            )
        shape = self._span(*tensor, 2)
        axes = [(first, last) for number, first, last in self._spans(*shape) if number == 1] if shape else []
        lengths = (self._number(*axis, 1) for axis in axes)
        return Port(
            name=name,
            dtype=_DTYPES[code],
            shape=tuple(
                (self._text(*axis, 2) or "?") if length is None else length
                for axis, length in zip(axes, lengths, strict=True)
            ),
        )

    def _span(self, begin: int, end: int, wanted: int) -> tuple[int, int] | None:
        return next(((first, last) for number, first, last in self._spans(begin, end) if number == wanted), None)

    def _text(self, begin: int, end: int, wanted: int) -> str:
        span = self._span(begin, end, wanted)
        return self._data[span[0] : span[1]].decode() if span else ""

    def _number(self, begin: int, end: int, wanted: int) -> int | None:
        found = (value for number, kind, value, _ in self._fields(begin, end) if (number, kind) == (wanted, _VARINT))
        value = next(found, None)
        return value - (1 << 64) if value is not None and value >> 63 else value

    def _spans(self, begin: int, end: int) -> Iterator[Field]:
        return ((number, first, last) for number, kind, first, last in self._fields(begin, end) if kind == _SPAN)

    def _fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Give (number, wire type, value or first byte, byte after the last) of each field of a message."""
        at = begin
        while at < end:
            key, at = self._varint(at)
            first = last = at
            if key & 7 == _VARINT:
                first, last = self._varint(at)
                at = last
            elif key & 7 == _SPAN:
                length, first = self._varint(at)
                at = last = first + length
            elif key & 7 in (_EIGHT_BYTES, _FOUR_BYTES):
                at = last = at + (8 if key & 7 == _EIGHT_BYTES else 4)
            else:
                raise ValueError("it is not made of protocol buffers")
            if at > end or not key >> 3:
                raise ValueError("it is cut off or damaged")
            yield key >> 3, key & 7, first, last

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for place in range(_LONGEST_VARINT):
            byte = self._data[at + place]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value, at + place + 1
        raise ValueError("it is not made of protocol buffers")
