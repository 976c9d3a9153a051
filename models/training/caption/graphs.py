"""Writes the decoder's two graphs: `see`, once for a picture, and `step`, once for every piece of its caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from nearsight.caption.findings import MOST
from training import lite0
from training.caption import model, texts
from training.graphs import Writer, grid_nodes, layer_nodes

SCALE = 16.0  # of token embeddings and of the embedding's halves, as in model.py
EPSILON = 1e-5  # torch's default


class DecoderGraph(Writer):
    """Builds either graph from the trained module, node by node."""

    def __init__(self, decoder: model.Decoder) -> None:
        super().__init__()
        shape = decoder.shape
        self.decoder, self.heads, self.deep = decoder, shape.heads, shape.width // shape.heads
        self.known: dict[str, np.ndarray] = {
            name: np.array(value, np.float32)
            for name, value in {
                "big": SCALE,
                "scale": self.deep**-0.5,
                "root": 0.5**0.5,
                "half": 0.5,
                "one": 1.0,
            }.items()
        }
        shapes = {"split": [0, 0, self.heads, self.deep], "join": [0, 0, shape.width], "first": [1]}
        self.known |= {name: np.array(values, np.int64) for name, values in shapes.items()}

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        """As the writer's own; small constants are written when they are first asked for."""
        for name in inputs:
            if name in self.known:
                self.weights.append(numpy_helper.from_array(self.known.pop(name), name))
        return super().node(op, inputs, output, domain, **attributes)

    def linear(self, x: str, name: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
        """A product with a matrix as torch keeps it, (out, in), and a bias."""
        y = self.node("MatMul", [x, self.constant(name + ".w", weight.detach().numpy().T)], name + ".m")
        return self.node("Add", [y, self.constant(name + ".b", bias.detach().numpy())], name)

    def module(self, x: str, name: str, linear: torch.nn.Module, rows: slice = slice(None)) -> str:
        """The same, of a layer or of some of its rows."""
        assert isinstance(linear, torch.nn.Linear)
        return self.linear(x, name, linear.weight[rows], linear.bias[rows])

    def norm(self, x: str, name: str, norm: torch.nn.Module) -> str:
        assert isinstance(norm, torch.nn.LayerNorm)
        weights = (self.constant(f"{name}.{part}", getattr(norm, at).detach().numpy()) for part, at in PARTS)
        return self.node("LayerNormalization", [x, *weights], name, axis=-1, epsilon=EPSILON)

    def split(self, x: str) -> str:
        """(n, t, width) to (n, heads, t, width / heads)."""
        return self.node("Transpose", [self.node("Reshape", [x, "split"], x + ".r")], x + ".h", perm=[0, 2, 1, 3])

    def halves(self, x: str, name: str, attention: model.Attention) -> tuple[str, str]:
        """Keys and values, split into heads."""
        width = self.decoder.shape.width
        parts = (("k", slice(width)), ("v", slice(width, None)))
        keys, values = (self.split(self.module(x, f"{name}.{part}", attention.keys, rows)) for part, rows in parts)
        return keys, values

    def attend(self, x: str, name: str, attention: model.Attention, keys: str, values: str) -> str:
        """From one piece's state to what it found among keys and values."""
        query = self.split(self.module(x, f"{name}.q", attention.query))
        flipped = self.node("Transpose", [keys], f"{name}.flipped", perm=[0, 1, 3, 2])
        likeness = self.node("Mul", [self.node("MatMul", [query, flipped], f"{name}.qk"), "scale"], f"{name}.scaled")
        found = self.node("MatMul", [self.node("Softmax", [likeness], f"{name}.p", axis=-1), values], f"{name}.mix")
        joined = self.node("Transpose", [found], f"{name}.mix.t", perm=[0, 2, 1, 3])
        return self.module(self.node("Reshape", [joined, "join"], f"{name}.mix.r"), f"{name}.o", attention.out)

    def gelu(self, x: str, name: str) -> str:
        """The exact form, which onnxruntime fuses."""
        inner = self.node("Erf", [self.node("Mul", [x, "root"], name + ".a")], name + ".b")
        gate = self.node("Add", [inner, "one"], name + ".c")
        return self.node("Mul", [self.node("Mul", [x, gate], name + ".d"), "half"], name)

    def row(self, x: str, place: int) -> str:
        """One entry of axis 1 of (n, 2 x layers, ...): keys of layer i stand at 2 i, its values behind them."""
        if f"at{place}" not in {weight.name for weight in self.weights}:
            self.known[f"at{place}"] = np.array(place, np.int64)
        return self.node("Gather", [x, f"at{place}"], f"{x}.{place}", axis=1)

    def stack(self, parts: list[str], output: str) -> str:
        """Put (n, ...) side by side as (n, parts, ...)."""
        return self.node(
            "Concat", [self.node("Unsqueeze", [part, "first"], part + ".u") for part in parts], output, axis=1
        )


PARTS = (("w", "weight"), ("b", "bias"))


def _floats(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _layers(decoder: model.Decoder) -> list[model.Layer]:
    return [layer for layer in decoder.layers if isinstance(layer, model.Layer)]


def write_see(path: Path, decoder: model.Decoder) -> None:
    """`cells` (n, 49, 1280), `scene` (n, 25, 1280) and `findings` (n, MOST, 6) to `seen`.

    These are every layer's keys and values of 86 places.
    """
    w = DecoderGraph(decoder)
    grids = [
        w.module(name, f"{name}.seen", layer) for name, layer in (("cells", decoder.cells), ("scene", decoder.scene))
    ]
    w.constant("fields", np.array([1, model.FINDING - 1], np.int64))
    w.constant("deepest", np.array([2], np.int64))
    w.nodes.append(helper.make_node("Split", ["findings", "fields"], ["kind", "box"], name="finding", axis=2))
    kind = w.node("Cast", [w.node("Squeeze", ["kind", "deepest"], "kind.flat")], "kind.number", to=TensorProto.INT64)
    table = w.constant("kinds", decoder.kinds.weight.detach().numpy() * SCALE)
    found = w.node(
        "Add", [w.node("Gather", [table, kind], "kind.seen"), w.module("box", "box.seen", decoder.box)], "found"
    )
    joined = w.node("Concat", [*grids, found], "joined", axis=1)
    places = w.constant("places", decoder.places.detach().numpy())
    x = w.norm(w.node("Add", [joined, places], "placed"), "seen.norm", decoder.seen_norm)
    rows = [part for index, layer in enumerate(_layers(decoder)) for part in w.halves(x, f"l{index}.p", layer.picture)]
    w.stack(rows, "seen")
    inputs = [
        _floats("cells", "n", model.CELLS, model.WIDTH),
        _floats("scene", "n", model.SCENE, model.WIDTH),
        _floats("findings", "n", MOST, model.FINDING),
    ]
    w.save(path, "nano.caption.see", inputs, [_kept(w, "seen", model.SEEN)])


def write_top(path: Path, trunk: lite0.Trunk) -> None:
    """The trunk's upper half: `lower` (n, 112, 14, 14), the grid it shares with search, to `cells`."""
    layers = lite0.layers_of(trunk)
    first = 1 + [layer.name for layer in layers].index(lite0.LOWER)
    w = Writer()
    grid_nodes(w, layer_nodes(w, layers[first:], "lower"), "cells")
    given, wanted = _floats("lower", "n", 112, 14, 14), _floats("cells", "n", model.CELLS, model.WIDTH)
    w.save(path, "nano.caption.top", [given], [wanted])


def write_step(path: Path, decoder: model.Decoder) -> None:
    """The latest piece `ids` (n, 1), `seen`, and `past`: keys and values of the t pieces before it.

    Gives `logits` (n, pieces) of the next piece, and `present`: `past` with this piece behind it.
    """
    w = DecoderGraph(decoder)
    # Kept as columns, so that the table by which pieces are read in is the matrix by which they are scored.
    table = w.constant("pieces.w", decoder.pieces.weight.detach().numpy().T)
    read = w.node("Gather", [table, "ids"], "ids.columns", axis=1)  # (width, n, 1)
    piece = w.node("Mul", [w.node("Transpose", [read], "ids.rows", perm=[1, 2, 0]), "big"], "piece")
    w.constant("positions", decoder.positions.detach().numpy())
    age = w.node("Shape", ["past"], "past.length", start=3, end=4)
    x = w.node("Add", [piece, w.node("Gather", ["positions", age], "position")], "embedded")
    kept: list[str] = []
    for index, layer in enumerate(_layers(decoder)):
        at = f"l{index}"
        y = w.norm(x, f"{at}.n0", layer.norms[0])
        new = w.halves(y, f"{at}.b", layer.back)
        both = [
            w.node("Concat", [w.row("past", 2 * index + side), part], f"{at}.{side}.kept", axis=2)
            for side, part in enumerate(new)
        ]
        kept += both
        x = w.node("Add", [x, w.attend(y, f"{at}.back", layer.back, *both)], f"{at}.x0")
        shown = [w.row("seen", 2 * index + side) for side in range(2)]
        y = w.norm(x, f"{at}.n1", layer.norms[1])
        x = w.node("Add", [x, w.attend(y, f"{at}.look", layer.picture, *shown)], f"{at}.x1")
        y = w.module(w.norm(x, f"{at}.n2", layer.norms[2]), f"{at}.up", layer.think[0])
        x = w.node("Add", [x, w.module(w.gelu(y, f"{at}.gelu"), f"{at}.down", layer.think[2])], f"{at}.x2")
    last = w.node("Squeeze", [w.norm(x, "norm", decoder.norm), "first"], "last")
    scored = w.node("MatMul", [last, table], "scored")
    w.node("Add", [scored, w.constant("pieces.b", decoder.bias.detach().numpy())], "logits")
    w.stack(kept, "present")
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", 1])
    inputs = [ids, _kept(w, "seen", model.SEEN), _kept(w, "past", "t")]
    w.save(path, "nano.caption.step", inputs, [_floats("logits", "n", texts.PIECES), _kept(w, "present", "t1")])


def _kept(w: DecoderGraph, name: str, length: int | str) -> ValueInfoProto:
    return _floats(name, "n", 2 * w.decoder.shape.layers, w.heads, length, w.deep)
