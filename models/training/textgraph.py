"""Writes the text tower's ONNX graph: e5 in 4 bit with its tuned layers, then the two parts of the space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper

from training import e5, model
from training.graphs import Writer

POSITIONS = 64  # of the 512 that the tower has: a query is a sentence
ACCURACY_LEVEL = 4  # onnxruntime accumulates in INT8; 0 is FP32
OPSET = 21


def nibbles(codes: np.ndarray) -> np.ndarray:
    """Pack neighbouring pairs of codes 0 to 15 into bytes, the first one low."""
    return (codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8)


class TextGraph(Writer):
    """Builds the graph node by node."""

    def __init__(self, source: e5.Source, *, shipped: bool) -> None:
        super().__init__(domains={"com.microsoft": 1})
        self.source, self.shipped = source, shipped
        heads, width = source.heads, source.width
        scalars = {"one": 1, "minus": -1e9, "scale": (width // heads) ** -0.5, "root": 0.5**0.5, "half": 0.5}
        for name, value in scalars.items():
            self.constant(name, np.array(value, np.float32))
        shapes = {
            "i0": [0],
            "i1": [1],
            "i12": [1, 2],
            "last": [-1],
            "split": [0, 0, heads, width // heads],
            "join": [0, 0, width],
        }
        for name, values in shapes.items():
            self.constant(name, np.array(values, np.int64))

    def product(self, x: str, name: str, codes: np.ndarray, scales: np.ndarray, bias: np.ndarray) -> str:
        """A 4-bit matrix product: codes (rows, blocks, 32), scales (rows, blocks)."""
        rows, blocks = scales.shape
        weights = [x, self.constant(name + ".w", nibbles(codes)), self.halved(name + ".s", scales.reshape(-1))]
        y = self.node(
            "MatMulNBits",
            weights,
            name + ".m",
            "com.microsoft",
            K=blocks * e5.BLOCK,
            N=rows,
            bits=4,
            block_size=e5.BLOCK,
            accuracy_level=ACCURACY_LEVEL if self.shipped else 0,
        )
        return self.node("Add", [y, self.constant(name + ".b", bias.astype(np.float32))], name)

    def halved(self, name: str, array: np.ndarray) -> str:
        """Store a constant in FP16 behind a cast, which a runtime folds at load; in FP32 for the reference.

        onnxruntime 1.32 multiplies by garbage where it does not fold the cast of a scale (all optimizations off).
        """
        if not self.shipped:
            return self.constant(name, array.astype(np.float16).astype(np.float32))
        return self.node("Cast", [self.constant(name + ".f16", array.astype(np.float16))], name, to=TensorProto.FLOAT)

    def tuned(self, x: str, name: str, linear: torch.nn.Linear) -> str:
        """A product whose weights training changed: rounded again, exactly as training did."""
        raw = (
            linear.parametrizations.weight.original
            if torch.nn.utils.parametrize.is_parametrized(linear)
            else linear.weight
        )
        codes, scales = model.quantized(raw)
        bias = np.zeros(len(codes), np.float32) if linear.bias is None else linear.bias.detach().numpy()
        return self.product(x, name, codes.numpy().astype(np.uint8), scales.numpy(), bias)

    def norm(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        return self.node(
            "LayerNormalization",
            [x, self.constant(name + ".w", weight), self.constant(name + ".b", bias)],
            name,
            axis=-1,
            epsilon=self.source.epsilon,
        )

    def embeddings(self, keep: list[int]) -> str:
        """Token, position and type embeddings of `ids`."""
        s, count = self.source, len(keep)
        codes, scales = s.blocks("emb.word", s.vocabulary, s.width)
        zeros = np.full(count * s.width // 64, 0x88, np.uint8).tobytes()  # left out, the zero points are 0, not 8
        self.weights.append(
            helper.make_tensor("word", TensorProto.UINT4, [count, s.width], nibbles(codes[keep]).tobytes(), raw=True)
        )
        self.weights.append(
            helper.make_tensor("word.z", TensorProto.UINT4, [count, s.width // e5.BLOCK], zeros, raw=True)
        )
        self.constant("word.s", scales[keep].astype(np.float16))
        self.node(
            "GatherBlockQuantized",
            ["word", "ids", "word.s", "word.z"],
            "word16",
            "com.microsoft",
            gather_axis=0,
            quantize_axis=1,
            block_size=e5.BLOCK,
        )
        words = self.node("Cast", ["word16"], "words", to=TensorProto.FLOAT)
        kind = s.floats("emb.type", s.tensors["emb.type"][0] // s.width, s.width)[0]
        positions = s.floats("emb.pos", s.tensors["emb.pos"][0] // s.width, s.width)[:POSITIONS] + kind
        self.halved("position", positions)
        length = self.node("Gather", [self.node("Shape", ["ids"], "shape"), "i1"], "length")
        place = self.node("Slice", ["position", "i0", length, "i0"], "positions")
        return self.norm(
            self.node("Add", [words, place], "embedded"),
            "embedded.norm",
            s.floats("emb.ln.w", s.width),
            s.floats("emb.ln.b", s.width),
        )

    def layer(self, x: str, index: int, tuned: e5.Layer | None) -> str:
        """One transformer layer, from the file's own codes or from a tuned module."""
        s, at = self.source, f"l{index}"

        def linear(y: str, part: str, rows: int, columns: int) -> str:
            if tuned is not None:
                return self.tuned(y, f"{at}.{part}", getattr(tuned, part))
            return self.product(
                y, f"{at}.{part}", *s.blocks(f"{at}.{part}.w", rows, columns), s.floats(f"{at}.{part}.b", rows)
            )

        def norm(y: str, part: str) -> str:
            if tuned is not None:
                module = getattr(tuned, part)
                return self.norm(y, f"{at}.{part}", module.weight.detach().numpy(), module.bias.detach().numpy())
            return self.norm(
                y, f"{at}.{part}", s.floats(f"{at}.{part}.w", s.width), s.floats(f"{at}.{part}.b", s.width)
            )

        parts = []
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            y = self.node("Reshape", [linear(x, part, s.width, s.width), "split"], f"{at}.{part}.r")
            parts.append(self.node("Transpose", [y], f"{at}.{part}.t", perm=order))
        scores = self.node("Mul", [self.node("MatMul", parts[:2], f"{at}.qk"), "scale"], f"{at}.scaled")
        weights = self.node("Softmax", [self.node("Add", [scores, "bias"], f"{at}.masked")], f"{at}.p", axis=-1)
        y = self.node(
            "Transpose", [self.node("MatMul", [weights, parts[2]], f"{at}.mix")], f"{at}.mix.t", perm=[0, 2, 1, 3]
        )
        y = linear(self.node("Reshape", [y, "join"], f"{at}.mix.r"), "ao", s.width, s.width)
        x = norm(self.node("Add", [y, x], f"{at}.add1"), "aln")
        y = self.gelu(linear(x, "fi", s.inner, s.width), f"{at}.gelu")
        return norm(self.node("Add", [linear(y, "fo", s.width, s.inner), x], f"{at}.add2"), "oln")

    def gelu(self, x: str, name: str) -> str:
        """The exact form, which onnxruntime fuses."""
        gate = self.node(
            "Add", [self.node("Erf", [self.node("Mul", [x, "root"], name + ".a")], name + ".b"), "one"], name + ".c"
        )
        return self.node("Mul", [self.node("Mul", [x, gate], name + ".d"), "half"], name)


