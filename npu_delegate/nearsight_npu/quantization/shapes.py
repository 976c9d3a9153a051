"""Fixes the lengths that a graph leaves open, for chips that need to know them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.targets.target import Port


def open_lengths(ports: Sequence[Port]) -> tuple[str, ...]:
    """Name the inputs that have a length which varies."""
    return tuple(port.name for port in ports if not all(isinstance(length, int) for length in port.shape))


def fix(path: Path, samples: Sequence[Mapping[str, Array]], out: Path) -> Path:
    """Write a graph with its inputs' lengths as samples have them.

    Args:
        path: the graph.
        samples: inputs for single runs, all of the same shapes.
        out: where to write.

    Returns:
        `out`.

    Raises:
        QuantizationError: if the samples are of unlike shapes.
    """
    import onnx

    shapes = {tuple((name, array.shape) for name, array in sorted(sample.items())) for sample in samples}
    if len(shapes) != 1:
        raise QuantizationError(
            f"{path.name} has lengths that vary, and the target needs fixed ones; the samples are of {len(shapes)} "
            "unlike shapes; give samples of the one shape that it is to run with"
        )
    model = onnx.load(str(path))
    graph = model.graph
    lengths: dict[str, int] = {}
    for name, shape in next(iter(shapes)):
        axes = next(value for value in graph.input if value.name == name).type.tensor_type.shape.dim
        for axis, length in zip(axes, shape, strict=True):
            if axis.dim_param:
                lengths[axis.dim_param] = length
            axis.dim_value = length
    for value in (*graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in lengths:
                axis.dim_value = lengths[axis.dim_param]
    onnx.save(model, str(out))
    return out
