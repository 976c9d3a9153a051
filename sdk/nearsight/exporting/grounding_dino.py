"""Exports Grounding DINO: one graph with one canvas, any number of phrases, and a mask for where there is a picture."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoTokenizer

from nearsight.errors import InputError
from nearsight.exporting.hubfolder import kept_files, loaded, named, pictures_file
from nearsight.exporting.painting import few, painted, ranked
from nearsight.exporting.tracing import Graphs
from nearsight.exporting.writing import Exported, weights_hash
from nearsight.families.grounding_dino import BEGIN, CANVAS_WH, END, STOP

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOUND = ("logits", "pred_boxes")
LEAST = 64  # pixels a side, below which the last map of the backbone has no cell


def export(
    source: Path | str, out: Path, *, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> Exported:
    """Export a Grounding DINO.

    Args:
        source: A folder as `save_pretrained` leaves it, or a name on the hub.
        out: The model's folder.
        batch: Only None: a graph of fixed batches does not run (its points become doubles where GridSample takes none).
        canvas: Width and height of what it looks at; None for 800 x 800. Pictures are fitted into it.

    Raises:
        InputError: If a batch is asked for, or a canvas that is too small.
        ModelError: If the source cannot be read.
    """
    if batch is not None:
        raise InputError(f"batches of {batch} were asked for; Grounding DINO is exported with any; leave it out")
    canvas = canvas or CANVAS_WH
    if min(canvas) < LEAST:
        raise InputError(f"a canvas of {canvas} was asked for; Grounding DINO takes {LEAST} pixels a side or more")
    model = loaded(source, ("GroundingDinoForObjectDetection",))
    # Its plain attention adds the truths of a mask as 1 and 0, so that it masks nothing: text features were off by 2.
    model.model.text_backbone.set_attn_implementation("sdpa")
    assets = [*kept_files(source, out), pictures_file(source, out)]
    begin, end, stop = AutoTokenizer.from_pretrained(**named(source)).convert_tokens_to_ids([BEGIN, END, STOP])
    parting = (begin, end, stop)
    graphs = Graphs(out)
    words = {0: "batch_size", 1: "sequence_length"}
    pictures = {0: "batch_size"}
    with _exportable():
        graphs.add(
            "detect",
            "model",
            _Whole(model),
            lambda more: _example(parting, canvas, model.config.text_config.vocab_size, more),
            FOUND,
            varying={
                **dict.fromkeys(("pixel_values", "pixel_mask", "pred_boxes"), pictures),
                **dict.fromkeys(("input_ids", "token_type_ids", "attention_mask"), words),
                "logits": {0: "batch_size", 2: "sequence_length"},
            },
        )
    return Exported(
        graphs=graphs.paths,
        golden=ranked(graphs.golden),
        settings={"canvas": list(canvas)},
        assets=assets,
        weights=weights_hash(model.state_dict().items()),
        repo=str(source),
    )


def _example(parting: tuple[int, int, int], canvas: tuple[int, int], vocabulary: int, more: int) -> dict[str, Any]:
    """Make pictures, the last of which fills a part of the canvas, and phrases of different lengths.

    Args:
        parting: Ids of the tokens that begin a text, end it, and end a phrase.
        canvas: Width and height.
        vocabulary: How many tokens there are.
        more: 0 for the trace, 1 for the golden set, which has another batch and other lengths.
    """
    count = few(None, more)
    drawn = torch.Generator().manual_seed(1)
    begin, end, stop = (torch.full((count, 1), one) for one in parting)
    phrases = [torch.randint(4, vocabulary, (count, width + more), generator=drawn) for width in (1, 3, 2)]
    ids = torch.cat([begin, *(part for phrase in phrases for part in (phrase, stop)), end], dim=1)
    pixels, mask = painted(canvas, count), torch.ones((count, canvas[1], canvas[0]), dtype=torch.int64)
    pixels[-1, :, -canvas[1] // 4 :] = 0
    mask[-1, -canvas[1] // 4 :] = 0
    return {
        "pixel_values": pixels,
        "input_ids": ids,
        "token_type_ids": torch.zeros_like(ids),
        "attention_mask": torch.ones_like(ids),
        "pixel_mask": mask,
    }


class _Whole(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.model(
            pixel_values=pixel_values,
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            attention_mask=attention_mask,
            pixel_mask=pixel_mask,
        )
        # What lies beyond the text is minus infinity: it says nothing, and no golden set takes it.
        return found.logits[:, :, : input_ids.shape[1]], found.pred_boxes


@contextmanager
def _exportable() -> Iterator[None]:
    """Put functions that can be traced in the place of two of transformers' own, for the time of an export."""
    from transformers.models.grounding_dino import modeling_grounding_dino as own

    names = ("generate_masks_with_special_tokens_and_transfer_map", "torch_compilable_check")
    kept = {name: getattr(own, name) for name in names}
    own.generate_masks_with_special_tokens_and_transfer_map = phrase_masks
    own.torch_compilable_check = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(own, name, function)


def phrase_masks(input_ids: torch.Tensor, special_tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Say which tokens belong to one phrase, and the place of each in it.

    A phrase ends with a special token, which belongs to it; the first and the last token of the text stand alone.
    Source: generate_masks_with_special_tokens_and_transfer_map of transformers, whose running maxima no ONNX operator
    does; here every token is compared with every other one.

    Args:
        input_ids: (n, t).
        special_tokens: Ids that part phrases.

    Returns:
        bool (n, t, t), and int64 (n, t).
    """
    count = input_ids.shape[1]
    special = (input_ids[:, :, None] == special_tokens).any(-1)
    places = torch.arange(count, device=input_ids.device)
    after, before = places[None, :] >= places[:, None], places[None, :] < places[:, None]
    ends = torch.where(special[:, None, :] & after, places, count).amin(-1)
    starts = torch.where(special[:, None, :] & before, places, -1).amax(-1)
    whole = (ends != 0) & (ends != count - 1) & (ends != count)
    together = (ends[:, :, None] == ends[:, None, :]) & whole[:, None, :]
    alone = places[None, :] == places[:, None]
    return together | alone, torch.where(whole, places - starts - 1, 0).clamp(min=0)
