"""What flows into matrix products, as far as it matters for rounding their weights: means of products of two inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight_npu.quantization.source import refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from nearsight_npu.arrays import Array

_MOST_BYTES = 512 * 1024 * 1024  # of moments that are gathered in one pass over the samples
_REMEDY = "leave that sample out, or export the model with known shapes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """An array that matrix products take.

    Attributes:
        name: of the array.
        inputs: how many numbers one product adds up.
        axis: along which these lie: the last, or the second where it is a picture with channels.
    """

    name: str
    inputs: int
    axis: int


def moments(
    model: Any, taps: Sequence[Tap], fitted: Sequence[Mapping[str, Array]], checked: Sequence[Mapping[str, Array]]
) -> Iterator[tuple[Tap, Array, Array]]:
    """Run a graph on samples, as often as memory asks for, and gather moments.

    Args:
        model: an `onnx.ModelProto`.
        taps: the arrays to look at.
        fitted: samples to round after.
        checked: samples to check on.

    Yields:
        A tap, and for the two lots of samples (inputs, inputs) float32: means of the products of two inputs.

    Raises:
        QuantizationError: if the graph cannot run on a sample.
    """
    for part in _parts(taps):
        run = _tapped(model, {tap.name for tap in part})
        found = [_gathered(run, part, samples) for samples in (fitted, checked)]
        for place, tap in enumerate(part):
            yield tap, found[0][place], found[1][place]


def _parts(taps: Sequence[Tap]) -> Iterator[list[Tap]]:
    part: list[Tap] = []
    size = 0
    for tap in taps:
        own = 2 * 4 * tap.inputs**2
        if part and size + own > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(tap)
        size += own
    if part:
        yield part


def _tapped(model: Any, names: Collection[str]) -> Any:
    """Open a session that hands out arrays of the inside; give a function from a sample to all of them."""
    import onnxruntime
    from onnx import TensorProto, helper

    given = {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    inside = sorted(set(names) - given)
    tapped = type(model)()
    tapped.CopyFrom(model)
    tapped.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inside if name not in outputs
    )
    with refused("weights were to be rounded after what flows through the graph; it cannot be opened", _REMEDY):
        session = onnxruntime.InferenceSession(
            tapped.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
        )

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        with refused("weights were to be rounded after what flows through the graph; it cannot run", _REMEDY):
            found = session.run(inside, dict(sample)) if inside else []
        return {**sample, **dict(zip(inside, found, strict=True))}

    return run


def _gathered(run: Any, taps: Sequence[Tap], samples: Sequence[Mapping[str, Array]]) -> list[Array]:
    sums: list[Array] = [np.zeros((tap.inputs, tap.inputs), np.float32) for tap in taps]
    counts = [0] * len(taps)
    for sample in samples:
        arrays = run(sample)
        for place, tap in enumerate(taps):
            rows = np.moveaxis(np.asarray(arrays[tap.name], np.float32), tap.axis, -1).reshape(-1, tap.inputs)
            sums[place] += rows.T @ rows
            counts[place] += len(rows)
    return [total / max(count, 1) for total, count in zip(sums, counts, strict=True)]


def quiet_options() -> Any:
    """Give options for a session that is thrown away: it says nothing, does not spin, and prepares no weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what it would log is raised as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options
