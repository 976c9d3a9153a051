"""The decoder in torch: three layers that look at two grids and at what was found; and the trunk's top below it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from nearsight.caption.findings import MOST
from training import lite0
from training.caption import texts

CELLS, SCENE, WIDTH = 49, 25, 1280
CLASSES = 80
FINDING = 6  # class, left, top, right, bottom, score
SEEN = CELLS + SCENE + MOST  # places that every caption may look at


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of the decoder."""

    width: int = 256
    heads: int = 4
    layers: int = 3
    inner: int = 640
    dropout: float = 0.2


def _narrow(x: torch.Tensor) -> torch.dtype:
    """BF16 where training runs in it: sums in FP32 would be cast to and fro at every layer."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class Attention(nn.Module):
    """Queries of the caption against keys and values of the caption or of the picture."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width)
        self.keys = nn.Linear(shape.width, 2 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(n, t, width) to (n, heads, t, width / heads)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: torch.Tensor, source: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Attend from x (n, t, width) to source (n, s, width); a causal one sees only what came before."""
        keys, values = (self.split(part) for part in self.keys(source).chunk(2, dim=-1))
        return self.looked(x, keys, values, causal=causal)

    def looked(self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, causal: bool) -> torch.Tensor:
        """Attend from x (n, t, width) to keys and values (n, heads, s, width / heads)."""
        # Written out: on two cores torch's fused kernel takes several times as long on the way back.
        likeness = self.split(self.query(x)) @ keys.transpose(2, 3) * keys.shape[-1] ** -0.5
        if causal:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            likeness = likeness.masked_fill(later, -torch.inf)
        found = likeness.softmax(-1).to(values.dtype) @ values
        return self.out(found.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Look back, look at the picture, think; each adds to what is there."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(shape.width) for _ in range(3))
        self.back, self.picture = Attention(shape), Attention(shape)
        self.think = nn.Sequential(nn.Linear(shape.width, shape.inner), nn.GELU(), nn.Linear(shape.inner, shape.width))
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Run captions x (pictures * k, t, width) over what is seen (pictures, SEEN, width)."""
        y = self.norms[0](x)
        x = x + self.drop(self.back(y, y, causal=True))
        y = self.norms[1](x)
        # All k captions of a picture look at the same cells: they go through as one long caption.
        looked = self.picture(y.reshape(seen.shape[0], -1, y.shape[-1]), seen, causal=False)
        x = x + self.drop(looked.reshape(x.shape))
        return x + self.drop(self.think(self.norms[2](x)))


class Top(nn.Module):
    """The upper half of EfficientNet-Lite0, tuned for captions over a lower half that stays as it is."""

    def __init__(self, trunk: lite0.Trunk) -> None:
        super().__init__()
        self.upper, self.head = trunk.upper, trunk.head

    def forward(self, lower: torch.Tensor) -> torch.Tensor:
        """From (n, 112, 14, 14) to cells (n, 49, 1280)."""
        return self.head(self.upper(lower)).flatten(2).transpose(1, 2)


class Decoder(nn.Module):
    """From two grids and what was found to the next piece of a caption."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.top = Top(lite0.load_trunk())
        self.cells, self.scene = nn.Linear(WIDTH, shape.width), nn.Linear(WIDTH, shape.width)
        self.kinds = nn.Embedding(CLASSES + 1, shape.width)  # the last one: nothing more was found
        self.box = nn.Linear(FINDING - 1, shape.width)
        self.places = nn.Parameter(0.02 * torch.randn(SEEN, shape.width))
        self.seen_norm = nn.LayerNorm(shape.width)
        self.pieces = nn.Embedding(texts.PIECES, shape.width)
        self.positions = nn.Parameter(0.02 * torch.randn(texts.LONGEST, shape.width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.bias = nn.Parameter(torch.zeros(texts.PIECES))
        self.drop = nn.Dropout(shape.dropout)
        for table in (self.pieces, self.kinds):
            nn.init.normal_(table.weight, std=0.04)

    def see(self, lower: torch.Tensor, scene: torch.Tensor, findings: torch.Tensor) -> torch.Tensor:
        """From lower grids (n, 112, 14, 14), scene and findings to what captions look at, as `look`."""
        return self.look(self.top(lower), scene, findings)

    def look(self, cells: torch.Tensor, scene: torch.Tensor, findings: torch.Tensor) -> torch.Tensor:
        """From cells (n, 49, 1280), scene (n, 25, 1280) and findings (n, MOST, 6) to what captions look at.

        Returns:
            (n, SEEN, width).
        """
        found = self.kinds(findings[..., 0].long()) * 16.0 + self.box(findings[..., 1:])
        seen = torch.cat([self.cells(cells), self.scene(scene), found], 1) + self.places
        return self.drop(self.seen_norm(seen.to(_narrow(seen))))

    def forward(self, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """States (pictures * k, t, width) after the captions' ids (pictures * k, t)."""
        x = self.pieces(ids) * 16.0 + self.positions[: ids.shape[1]]
        x = self.drop(x.to(_narrow(x)))
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x)

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Logits (..., pieces) of the next piece."""
        return functional.linear(states, self.pieces.weight, self.bias)

    @torch.inference_mode()
    def spoken(self, seen: torch.Tensor, start: int, *, drawn: bool = False) -> torch.Tensor:
        """Captions as ids (n, t), PAD behind their END: the likeliest piece after each piece, or drawn at random."""
        memory, ids = Memory(self, seen), torch.full((len(seen), 1), start, device=seen.device)
        ended = torch.zeros(len(seen), dtype=torch.bool, device=seen.device)
        silent = [texts.PAD, texts.UNKNOWN, *range(texts.EN, texts.TRANSLATED + 1)]
        for _ in range(texts.LONGEST - 1):
            logits = memory.step(ids[:, -1:]).float()
            logits[:, silent] = -torch.inf
            if drawn:
                following = torch.multinomial(logits.softmax(-1), 1)[:, 0]
            else:
                logits.scatter_(1, ids[:, -1:], -torch.inf)  # no piece twice in a row
                following = logits.argmax(1)
            following = following.masked_fill(ended, texts.PAD)
            ids = torch.cat([ids, following[:, None]], 1)
            ended |= following == texts.END
            if ended.all():
                break
        return ids

    def greedy(self, seen: torch.Tensor, start: int) -> list[list[int]]:
        """The likeliest pieces of each caption, without start and end; for the curve."""
        return [bare(row) for row in self.spoken(seen, start).tolist()]


def bare(ids: list[int]) -> list[int]:
    """A caption without its start, its end and what fills it up."""
    return [i for i in ids[1:] if i not in (texts.PAD, texts.END)]


class Memory:
    """Captions as they are spoken, piece by piece: keys and values of what was said and of what is seen are kept.

    Args:
        decoder: The decoder.
        seen: (n, SEEN, width), one row a caption.
    """

    def __init__(self, decoder: Decoder, seen: torch.Tensor) -> None:
        self.decoder = decoder
        self.shown = [self._halves(layer.picture, seen) for layer in decoder.layers]
        self.said: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * len(self.shown)
        self.length = 0

    @staticmethod
    def _halves(attention: Attention, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = (attention.split(part) for part in attention.keys(x).chunk(2, dim=-1))
        return keys, values

    def step(self, latest: torch.Tensor) -> torch.Tensor:
        """Logits (n, pieces) of what follows the latest pieces (n, 1)."""
        decoder = self.decoder
        x = decoder.pieces(latest) * 16.0 + decoder.positions[self.length]
        x = x.to(_narrow(x))
        for place, layer in enumerate(decoder.layers):
            y = layer.norms[0](x)
            new, before = self._halves(layer.back, y), self.said[place]
            keys, values = new if before is None else (torch.cat(pair, 2) for pair in zip(before, new, strict=True))
            self.said[place] = (keys, values)
            x = x + layer.back.looked(y, keys, values, causal=False)
            x = x + layer.picture.looked(layer.norms[1](x), *self.shown[place], causal=False)
            x = x + layer.think(layer.norms[2](x))
        self.length += 1
        return decoder.scores(decoder.norm(x)[:, 0])
