"""`nearsight quantize`: write a model in INT8 and say what that changed."""

from __future__ import annotations

import random
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearsight.cli.options import in_options
from nearsight.cli.quantized import lines, with_name
from nearsight.cli.stages import stages_shown
from nearsight.cli.terminal import say, write_json
from nearsight.errors import InputError, PictureUnreadableError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    import numpy as np

    from nearsight_npu import Progress, QuantizationReport

HELP = "write an ONNX model in fewer bits and report size, time and how far its answers moved"
EPILOG = """examples:
  nearsight quantize detector.onnx --calibration photos
  nearsight quantize detector.onnx --calibration photos --scores scores     (thresholds keep their meaning)
  nearsight quantize image.onnx --calibration photos --budget-mb 6 --pareto image.svg
  nearsight quantize image.onnx --calibration photos --max-drop 0.05 --validation more-photos
  nearsight quantize image.onnx --calibration photos --method percentile --percentile 99.995 --keep-float stem b1.
  nearsight quantize image.onnx --calibration photos --target qnn --activations u16
  nearsight quantize text.onnx --calibration inputs.npz --out text.int8.onnx
  nearsight quantize text.onnx --mode weights --bits 4                      (no data needed)
  nearsight quantize text.onnx                      (dynamic: weights of matrix products only)"""
HELD_OUT = 20  # pictures beyond --samples, to compare on
_MANY = 980  # pictures to judge on, besides HELD_OUT: all of them are held in memory


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
    parser.add_argument(
        "--validation",
        type=Path,
        metavar="DIR|npz",
        help="more of the same to judge on, up to 1,000 pictures (a fifth of --calibration)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write (NAME.int8.onnx beside the model)")
    parser.add_argument("--samples", type=_count, metavar="N", help="most samples to calibrate with (100)")
    parser.add_argument("--threads", type=_count, default=1, metavar="N", help="threads of one run when timing (1)")
    _add_precisions(parser.add_argument_group("precision"))
    _add_limits(parser.add_argument_group("limits and judgement"))


def _add_precisions(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--mode",
        choices=("auto", "static", "dynamic", "weights", "half", "mixed"),
        default="auto",
        help="auto: mixed with a limit, else static with --calibration, dynamic without",
    )
    group.add_argument("--bits", type=int, choices=(4, 8), help="with --mode weights: bits of a weight (8)")
    group.add_argument(
        "--block", type=int, choices=(16, 32, 64, 128), help="with --mode weights: how many of them share a scale (32)"
    )
    group.add_argument("--activations", choices=("u8", "s8", "u16"), help="number type where static (the target's)")
    group.add_argument(
        "--method", choices=("minmax", "percentile", "entropy", "mse"), help="how static ranges are taken (minmax)"
    )
    group.add_argument(
        "--percentile", type=float, metavar="P", help="with --method percentile: share of values a range keeps (99.99)"
    )
    group.add_argument(
        "--keep-float", nargs="+", action="extend", default=[], metavar="PREFIX", help="operators that stay in float"
    )
    group.add_argument(
        "--target",
        default="cpu",
        metavar="T",
        help="where it will run: cpu, openvino, qnn, axera or simulated:<chip>, such as simulated:AX650N",
    )


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--budget-mb", type=float, metavar="N", help="mixed precision in at most so many MB")
    group.add_argument("--budget-ms", type=float, metavar="N", help="mixed precision in at most so many ms a run")
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="D",
        help="the smallest file of mixed precision whose answers move by no more than this share (.05: 5 %%); with "
        "another --mode, refuse a file that moves further",
    )
    group.add_argument(
        "--scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="OUTPUT",
        help="outputs whose scores are taken back to the model's scale, so that thresholds keep their meaning",
    )
    group.add_argument(
        "--pareto",
        type=Path,
        metavar="SVG",
        help="with a limit: draw what else could be had for more or less size and time",
    )
    group.add_argument("--layers", action="store_true", help="say of each group of operators how its array moved")


def run(args: argparse.Namespace) -> int:
    """Quantize and print the report."""
    from nearsight_npu.errors import DelegateError, UnreadableGraphError

    options = {name: f"--{name.replace('_', '-')}" for name in vars(args)} | {"model": "MODEL.onnx"}
    try:
        with stages_shown(quiet=args.json) as told:
            report, read = _quantized(args, told)
    except DelegateError as error:
        # A file that is no model was handed in: the caller's mistake, like any other bad input.
        kind = InputError if isinstance(error, UnreadableGraphError) else type(error)
        raise kind(in_options(str(error), options)) from error
    if args.json:
        write_json(_as_json(report, read))
        return 0
    for line in lines(report, read):
        # The others hold names of files, outputs and pictures, which may read like arguments.
        print(in_options(line, options) if line.startswith("verdict") else line)
    for warning in report.warnings:
        say(in_options(with_name(warning, read), options))
    return 0


def _quantized(
    args: argparse.Namespace, told: Callable[[Progress], None] | None
) -> tuple[QuantizationReport, list[Path]]:
    """Quantize; gives the report and the pictures that the compared samples' places count in."""
    from nearsight_npu import quantize

    calibration, pictures = _inputs(args.model, args.calibration, args.samples, "calibration")
    validation, judged = _inputs(args.model, args.validation, _MANY, "validation")
    report = quantize(
        args.model,
        args.out,
        calibration=calibration,
        validation=validation,
        mode=args.mode,
        bits=args.bits,
        block=args.block,
        activations=args.activations,
        method=args.method,
        percentile=args.percentile,
        keep_float=args.keep_float,
        samples=args.samples,
        threads=args.threads,
        budget_mb=args.budget_mb,
        budget_ms=args.budget_ms,
        max_drop=args.max_drop,
        scores=args.scores,
        target=args.target,
        layers=args.layers,
        pareto=args.pareto,
        progress=told,
    )
    return report, pictures if args.validation is None else judged


def _inputs(model: str, source: Path | None, most: int | None, use: str) -> tuple[Any, list[Path]]:
    """Give samples as `quantize` takes them, and the list that names the pictures as they are read."""
    if source is not None and Path(model).is_file() and not source.exists():
        raise InputError(f"{source} was to be read as {use} data; there is no such folder or file; check the path")
    if source is None or not source.is_dir():
        return source, []
    pictures = _Pictures(model, source, most)
    return pictures.inputs(), pictures.read


class _Pictures:
    """A folder's pictures as inputs of a graph; `read` names those that were handed out, in order."""

    def __init__(self, model: str, folder: Path, most: int | None) -> None:
        from nearsight_npu.quantization.settings import DEFAULT_SAMPLES

        self._folder = folder
        self._wanted = (most or DEFAULT_SAMPLES) + HELD_OUT
        self._port, self._size_wh = picture_port(model)
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
        change["worst_pictures"] = [str(read[place]) for place in change["worst_samples"]]
    return answer


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"a count from 1 is wanted; got {text!r}")
    return int(text)
