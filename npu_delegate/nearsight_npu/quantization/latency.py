"""How long files take, and how that time is shared out among groups so that a plan can be made for a limit of time."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.plan import Group
    from nearsight_npu.quantization.source import Prepared
    from nearsight_npu.targets.target import Program

_FEWEST_ROUNDS, _MOST_ROUNDS, _SECONDS = 7, 40, 3.0
_MOST_TURNS = 50
_WIDTH = 4  # bytes of a number in FP32


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long single runs took, in milliseconds.

    Attributes:
        median_ms: half of the runs took no longer.
        low_ms: a tenth of them took no longer.
        high_ms: nine tenths of them took no longer.
        runs: how many were timed.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int


def timed(files: Sequence[Path], samples: Sequence[Mapping[str, Array]], threads: int = 1) -> list[float]:
    """Time single runs of files, in turn, so that a busy moment meets all of them.

    Args:
        files: ONNX files with the same inputs.
        samples: inputs for single runs.
        threads: of one run.

    Returns:
        For each file the median, in milliseconds.

    Raises:
        UnplaceableError: if one cannot run on the processor.
    """
    programs = [CpuTarget().compile(path, threads) for path in files]
    names = tuple(port.name for port in programs[0].outputs)
    spent: list[list[float]] = [[] for _ in programs]
    for program in programs:
        program.run(samples[0], names)  # the first run makes room
    begun = time.perf_counter()
    for turn in range(_MOST_ROUNDS):
        if turn >= _FEWEST_ROUNDS and time.perf_counter() - begun > _SECONDS:
            break
        for place, program in enumerate(programs):
            start = time.perf_counter()
            program.run(samples[turn % len(samples)], names)
            spent[place].append((time.perf_counter() - start) * 1e3)
    return [statistics.median(times_ms) for times_ms in spent]


def in_turn(
    programs: Sequence[Program], samples: Sequence[Mapping[str, Array]], names: Sequence[str]
) -> tuple[Timing, ...]:
    """Time single runs in turn, and which program goes first in turn too, so that a busy moment meets all of them.

    Args:
        programs: with the same inputs.
        samples: inputs for single runs.
        names: of the outputs.

    Returns:
        The times of each.
    """
    spent: list[list[float]] = [[] for _ in programs]
    begun = time.perf_counter()
    for turn in range(_MOST_TURNS):
        if turn >= _FEWEST_ROUNDS and time.perf_counter() - begun > _SECONDS:
            break
        pairs = list(zip(programs, spent, strict=True))
        for program, times_ms in pairs if turn % 2 else reversed(pairs):
            start = time.perf_counter()
            program.run(samples[turn % len(samples)], names)
            times_ms.append((time.perf_counter() - start) * 1e3)
    return tuple(_timing(times_ms) for times_ms in spent)


def _timing(times_ms: Sequence[float]) -> Timing:
    low, median, high = np.percentile(times_ms, (10, 50, 90))
    return Timing(median_ms=float(median), low_ms=float(low), high_ms=float(high), runs=len(times_ms))


def slowness(budget_ms: float | None, after: Timing | None) -> tuple[str, ...]:
    """Say so where runs took longer, when they were measured for the report, than they may.

    Args:
        budget_ms: the most that the median may take; None where nothing was said.
        after: times of what was written.

    Returns:
        One line, or none.
    """
    if budget_ms is None or after is None or after.median_ms <= budget_ms:
        return ()
    said = (
        f"runs took {after.median_ms:.2f} ms in turn with the model's, more than budget_ms={budget_ms}, which the file "
        "kept to when it was made and timed alone; give a smaller budget to be sure"
    )
    return (said,)


def operations(prepared: Prepared, group: Group) -> float:
    """Count the multiplications of a group in a run of one sample; a free length counts as one.

    Args:
        prepared: the graph.
        group: one of its groups.

    Returns:
        Their number; none for a table of embeddings.
    """
    if group.kind == "lookup":
        return 0.0
    nodes = {node.name: node for node in prepared.nodes}
    first = nodes[group.nodes[0]]
    shape = prepared.shapes[group.weights[0]]
    taken, given = (prepared.bytes_of.get(name, 0) / _WIDTH for name in (first.inputs[0], first.outputs[0]))
    outputs = shape[0]
    if first.kind == "ConvTranspose":
        return taken * group.elements / shape[0]
    if group.kind == "matmul" and taken / shape[0] == given / shape[-1]:
        outputs = shape[-1]  # a row for each input; a Gemm may have it the other way round
    return given * group.elements / outputs
