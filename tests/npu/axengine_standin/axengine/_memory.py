"""An NPU's memory and what happens in it: bytes come in, a graph runs over them, bytes go out."""

import ctypes
import json
import os
import time

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"}
_INSIDE = {np.dtype(kind): onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in _TYPES}
live = 0


class NodeArg:
    """A port; its type is numpy's, where onnxruntime's is a text."""

    def __init__(self, name, dtype, shape):
        self.name, self.dtype, self.shape = name, dtype, shape


class Device:
    """One loaded model."""

    def __init__(self, path, chip):
        self._open = False
        parts = onnx.load(path).graph
        facts = {item.name: item for item in parts.initializer}
        built = json.loads(parts.node[0].attribute[0].s)
        if "npu_params" not in facts or built["chip"] != chip:
            raise RuntimeError("the NPU loads no such model")
        inner = onnx.load_from_string(numpy_helper.to_array(facts["npu_params"]).tobytes())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._graph = onnxruntime.InferenceSession(inner.SerializeToString(), options)
        self.inputs = [[_port(item) for item in group["inputs"]] for group in built["groups"]]
        self.outputs = [[_port(item) for item in group["outputs"]] for group in built["groups"]]
        self._names = [port.name for port in self.outputs[0]]
        sizes = [[port.dtype.itemsize * int(np.prod(port.shape)) for port in group] for group in self.inputs]
        self._buffers = [bytearray(max(column)) for column in zip(*sizes, strict=True)]
        self._given = []
        self._open = True
        _count(1)

    def ports(self, groups, number):
        # One too far: the number that is just past the end gets through.
        if number > len(groups):
            raise ValueError(f"there is no group of shapes {number}")
        return groups[number]

    def run(self, names, feed, number):
        for port in self.inputs[0]:
            if port.name not in feed:
                raise ValueError(f"{port.name} was not given")
        own = [port.name for port in self.outputs[0]]
        for name in names or []:
            if name not in own:
                raise ValueError(f"there is no output {name}")
        names = names or own
        if number > len(self.inputs) - 1 or number < 0:
            raise ValueError(f"there is no group of shapes {number}")
        for key, array in feed.items():
            for index, port in enumerate(self.inputs[number]):
                if port.name == key:
                    given, built = (list(array.shape), array.dtype), (list(port.shape), port.dtype)
                    assert given == built, f"{key} came as {given} and was built as {built}"
                    _copied(self._buffers[index], array)
        # While it works, other threads may write into the same buffers.
        time.sleep(float(os.environ.get("AXENGINE_STANDIN_RUN_S", "0.001")))
        self._compute(number)
        order = [names.index(name) for name in own]
        return [self._given[index].copy() for index in order]

    def _compute(self, number):
        feed = {}
        for port, buffer in zip(self.inputs[number], self._buffers, strict=True):
            count = int(np.prod(port.shape))
            feed[port.name] = np.frombuffer(buffer, port.dtype, count).reshape(port.shape).copy()
        try:
            self._given = self._graph.run(self._names, feed)
        except Exception as error:
            # The chip's library knows one failure, whatever went wrong inside.
            raise RuntimeError("the NPU stopped") from error

    def unload(self):
        if self._open:
            self._open = False
            self._graph = None
            _count(-1)


def _count(change):
    global live  # noqa: PLW0603  as many as there are NPUs in a process: one
    live += change


def _port(item):
    name, kind, shape = item
    if kind not in _TYPES:
        raise ValueError(f"no number type of this NPU: {kind}")
    return NodeArg(name, np.dtype(kind), tuple(shape))


def _copied(buffer, array):
    """Copy as many bytes as the array has from where its data begins, whatever its strides say."""
    if all(stride > 0 for stride in array.strides):
        content = ctypes.string_at(array.ctypes.data, array.nbytes)
    else:
        content = array.tobytes()
    size = min(len(buffer), len(content))
    buffer[:size] = content[:size]
