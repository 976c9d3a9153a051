"""From torch modules to ONNX graphs with named arrays, by tracing; with the golden answers that torch itself gives."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch

    from nearsight_npu.golden import Golden

# Source: the first opset with every operator that these families trace to.
OPSET = 17


class Graphs:
    """The graphs of one model, written below a folder in the hub's layout.

    Args:
        out: The model's folder.

    Attributes:
        paths: Role -> the graph.
        golden: Role -> its golden set.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / "onnx"
        self._folder.mkdir(parents=True, exist_ok=True)
        self.paths: dict[str, Path] = {}
        self.golden: dict[str, Golden] = {}

    def add(
        self,
        role: str,
        stem: str,
        module: torch.nn.Module,
        inputs: Callable[[int], Mapping[str, torch.Tensor]],
        outputs: Sequence[str],
        *,
        varying: Mapping[str, Mapping[int, str]],
        compared: Sequence[str] | None = None,
    ) -> None:
        """Trace a module.

        Args:
            role: What the page calls the graph.
            stem: What the hub calls its file.
            module: Takes the inputs by place and gives the outputs in a tuple.
            inputs: Gives examples, input name -> at least two samples on the first axis. It is called with 0 for the
                trace, and with 1 for the golden set, which then should have another batch and other lengths: a graph
                that holds on to a length of its trace is refused by it.
            outputs: Names of the outputs.
            varying: Name of an input or output -> axis -> name of the length that varies there.
            compared: The outputs that the golden set holds; None for all. A few are enough, and keep the set small.
        """
        path = self._folder / f"{stem}.onnx"
        traced(module, path, inputs(0), outputs, varying)
        self.paths[role] = path
        self.golden[role] = golden_of(module, inputs(1), outputs, outputs if compared is None else compared)


def samples(batch: int | None, more: int) -> int:
    """Give how many pictures an example has.

    The golden set has two, the fewest there can be, since they are looked at in one batch at each first load; the trace
    has another number. With a fixed batch the golden set takes two batches.
    """
    return 3 - more if batch is None else batch * (1 + more)


def traced(
    module: torch.nn.Module,
    path: Path,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    varying: Mapping[str, Mapping[int, str]],
) -> None:
    """Write a module as an ONNX graph; see `Graphs.add`."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        # Tracing is called old, and Python numbers that were made of shapes are called risky; both are meant.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in varying.items()},
            opset_version=OPSET,
            dynamo=False,
        )


def golden_of(
    module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], compared: Sequence[str]
) -> Golden:
    """Let torch answer, for the proof at load; see `Graphs.add`."""
    import torch

    from nearsight_npu.golden import Golden

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found = dict(zip(outputs, module.eval()(*inputs.values()), strict=True))
    return Golden(
        inputs={name: _array(tensor) for name, tensor in inputs.items()},
        outputs={name: _array(found[name]) for name in compared},
    )


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy()
