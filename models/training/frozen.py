"""Reads the constants of a frozen TensorFlow graph (`GraphDef` in protocol-buffer encoding) without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# Field numbers of TensorFlow's messages. Source: graph.proto, node_def.proto, attr_value.proto, tensor.proto.
_NODE, _NODE_NAME, _NODE_OP, _NODE_ATTR = 1, 1, 2, 5
_ATTR_LIST, _ATTR_TENSOR, _LIST_INTS = 1, 8, 3
_TENSOR_TYPE, _TENSOR_SHAPE, _TENSOR_BYTES, _TENSOR_FLOATS = 1, 2, 4, 5
_FLOAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What a converter asks of a graph.

    Attributes:
        constants: node name -> float32 array.
        strides: node name -> the stride of a convolution, in both directions.
        names: every node.
    """

    constants: dict[str, np.ndarray] = field(default_factory=dict)
    strides: dict[str, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def read(path: Path) -> Frozen:
    """Read a `frozen_inference_graph.pb`."""
    found = Frozen()
    for number, node in _fields(memoryview(path.read_bytes())):
        if number == _NODE:
            _keep(found, node)
    return found


def _keep(found: Frozen, node: memoryview) -> None:
    name, op, attributes = "", "", {}
    for number, value in _fields(node):
        if number == _NODE_NAME:
            name = bytes(value).decode()
        elif number == _NODE_OP:
            op = bytes(value).decode()
        elif number == _NODE_ATTR:
            pair = dict(_fields(value))
            attributes[bytes(pair[1]).decode()] = dict(_fields(pair[2]))
    found.names.add(name)
    if op == "Const":
        array = _tensor(attributes["value"][_ATTR_TENSOR])
        if array is not None:
            found.constants[name] = array
    elif op in ("Conv2D", "DepthwiseConv2dNative"):
        # Batch, height, width, channels.
        found.strides[name] = list(_varints(dict(_fields(attributes["strides"][_ATTR_LIST]))[_LIST_INTS]))[1]


def _tensor(message: memoryview) -> np.ndarray | None:
    """A constant as an array; None where it is not made of float32."""
    parts = dict(_fields(message))
    if parts[_TENSOR_TYPE] != _FLOAT:
        return None
    axes = [dict(_fields(axis)).get(1, 0) for number, axis in _fields(parts[_TENSOR_SHAPE]) if number == 2]
    values = np.frombuffer(parts.get(_TENSOR_BYTES, parts.get(_TENSOR_FLOATS, b"")), "<f4")
    return np.full(axes, values[0]) if values.size == 1 else values.reshape(axes)


def _varints(buffer: memoryview) -> Iterator[int]:
    at = 0
    while at < len(buffer):
        value, at = _varint(buffer, at)
        yield value


def _varint(buffer: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = buffer[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def _fields(buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Walk a message as (field number, payload); a payload that is a number comes as an int."""
    at = 0
    while at < len(buffer):
        key, at = _varint(buffer, at)
        if key & 7 == 0:
            value, at = _varint(buffer, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, at = _varint(buffer, at)
            value, at = buffer[at : at + size], at + size
        yield key >> 3, value
