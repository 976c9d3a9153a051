"""Writes the ONNX graphs: the picture tower from folded convolutions, uint8 pixels in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training import lite0
from training.lite0 import WIDTH, Layer

OPSET, IR_VERSION = 17, 10
EPSILON = 1e-6


@dataclass(slots=True)
class Writer:
    """Collects nodes and weights; every method returns the name of its output."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    domains: dict[str, int] = field(default_factory=dict)

    def constant(self, name: str, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def unit(self, x: str, output: str) -> str:
        """Scale the last axis to length one."""
        squares = self.node("Mul", [x, x], f"{output}.square")
        if "last.axis" not in {w.name for w in self.weights}:
            self.constant("last.axis", np.array([-1], np.int64))
        size = self.node(
            "Sqrt", [self.node("ReduceSum", [squares, "last.axis"], f"{output}.squares", keepdims=1)], f"{output}.size"
        )
        if "epsilon" not in {w.name for w in self.weights}:
            self.constant("epsilon", np.float32(EPSILON))
        return self.node("Div", [x, self.node("Max", [size, "epsilon"], f"{output}.floor")], output)

    def save(
        self,
        path: Path,
        name: str,
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        opset: int = OPSET,
    ) -> None:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.weights)
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(k, v) for k, v in self.domains.items())]
        model = helper.make_model(graph, opset_imports=imports, producer_name="nearsight")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        onnx.save(model, path)


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureHead:
    """What turns pooled features f into `[unit(W f + b) ; weight * unit(top10(softmax(C f + c)) @ names)]`."""

    linear: np.ndarray  # (1280, learned)
    linear_bias: np.ndarray
    classifier: np.ndarray  # (1280, 1000)
    classifier_bias: np.ndarray
    names: np.ndarray  # (1000, named): unit vectors of the classes' names in the text tower's named part
    weight: float
    top: int = 10


def trunk_nodes(w: Writer, layers: list[Layer], upto: str = "head") -> str:
    """From `pixels` uint8 (n, 224, 224, 3) to the output of the layer `upto`, (n, channels, h, w)."""
    w.node("Transpose", ["pixels"], "pixels.nchw", perm=[0, 3, 1, 2])
    w.constant("pixels.scale", np.float32(1 / 128)), w.constant("pixels.zero", np.uint8(127))
    x = w.node("DequantizeLinear", ["pixels.nchw", "pixels.scale", "pixels.zero"], "pixels.float")
    return layer_nodes(w, layers[: 1 + [layer.name for layer in layers].index(upto)], x)


def layer_nodes(w: Writer, layers: list[Layer], x: str) -> str:
    """Convolution after convolution, with what stands behind each."""
    w.constant("zero", np.float32(0)), w.constant("six", np.float32(6))
    for layer in layers:
        inputs = [x, w.constant(layer.name + ".w", layer.weight), w.constant(layer.name + ".b", layer.bias)]
        kernel = list(layer.weight.shape[2:])
        strides, final = [layer.stride] * 2, layer.residual_from is None and not layer.relu6
        y = w.node(
            "Conv",
            inputs,
            layer.name if final else layer.name + ".conv",
            kernel_shape=kernel,
            strides=strides,
            pads=list(layer.pads),
            group=layer.groups,
        )
        if layer.relu6:
            y = w.node("Clip", [y, "zero", "six"], layer.name)
        if layer.residual_from is not None:
            y = w.node("Add", [y, layer.residual_from], layer.name)
        x = y
    return x


def grid_nodes(w: Writer, x: str, output: str) -> str:
    """From (n, 1280, 7, 7) to a grid (n, 49, 1280), row by row."""
    w.constant("grid.shape", np.array([0, WIDTH, 49], np.int64))
    return w.node("Transpose", [w.node("Reshape", [x, "grid.shape"], "grid.flat")], output, perm=[0, 2, 1])


def _pixels() -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 224, 224, 3])


def _floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def write_features(path: Path, layers: list[Layer], lower: str) -> None:
    """A graph for caching: the lower trunk's grid (n, 112, 14, 14) and the pooled features (n, 1280)."""
    w = Writer()
    x = trunk_nodes(w, layers)
    w.node("Identity", [lower], "lower")
    w.node("Flatten", [w.node("GlobalAveragePool", [x], "pool")], "features", axis=1)
    w.save(path, "features", [_pixels()], [_floats("lower", "n", 112, 14, 14), _floats("features", "n", WIDTH)])


def write_picture_tower(path: Path, layers: list[Layer], head: PictureHead) -> None:
    """The shipped graph: `embedding` (n, learned + named), unit length, `grid` (n, 49, 1280), `lower` (n, 112, 14, 14).

    `lower` is where training stopped changing the trunk: heads that want it untouched stand on it.
    """
    w = Writer()
    x = trunk_nodes(w, layers)
    w.node("Identity", [lite0.LOWER], "lower")
    grid_nodes(w, x, "grid")
    f = w.node("Flatten", [w.node("GlobalAveragePool", [x], "pool")], "features", axis=1)
    linear = [f, w.constant("learned.w", head.linear), w.constant("learned.b", head.linear_bias)]
    learned = w.unit(w.node("Gemm", linear, "learned.raw"), "learned")
    logits = [f, w.constant("class.w", head.classifier), w.constant("class.b", head.classifier_bias)]
    p = w.node("Softmax", [w.node("Gemm", logits, "class.logits")], "class.p", axis=-1)
    w.constant("top", np.array([head.top], np.int64)), w.constant("last", np.array([head.top - 1], np.int64))
    w.nodes.append(helper.make_node("TopK", [p, "top"], ["class.top", "class.order"], name="class.top", axis=-1))
    least = w.node("Gather", ["class.top", "last"], "class.least", axis=1)
    kept = w.node("Where", [w.node("GreaterOrEqual", [p, least], "class.keep"), p, "zero"], "class.kept")
    named = w.unit(w.node("MatMul", [kept, w.constant("class.names", head.names)], "named.raw"), "named")
    weighted = w.node("Mul", [named, w.constant("named.weight", np.float32(head.weight))], "named.weighted")
    scaled = w.node("Concat", [learned, weighted], "joined", axis=-1)
    length = float(1 / np.sqrt(1 + head.weight**2))
    w.node("Mul", [scaled, w.constant("joined.scale", np.float32(length))], "embedding")
    width = head.linear.shape[1] + head.names.shape[1]
    outputs = [_floats("embedding", "n", width), _floats("grid", "n", 49, WIDTH), _floats("lower", "n", 112, 14, 14)]
    w.save(path, "nano.image", [_pixels()], outputs)
