"""`nearsight quantize`: write a model in INT8 and say what that changed."""

from __future__ import annotations

import random
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.cli.terminal import say, write_json
from nearsight.errors import InputError, PictureUnreadableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    import numpy as np

    from nearsight_npu import QuantizationReport

HELP = "write an ONNX model in INT8 and report size, time and how far its answers moved"
EPILOG = """examples:
  nearsight quantize detector.onnx --calibration photos
  nearsight quantize image.onnx --calibration photos --method percentile --percentile 99.995 --keep-float stem b1.
  nearsight quantize text.onnx --calibration inputs.npz --out text.int8.onnx
  nearsight quantize text.onnx                      (dynamic: weights of matrix products only)"""
HELD_OUT = 20  # pictures beyond --samples, to compare on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `nearsight quantize`."""
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL.onnx", help="in FP32; weights may be stored in FP16")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR|npz",
        help="a folder of pictures, or an .npz of arrays by input name; without it the result is dynamic INT8",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (NAME.int8.onnx beside the model)")
    parser.add_argument("--method", choices=("minmax", "percentile"), help="how static ranges are taken (minmax)")
    parser.add_argument(
        "--percentile", type=float, metavar="P", help="with --method percentile: share of values a range keeps (99.99)"
    )
    parser.add_argument(
        "--keep-float", nargs="+", action="extend", default=[], metavar="PREFIX", help="operators that stay in float"
    )
    parser.add_argument("--samples", type=_count, metavar="N", help="most samples to calibrate with (100)")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="threads of one run when timing (1)")


def run(args: argparse.Namespace) -> int:
    """Quantize and print the report."""
    from nearsight_npu.errors import UnreadableGraphError

    try:
        report, read = _quantized(args)
    except UnreadableGraphError as error:
        # A file that is no model was handed in: the caller's mistake, like any other bad input.
        raise InputError(str(error)) from error
    if args.json:
        write_json(_as_json(report, read))
        return 0
    for line in _lines(report, read):
        print(line)
    for warning in report.warnings:
        say(warning)
    return 0


def _quantized(args: argparse.Namespace) -> tuple[QuantizationReport, list[Path]]:
    """Quantize; gives the report and the pictures that were read."""
    from nearsight_npu import quantize

    pictures = _Pictures(args) if args.calibration is not None and args.calibration.is_dir() else None
    report = quantize(
        args.model,
        args.out,
        calibration=args.calibration if pictures is None else pictures.inputs(),
        method=args.method,
        percentile=args.percentile,
        keep_float=args.keep_float,
        samples=args.samples,
        threads=args.threads,
    )
    return report, pictures.read if pictures else []


class _Pictures:
    """A folder's pictures as inputs of a graph; `read` names those that were handed out, in order."""

    def __init__(self, args: argparse.Namespace) -> None:
        from nearsight_npu.quantization.settings import DEFAULT_SAMPLES

        self._folder: Path = args.calibration
        self._wanted: int = (args.samples or DEFAULT_SAMPLES) + HELD_OUT
        self._port, self._size_wh = picture_port(args.model)
        self.read: list[Path] = []

    def inputs(self) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        """Fit one picture after the other, in an order that mixes sub-folders and is the same each time.

        Raises:
            InputError: if the folder holds no picture that can be read.
        """
        from nearsight.pictures import read_image, walk
        from nearsight.preprocess import fit_picture

        paths = list(walk([self._folder]))
        random.Random(0).shuffle(paths)  # noqa: S311  to mix, not to hide
        for path in paths:
            if len(self.read) == self._wanted:
                return
            try:
                pixels = fit_picture(read_image(path, size_hint=self._size_wh), self._size_wh)
            except PictureUnreadableError as error:
                say(f"left out: {error}")
                continue
            self.read.append(path)
            yield {self._port: pixels[None]}
        if not self.read:
            raise InputError(f"no picture that can be read in {self._folder}; give a folder of about 100")


def picture_port(model: str) -> tuple[str, tuple[int, int]]:
    """Find the input that takes pictures: uint8 (n, height, width, 3), alone.

    Returns:
        Its name, and width and height in pixels.

    Raises:
        InputError: for any other graph: how it wants pictures scaled cannot be seen from outside.
    """
    from nearsight_npu import Delegate

    if not Path(model).is_file():
        raise InputError(f"{model!r} was to be quantized; there is no such file; check the path")
    ports = Delegate("cpu").load(model).inputs
    if len(ports) == 1 and ports[0].dtype == "uint8" and len(ports[0].shape) == 4:
        batch, height, width, channels = ports[0].shape
        if (
            isinstance(height, int)
            and isinstance(width, int)
            and channels == 3
            and (batch == 1 or isinstance(batch, str))
        ):
            return ports[0].name, (width, height)
    raise InputError(
        f"{model} takes {'; '.join(map(str, ports))}; a folder of pictures fits uint8 (n, height, width, 3) only, "
        "since no other input says how pictures are scaled; give an .npz with arrays by input name"
    )


def _as_json(report: QuantizationReport, read: list[Path]) -> dict[str, Any]:
    answer: dict[str, Any] = report.to_dict()
    for change in answer["outputs"] if read else ():
        change["worst_picture"] = str(read[change["worst_sample"]])
    return answer


def _lines(report: QuantizationReport, read: list[Path]) -> Iterator[str]:
    bits = 7 if report.reduce_range else 8
    ranges = f", {report.method} of {report.calibrated_on} samples" if report.method else ""
    yield f"wrote     {report.out}: {report.mode} INT8{ranges}, weights of {bits} bits"
    yield (f"size      {report.bytes_before / 1e6:.2f} MB -> {report.bytes_after / 1e6:.2f} MB, {_sized(report.ratio)}")
    if report.before and report.after:
        spans = (f"{t.median_ms:.2f} ms ({t.low_ms:.2f} to {t.high_ms:.2f})" for t in (report.before, report.after))
        yield (
            f"time      {' -> '.join(spans)}, median and 10th to 90th percentile of {report.after.runs} runs each, "
            f"in turn, threads: {report.threads}"
        )
    if report.outputs:
        yield f"answers   on {report.compared_on} samples ({report.compared_with})"
    for change in report.outputs:
        worst = read[change.worst_sample].name if read else f"sample {change.worst_sample}"
        yield (
            f"  {change.output}: cosine {change.cosine:.4f} at worst ({worst}), {change.mean_cosine:.4f} on average; "
            f"centred {_figure(change.centred)}; largest error {change.max_abs_error:.3g}, "
            f"error / spread {_figure(change.error_share)}"
        )
    kinds = Counter(report.float_nodes.values()).most_common()
    yield f"operators {len(report.integer_nodes)} in INT8; in float: {_counted(kinds) or 'none'}"


def _sized(ratio: float) -> str:
    return f"{ratio:.2f} times smaller" if ratio > 1 else f"{1 / ratio:.2f} times the size"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _counted(kinds: list[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"a count from 1 is wanted; got {text!r}")
    return int(text)
