"""What quantizing changed, in lines for a person."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nearsight_npu import QuantizationReport


def lines(report: QuantizationReport, read: list[Path]) -> Iterator[str]:
    """Say what was written, what it takes, how its answers moved and what was left in float.

    Args:
        report: what `quantize` gave.
        read: the pictures that places of samples count in; empty where samples have no names.

    Yields:
        A line each.
    """
    yield f"wrote     {report.out}: {_made(report)}{' (made earlier)' * report.remembered}"
    yield (f"size      {report.bytes_before / 1e6:.2f} MB -> {report.bytes_after / 1e6:.2f} MB, {_sized(report.ratio)}")
    if report.before and report.after:
        spans = (f"{t.median_ms:.2f} ms ({t.low_ms:.2f} to {t.high_ms:.2f})" for t in (report.before, report.after))
        yield (
            f"time      {' -> '.join(spans)}, median and 10th to 90th percentile of {report.after.runs} runs each, "
            f"in turn, threads: {report.threads}"
        )
    if report.outputs:
        where = "" if report.target == "cpu" else f", for {report.target}"
        yield f"answers   on {report.compared_on} samples ({report.compared_with}){where}"
    for change in report.outputs:
        yield (
            f"  {change.output}: cosine {change.cosine:z.4f} at worst ({_sample(change.worst_sample, read)}), "
            f"{change.mean_cosine:z.4f} on average; centred {_figure(change.centred)}; "
            f"largest error {change.max_abs_error:.3g}, error / spread {_figure(change.error_share)}"
        )
    if report.verdict and report.verdict.max_drop is not None:
        yield f"verdict   by {report.verdict.metric}: {report.verdict.reason}"
    for scores in (entry for entry in report.recalibrated if entry.kept):
        yield f"scores    {scores.reason}"
        for passing in scores.passing:
            yield (
                f"  from {passing.threshold:.3g}: {passing.before} in the model, {passing.converted} converted, "
                f"{passing.recalibrated} in the file"
            )
    if report.layers:
        yield "layers    cosine at worst, signal to noise, worst sample"
    for layer in report.layers:
        moved = "did not move"
        if layer.sqnr_db is not None:
            moved = f"{layer.cosine:z.4f}, {layer.sqnr_db:z.1f} dB, {_sample(layer.worst_samples[0], read)}"
        yield f"  {layer.group}{f' ({layer.precision})' * bool(layer.precision)}: {moved}"
    if report.plan:
        yield f"groups    {_counted(Counter(report.plan.values()).most_common())}"
    if report.pareto:
        from nearsight_npu.quantization.pareto import table

        yield "choices   (*: no other is better in error, size and time)"
        yield from table(report.pareto)
    kinds = Counter(report.float_nodes.values()).most_common()
    yield f"operators {len(report.integer_nodes)} in {_integers(report)}; in float: {_counted(kinds) or 'none'}"


def _made(report: QuantizationReport) -> str:
    """Say in words what was written."""
    if report.mode == "half":
        return "weights in FP16"
    if report.mode == "weights":
        return f"weights of {report.bits} bits in blocks, activations in float"
    if report.mode == "mixed":
        return "mixed precision"
    bits = 7 if report.reduce_range else 8
    ranges = f", {report.method} of {report.calibrated_on} samples" if report.method else ""
    return f"{report.mode} {_integers(report)}{ranges}, weights of {bits} bits"


def _integers(report: QuantizationReport) -> str:
    return "INT16" if report.activations == "u16" else "INT8" if report.mode in {"static", "dynamic"} else "integers"


def _sample(place: int, read: list[Path]) -> str:
    return read[place].name if read else f"sample {place}"


def with_name(warning: str, read: list[Path]) -> str:
    """Name the picture that a warning counts: they were read in a mixed order.

    Args:
        warning: a line of the report.
        read: see `lines`.
    """
    return re.sub(r"\bon sample (\d+)", lambda found: f"on {_sample(int(found[1]), read)}", warning)


def _sized(ratio: float) -> str:
    return f"{ratio:.2f} times smaller" if ratio > 1 else f"{1 / ratio:.2f} times the size"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:z.4f}"


def _counted(kinds: list[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds)
