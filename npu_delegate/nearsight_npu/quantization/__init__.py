"""Fewer bits in one call: a smaller, faster file from a model and some of its inputs, with a report of what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization.job import Judging, carry_out
from nearsight_npu.quantization.latency import Timing
from nearsight_npu.quantization.layers import LayerChange
from nearsight_npu.quantization.pareto import Row
from nearsight_npu.quantization.progress import Progress, untold
from nearsight_npu.quantization.recalibration import Passing, Recalibration, Step
from nearsight_npu.quantization.report import OutputChange, QuantizationReport
from nearsight_npu.quantization.settings import DEFAULT_SAMPLES, Settings, as_path, check_place, ending, texts
from nearsight_npu.quantization.source import require_onnx
from nearsight_npu.quantization.static import narrow_weights
from nearsight_npu.quantization.verdict import Verdict

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from nearsight_npu.quantization.calibration import Calibration
    from nearsight_npu.quantization.progress import OnProgress
    from nearsight_npu.quantization.verdict import Metric

__all__ = [
    "LayerChange",
    "OutputChange",
    "Passing",
    "Progress",
    "QuantizationReport",
    "Recalibration",
    "Row",
    "Step",
    "Timing",
    "Verdict",
    "quantize",
]


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
    bits: int | None = None,
    block: int | None = None,
    activations: str | None = None,
    budget_mb: float | None = None,
    budget_ms: float | None = None,
    max_drop: float | None = None,
    metric: Metric | None = None,
    validation: Calibration = None,
    scores: Collection[str] = (),
    target: str = "cpu",
    layers: bool = False,
    pareto: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: OnProgress | None = None,
) -> QuantizationReport:
    """Write a model in fewer bits and report what that changed.

    With calibration data the result is static: weights and activations are integer, weights with a scale per channel
    (QDQ, U8S8 unless `activations` or `target` says otherwise). Without, it is dynamic: the weights of matrix products
    are integer, activations become so on every run. With a budget, or with `max_drop` alone, it is mixed: each group of
    operators gets the precision that costs least at the model's outputs. Softmax and normalisation stay in float.

    Of 20 samples or more a fifth (at most 20) is not calibrated with but compared and judged on, unless `validation`
    brings others. The file appears whole or not at all, and not if it loses more than `max_drop`.

    Args:
        model: an ONNX file in FP32; weights may be stored in FP16 behind a Cast.
        out: where to write; None is "NAME.int8.onnx" beside the model (".w4", ".w8", ".fp16" or ".mixed" in place of
            ".int8" for what that says).
        calibration: inputs of single runs as dictionaries (name -> array); or an `.npz` file with one array per
            input, samples stacked along the first axis; or None.
        mode: "static"; "dynamic"; "weights": weights in integers and blocks, activations in float; "half": weights
            stored in FP16; "mixed"; or "auto": mixed with a budget or `max_drop`, else static with calibration data,
            dynamic without.
        kinds: the operators to make integer, such as {"Conv", "Clip", "Add", "Gemm"}, for static only; None takes
            convolutions and matrix products with constant weights, and the Clip, Relu, MaxPool, Add and Concat
            between them.
        keep_float: beginnings of the names of operators that stay in float, such as ("stem", "b1.").
        method: how static ranges are taken: "minmax" (which None means), "percentile", "entropy" or "mse".
        percentile: for "percentile" only: the share of values, in percent, that a range keeps; None means 99.99.
        reduce_range: whether weights keep to 7 bits; "auto" does so if this processor is an x86 without VNNI.
        samples: the most samples of `calibration` to take; None means 100.
        threads: threads of one run, for the two times in the report; at most as many as there are processors.
        bits: for "weights" only: 4, or 8, which None means.
        block: for "weights" only: how many neighbouring weights share a scale: 16, 32 (which None means), 64 or 128.
        activations: for "static" only: number type of activations: "u8" (processors), "s8" or "u16" (NPUs); None is
            what the target wants.
        budget_mb: the most that the file may take, in MB of 1,000,000 bytes.
        budget_ms: the most that the median of single runs may take here, in milliseconds. Uniform static INT8 is tried
            beside mixed precision.
        max_drop: the most that may be lost: by `metric`, or as a share of the output error's scale without one (see
            `Verdict`). A file is accepted only if the upper end of the interval around its loss is no more. Where it
            alone is given, the smallest such file is searched for with one half of the compared samples and accepted
            on the other, if there are 16 or more.
        metric: what your task counts, more being better: a plain function of outputs by name, stacked over the
            compared samples, that gives one value for each sample or one for all. If it takes a second argument
            (without a default, or called `places`), that is an array of the samples' places in the caller's order; a
            metric with one value for all needs it, since for the interval it is computed anew on drawn samples, which
            may come several times.
        validation: samples to compare and judge on, in either form of `calibration`; all of them are used.
        scores: outputs whose scores are to keep their meaning: a step at the end of the graph takes them back to the
            model's own scale, so that a threshold lets the same share pass.
        target: where the file is to run: "cpu", "openvino", "qnn", "axera" or "simulated:<chip>". It decides which
            precisions there are, and the report's figures are taken there if it can be used here.
        layers: whether to report how the array of each group of operators moved.
        pareto: for mixed precision: where to draw (SVG) what else could be had for more or less size and time; the
            report has the same as rows. It takes a while: each of some ten files is made and measured.
        cache_dir: where files that were made before are looked for and kept; None is the user's cache folder.
        progress: called with a `Progress` when a stage of the work begins, and as it goes on.

    Returns:
        Sizes, times, how each output changed, the verdict, which operators stayed in float, and warnings.

    Raises:
        QuantizationError: if an argument, the model or the data cannot be used, or no file is within budget and
            `max_drop`; nothing is written then.
        UnreadableGraphError: if the model is no ONNX graph.
        UnplaceableError: if it does not run on the processor, or what it became does not on the target.
    """
    require_onnx()
    if mode == "static" and calibration is None:
        raise QuantizationError(
            "mode='static' was asked for without calibration data; give calibration=, or mode='dynamic'"
        )
    if not (isinstance(reduce_range, bool) or (isinstance(reduce_range, str) and reduce_range == "auto")):
        raise QuantizationError(f"reduce_range={reduce_range!r} was asked for; give True, False or 'auto'")
    _check_functions(metric, progress)
    if samples is not None and calibration is None:
        raise QuantizationError(f"samples={samples!r} was asked for without calibration data; give both or neither")
    source = as_path("model", model)
    if not source.is_file():
        raise QuantizationError(f"{str(source)!r} was to be quantized; there is no such file; check the path")
    if mode == "auto":
        limited = not (budget_mb is budget_ms is max_drop is None)
        mode = "mixed" if limited else "dynamic" if calibration is None else "static"
    settings = Settings(
        source=source,
        target=source.with_name(source.stem + ending(mode, bits)) if out is None else as_path("out", out),
        mode=mode,
        kinds=None if kinds is None else frozenset(texts("kinds", kinds)),
        keep_float=texts("keep_float", keep_float),
        method=method,
        percentile=percentile,
        reduce_range=narrow_weights() if reduce_range == "auto" else bool(reduce_range),
        samples=DEFAULT_SAMPLES if samples is None else samples,
        threads=threads,
        bits=bits,
        block=block,
        activations=activations,
        budget_mb=budget_mb,
        budget_ms=budget_ms,
        max_drop=max_drop,
        scores=texts("scores", scores),
        runs_on=target,
    )
    _check_data(settings, calibration, validation)
    drawn = None if pareto is None else as_path("pareto", pareto)
    if drawn is not None and mode != "mixed":
        raise QuantizationError(
            f"pareto={str(drawn)!r} was asked for with mode={mode!r}; it shows files of mixed precision; give "
            "budget_mb=, budget_ms= or max_drop="
        )
    if drawn is not None:
        check_place("pareto", drawn, source, settings.target)
    judging = Judging(validation=validation, metric=metric, layers=layers, pareto=drawn)
    return carry_out(settings, calibration, judging, cache_dir, progress or untold)


def _check_functions(metric: object, progress: object) -> None:
    """Refuse what cannot be called now, not when minutes were spent on measuring."""
    metrics = (
        "outputs by name, stacked over samples, and gives one value for each sample, or one for all; more is better"
    )
    for name, value, takes in (("metric", metric, metrics), ("progress", progress, "a Progress")):
        if value is not None and not callable(value):
            raise QuantizationError(f"{name}={value!r} was asked for; it is a function that takes {takes}; give one")


def _check_data(settings: Settings, calibration: Calibration, validation: Calibration) -> None:
    """Refuse what cannot be done without samples."""
    if calibration is None and (settings.mode == "mixed" or settings.scores):
        what = f"scores={settings.scores!r}" if settings.scores else "mixed precision"
        raise QuantizationError(f"{what} was asked for without calibration data; give calibration=")
    if calibration is None and validation is None and settings.max_drop is not None:
        raise QuantizationError(
            f"max_drop={settings.max_drop} was asked for without samples to judge on; give calibration= or validation="
        )
