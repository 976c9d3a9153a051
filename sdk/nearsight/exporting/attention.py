"""Self-attention spelled out in products, so that a traced graph takes any number and length of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def spelled_out(model: torch.nn.Module) -> None:
    """Replace each self-attention of torch's own in a model by one that tracing sees through; the weights are shared.

    Tracing torch's own keeps the length of the example for ever, or meets an operator that ONNX does not have.
    """
    import torch

    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, torch.nn.MultiheadAttention) and part.batch_first and part.in_proj_weight is not None:
                setattr(parent, name, _made(part))


def _made(part: Any) -> torch.nn.Module:
    import torch
    from torch.nn import functional

    width, heads = int(part.embed_dim), int(part.num_heads)
    deep = width // heads

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_proj_weight, self.in_proj_bias = part.in_proj_weight, part.in_proj_bias
            self.out_proj = part.out_proj

        def forward(
            self, query: torch.Tensor, *_: torch.Tensor, attn_mask: torch.Tensor | None = None, **__: Any
        ) -> tuple[torch.Tensor, None]:
            """Attend (n, t, c) to itself; a mask (t, t) is added to the scores."""
            count = query.shape[0]
            projected = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
            # Numbers that are known beforehand stand in the graph as such: only the batch is looked up.
            asks, keys, values = (
                projected[..., start : start + width].reshape(count, -1, heads, deep).transpose(1, 2)
                for start in (0, width, 2 * width)
            )
            scores = (asks * deep**-0.5) @ keys.transpose(2, 3)
            scores = scores if attn_mask is None else scores + attn_mask
            mixed = (scores.softmax(-1) @ values).transpose(1, 2).reshape(count, -1, width)
            return self.out_proj(mixed), None

    return Attention().eval()
