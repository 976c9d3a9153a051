"""Two towers of one space as two graphs, with the golden answers that torch gives; the same for each encoder."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nearsight.errors import InputError
from nearsight.exporting.tracing import golden_of, traced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from nearsight_npu.golden import Golden

SAMPLES = 4
_BLOCK, _SHIFT = 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Towers:
    """What is needed to trace both towers.

    Attributes:
        image: Takes `pixel_values` and gives the vectors, in a tuple of one.
        text: Takes `input_ids` (and `attention_mask`) and gives the vectors, in a tuple of one.
        image_output: What the picture graph's output is called.
        text_output: What the text graph's output is called.
        size_wh: Width and height of the picture tower's input.
        vocabulary: How many ids there are.
        end: Id of the end token; it is where CLIP takes a text's vector from.
        longest: Most tokens of one text.
        fixed_text: Whether a text always has that many.
        masked: Whether the text tower takes a mask.
    """

    image: torch.nn.Module
    text: torch.nn.Module
    image_output: str = "image_embeds"
    text_output: str = "text_embeds"
    size_wh: tuple[int, int] = (224, 224)
    vocabulary: int
    end: int
    longest: int
    fixed_text: bool = False
    masked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """Both graphs, and what torch said where they were made.

    Attributes:
        graphs: Role -> file.
        golden: Role -> inputs and answers.
        dimensions: Width of a vector.
        fixed_text: Whether the text graph takes texts of one length only.
    """

    graphs: Mapping[str, Path]
    golden: Mapping[str, Golden]
    dimensions: int
    fixed_text: bool = field(default=False)


def refuse_canvas(canvas: tuple[int, int] | None, source: Path | str) -> None:
    """Refuse another canvas than None: an encoder looks at the one size that its files state.

    Raises:
        InputError: If there is one.
    """
    if canvas is not None:
        raise InputError(
            f"a canvas of {canvas} was asked for; {source} is an encoder, which looks at one size; leave it out: "
            "OWLv2 and Grounding DINO take one"
        )


def towers_traced(towers: Towers, out: Path, batch: int | None) -> Traced:
    """Trace both towers and let torch answer a few inputs.

    Args:
        towers: Both modules.
        out: The model's folder; graphs come into its `onnx`, named as on the hub.
        batch: How many pictures or texts a run takes; None lets it vary, and the length of texts too where it may.
    """
    fixed_text = towers.fixed_text or batch is not None
    roles: dict[str, tuple[torch.nn.Module, dict[str, torch.Tensor], str, str]] = {
        "image": (towers.image, {"pixel_values": _pictures(towers.size_wh)}, towers.image_output, "vision_model.onnx"),
        "text": (towers.text, _texts(towers, fixed=fixed_text), towers.text_output, "text_model.onnx"),
    }
    graphs, golden = {}, {}
    (out / "onnx").mkdir(exist_ok=True)
    for role, (module, inputs, output, name) in roles.items():
        axes = {0: "batch_size"} if role == "image" or fixed_text else {0: "batch_size", 1: "sequence_length"}
        varying = {} if batch else {**dict.fromkeys(inputs, axes), output: {0: "batch_size"}}
        # Traced at another batch and length than the golden set has, so that a graph that keeps them is found out.
        longest = None if role == "image" or fixed_text else towers.longest // 8
        example = {given: tensor[_rows(batch or 2), :longest] for given, tensor in inputs.items()}
        graphs[role] = out / "onnx" / name
        traced(module, graphs[role], example, [output], varying)
        golden[role] = replace(golden_of(module, inputs, [output], [output]), rank=output)
    dimensions = int(golden["image"].outputs[towers.image_output].shape[1])
    return Traced(graphs=graphs, golden=golden, dimensions=dimensions, fixed_text=fixed_text)


def _rows(count: int) -> list[int]:
    return [row % SAMPLES for row in range(count)]


def _pictures(size_wh: tuple[int, int]) -> torch.Tensor:
    """Paint blocks of random colours that straddle a tower's patches: unlike one another, and small when packed."""
    import torch

    drawn = torch.Generator().manual_seed(0)
    width, height = size_wh
    small = torch.rand((SAMPLES, 3, height // _BLOCK + 2, width // _BLOCK + 2), generator=drawn)
    # A tint of its own for each, so that swapped channels are seen.
    tinted = 0.6 * small + 0.4 * torch.rand((SAMPLES, 3, 1, 1), generator=drawn)
    large = tinted.repeat_interleave(_BLOCK, 2).repeat_interleave(_BLOCK, 3)
    return (2 * large[:, :, _SHIFT : _SHIFT + height, _SHIFT : _SHIFT + width] - 1).contiguous()


def _texts(towers: Towers, *, fixed: bool) -> dict[str, torch.Tensor]:
    """Draw texts of different lengths, ended, then filled up with zeros."""
    import torch

    drawn = torch.Generator().manual_seed(1)
    width = towers.longest if fixed else min(12, towers.longest)
    ids = torch.zeros((SAMPLES, width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row in range(SAMPLES):
        count = max(2, width - 2 * row - 1)
        ids[row, :count] = torch.randint(1, max(2, towers.vocabulary - 3), (count,), generator=drawn)
        ids[row, count - 1] = towers.end
        mask[row, :count] = 1
    return {"input_ids": ids, **({"attention_mask": mask} if towers.masked else {})}


def module(call: Any, held: torch.nn.Module) -> torch.nn.Module:
    """Make a module of a function that gives vectors, with the model that it calls inside it.

    Args:
        call: Takes the graph's inputs by place and gives one tensor.
        held: The model whose weights it uses.
    """
    import torch

    class Called(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = held

        def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor]:
            return (call(*inputs),)

    return Called().eval()
