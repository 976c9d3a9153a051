"""INT8 files beside an export's FP32 ones, where they are much smaller and torch's answers still hold."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from nearsight.errors import NearsightWarning, translated
from nearsight_npu import prove, quantize
from nearsight_npu.errors import DelegateError

if TYPE_CHECKING:
    from pathlib import Path

    from nearsight.exporting.writing import Exported
    from nearsight_npu.golden import Golden

PRECISION = "int8"
# A file that keeps more than this share of its bytes is mostly no matrix products: dynamic INT8 does not help it.
_MOST_BYTES = 0.75
_LEAST_COSINE = 0.99


def with_int8(exported: Exported) -> Exported:
    """Add dynamic INT8 for each graph that gains by it; the others stay in FP32 alone, and a warning says why.

    Args:
        exported: What an exporter left.

    Returns:
        The same with variants, and with floors for them in the golden sets.

    Raises:
        DelegateError: If a graph cannot be quantized, or onnx is missing.
    """
    variants, golden = dict(exported.variants), dict(exported.golden)
    for role, graph in exported.graphs.items():
        target = graph.with_name(f"{graph.stem}_{PRECISION}.onnx")
        with translated():
            report = quantize(graph, target, mode="dynamic")
            reason = ""
            if report.bytes_after > _MOST_BYTES * report.bytes_before:
                reason = f"only {1 - report.bytes_after / report.bytes_before:.0%} smaller"
            elif role in golden:
                golden[role], reason = _floored(target, golden[role])
        if reason:
            target.unlink()
            warnings.warn(f"the graph {role} stays in FP32: in INT8 it is {reason}", NearsightWarning, stacklevel=2)
        else:
            variants[role] = {**variants.get(role, {}), PRECISION: target}
    return replace(exported, variants=variants, golden=golden)


def _floored(graph: Path, golden: Golden) -> tuple[Golden, str]:
    """Compare with torch's answers; give the golden set with what INT8 has to reach, or why it is not good enough."""
    report = prove(graph, golden, PRECISION)
    least = min((finding.cosine for finding in report.findings), default=0.0)
    if least < _LEAST_COSINE:
        return golden, f"at cosine {least:.4f} to torch, less than {_LEAST_COSINE}"
    try:
        floor = report.floor()
    except DelegateError:
        return golden, "not able to tell different inputs apart"
    return replace(golden, floors={**golden.floors, PRECISION: floor}), ""
