"""INT8 in one call: a smaller, faster file from a model and some of its inputs, with a report of what it cost."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.calibration import MODEST, gather
from nearsight_npu.quantization.dynamic import choose_products, write_dynamic
from nearsight_npu.quantization.report import OutputChange, QuantizationReport, Timing, compare, growth, remarks
from nearsight_npu.quantization.result import outcome, put
from nearsight_npu.quantization.settings import DEFAULT_SAMPLES, Settings, as_path, texts
from nearsight_npu.quantization.source import inspect, prepare, require_onnx
from nearsight_npu.quantization.static import choose, narrow_weights, parted_limiters, write_static
from nearsight_npu.targets.cpu import CpuTarget

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from nearsight_npu.quantization.calibration import Calibration, Samples
    from nearsight_npu.quantization.source import Prepared

__all__ = ["OutputChange", "QuantizationReport", "Timing", "quantize"]


def quantize(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    calibration: Calibration = None,
    mode: str = "auto",
    kinds: Collection[str] | None = None,
    keep_float: Collection[str] = (),
    method: str | None = None,
    percentile: float | None = None,
    reduce_range: bool | str = "auto",
    samples: int | None = None,
    threads: int = 1,
) -> QuantizationReport:
    """Write a model in INT8 and report what that changed.

    With calibration data the result is static: weights and activations are integer, weights with a scale per channel
    (QDQ, U8S8). Without, it is dynamic: the weights of matrix products are integer, activations become so on every
    run. Softmax and normalisation stay in float. Of 20 samples or more a fifth (at most 20) is not calibrated with
    but compared on.

    Args:
        model: an ONNX file in FP32; weights may be stored in FP16 behind a Cast.
        out: where to write; None is "NAME.int8.onnx" beside the model. The file appears whole or not at all.
        calibration: inputs of single runs as dictionaries (name -> array); or an `.npz` file with one array per
            input, samples stacked along the first axis; or None.
        mode: "static", "dynamic", or "auto": static with calibration data, dynamic without.
        kinds: the operators to make integer, such as {"Conv", "Clip", "Add", "Gemm"}, for static only; None takes
            convolutions and matrix products with constant weights, and the Clip, Relu, MaxPool, Add and Concat
            between them.
        keep_float: beginnings of the names of operators that stay in float, such as ("stem", "b1.").
        method: how static ranges are taken: "minmax" (which None means) or "percentile"; for static only.
        percentile: for "percentile" only: the share of values, in percent, that a range keeps; None means 99.99.
        reduce_range: whether weights keep to 7 bits; "auto" does so if this processor is an x86 without VNNI.
        samples: the most samples of `calibration` to take; None means 100.
        threads: threads of one run, for the two times in the report; at most as many as there are processors.

    Returns:
        Sizes, times, how each output changed, which operators stayed in float, and warnings.

    Raises:
        QuantizationError: if an argument, the model or the data cannot be used; nothing is written then.
        UnreadableGraphError: if the model is no ONNX graph.
        UnplaceableError: if it does not run on the processor.
    """
    require_onnx()
    if mode == "static" and calibration is None:
        raise QuantizationError(
            "mode='static' was asked for without calibration data; give calibration=, or mode='dynamic'"
        )
    if not (isinstance(reduce_range, bool) or (isinstance(reduce_range, str) and reduce_range == "auto")):
        raise QuantizationError(f"reduce_range={reduce_range!r} was asked for; give True, False or 'auto'")
    if samples is not None and calibration is None:
        raise QuantizationError(f"samples={samples!r} was asked for without calibration data; give both or neither")
    source = as_path("model", model)
    if not source.is_file():
        raise QuantizationError(f"{str(source)!r} was to be quantized; there is no such file; check the path")
    settings = Settings(
        source=source,
        target=source.with_name(f"{source.stem}.int8.onnx") if out is None else as_path("out", out),
        mode=mode if mode != "auto" else "dynamic" if calibration is None else "static",
        kinds=None if kinds is None else frozenset(texts("kinds", kinds)),
        keep_float=texts("keep_float", keep_float),
        method=method,
        percentile=percentile,
        reduce_range=narrow_weights() if reduce_range == "auto" else bool(reduce_range),
        samples=DEFAULT_SAMPLES if samples is None else samples,
        threads=threads,
    )
    return _quantized(settings, calibration)


def _quantized(settings: Settings, calibration: Calibration) -> QuantizationReport:
    """Write into a folder of our own, compare there, and move the file to its place last of all."""
    read = inspect(settings.source, settings.mode)
    before = CpuTarget().compile(settings.source, settings.threads)
    divided = gather(calibration, before.inputs, settings.samples, calibrate=settings.mode == "static")
    with tempfile.TemporaryDirectory(prefix="nearsight-") as folder:
        prepared = prepare(settings.source, read, Path(folder))
        written = Path(folder) / "written.onnx"
        doubts = _write(settings, prepared, divided, written)
        found = compare(before, CpuTarget().compile(written, settings.threads), divided)
        integer, floating = outcome(written, {node.name for node in prepared.nodes})
        static = settings.mode == "static"
        sizes = settings.source.stat().st_size, written.stat().st_size
        report = QuantizationReport(
            model=str(settings.source),
            out=str(settings.target),
            mode=settings.mode,
            method=settings.range_method if static else None,
            percentile=settings.kept_share if settings.method == "percentile" else None,
            reduce_range=settings.reduce_range,
            calibrated_on=len(divided.calibrating),
            compared_on=len(divided.compared) if found else 0,
            compared_with=divided.kind,
            bytes_before=sizes[0],
            bytes_after=sizes[1],
            before=found.before if found else None,
            after=found.after if found else None,
            threads=settings.threads,
            outputs=found.outputs if found else (),
            integer_nodes=integer,
            float_nodes=floating,
            warnings=(*doubts, *growth(*sizes, settings.mode), *remarks(found, divided)),
        )
        put(written, settings.target)
    return report


def _write(settings: Settings, prepared: Prepared, divided: Samples, written: Path) -> tuple[str, ...]:
    """Choose operators and write the graph; give what is doubtful about the choice."""
    _check_prefixes(settings, prepared)
    if settings.mode == "dynamic":
        chosen = choose_products(prepared, settings.keep_float)
        _check_choice(settings, chosen, "no matrix product with constant weights is left; give calibration= for static")
        write_dynamic(prepared, written, chosen, reduce_range=settings.reduce_range)
        return ()
    chosen = choose(prepared, settings.kinds, settings.keep_float)
    _check_choice(settings, chosen, "no operator is left to make integer; give other kinds= or a shorter keep_float=")
    heard = write_static(prepared, written, divided.calibrating, chosen, settings)
    return (*_doubts(prepared, chosen, len(divided.calibrating)), *heard)


def _check_prefixes(settings: Settings, prepared: Prepared) -> None:
    names = (*prepared.original, *(node.name for node in prepared.nodes))
    for prefix in settings.keep_float:
        if not any(name.startswith(prefix) for name in names):
            shown = ", ".join(dict.fromkeys(node.name for node in prepared.nodes if node.name))[:120]
            raise QuantizationError(
                f"keep_float={prefix!r} was asked for; no operator's name begins so; they are {shown}...; "
                "give the beginning of one of them"
            )


def _check_choice(settings: Settings, chosen: Collection[str], why: str) -> None:
    if not chosen:
        raise QuantizationError(f"{settings.source.name} was to be made {settings.mode} INT8; {why}")


def _doubts(prepared: Prepared, chosen: Collection[str], samples: int) -> tuple[str, ...]:
    said = []
    parted = parted_limiters(prepared, chosen)
    if parted:
        said.append(
            f"{len(parted)} operators are integer without the Clip or Relu behind them (the first is {parted[0]!r}), "
            "so their ranges are too wide: take Clip and Relu into kinds, or keep both in float"
        )
    if samples < MODEST:
        said.append(f"ranges were taken from {samples} samples only; 100 are better")
    return tuple(said)