def write_text_tower(path: Path, source: e5.Source, keep: list[int], tower: model.TextTower, *, shipped: bool) -> None:
    """`ids`, `mask` int64 (n, t) -> `embedding` (n, learned + named), unit length; as shipped or as the reference."""
    w = TextGraph(source, shipped=shipped)
    x = w.embeddings(keep)
    mask = w.node("Cast", ["mask"], "mask.f", to=TensorProto.FLOAT)
    hidden = w.node("Sub", ["one", w.node("Unsqueeze", [mask, "i12"], "mask.4")], "hidden")
    w.node("Mul", [hidden, "minus"], "bias")
    first = source.layers - len(tower.layers)
    for index in range(source.layers):
        x = w.layer(x, index, tower.layers[index - first] if index >= first else None)
    mask3 = w.node("Unsqueeze", [mask, "last"], "mask.3")
    total = w.node("ReduceSum", [w.node("Mul", [x, mask3], "kept"), "i1"], "total", keepdims=0)
    mean = w.node("Div", [total, w.node("ReduceSum", [mask3, "i1"], "count", keepdims=0)], "mean")
    sentence = w.unit(mean, "sentence")
    centred = w.node("Sub", [sentence, w.constant("centre", tower.mean.detach().numpy())], "centred")
    spread = w.node("Mul", [centred, w.constant("spread", np.array(model.SPREAD, np.float32))], "centred.spread")
    learned = w.unit(
        w.tuned(w.gelu(w.tuned(spread, "first", tower.first), "first.gelu"), "second", tower.second), "learned"
    )
    projection = w.halved("projection", tower.projection.weight.detach().numpy().T)
    product = w.node("MatMul", [centred, projection], "named.product")
    named = w.unit(
        w.node("Add", [product, w.constant("projection.bias", tower.projection.bias.detach().numpy())], "named.raw"),
        "named",
    )
    weighted = w.node(
        "Mul", [named, w.constant("named.weight", np.array(model.NAMED_WEIGHT, np.float32))], "named.weighted"
    )
    both = w.node("Concat", [learned, weighted], "joined", axis=-1)
    w.node(
        "Mul",
        [both, w.constant("joined.scale", np.array((1 + model.NAMED_WEIGHT**2) ** -0.5, np.float32))],
        "embedding",
    )
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("ids", "mask")]
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", model.LEARNED + model.NAMED])
    w.save(path, "nano.text", ids, [out], opset=OPSET)
