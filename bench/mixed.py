"""`python -m bench.mixed MODEL.onnx ...`: mixed precision against random and weight-error allocation at the same bytes.

The size is halfway between two uniform files: INT4 and INT8 weights where most weights are those of matrix products,
else INT8 (activations too) and FP16. Every figure is the error of a written file on samples that nothing was decided
on: the root mean square of the differences as a share of how far the model's own answers lie from their mean (see
`sensitivity.Reference`). A model whose weights are in 4 bits, such as nano's text tower, is put in floats first.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bench import measure
from onnx import helper, numpy_helper
from PIL import Image
from rich.console import Console
from rich.table import Table

import nearsight_models
from nearsight.families.nano import Nano
from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.allocation import Option, Options, drawn, greedy, knapsack
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.mixed import FOR_BYTES, Mixer
from nearsight_npu.quantization.ranges import take_ranges
from nearsight_npu.quantization.source import Prepared, inspect, prepare
from nearsight_npu.quantization.weight_only import Blocks
from nearsight_npu.quantization.writing import Recipe
from nearsight_npu.targets.cpu import CpuTarget

DRAWS = 10
CALIBRATING, CALIBRATING_TEXTS, HELD_OUT = 128, 256, 128  # a text has few places, so more of them are wanted
# Weight-only means that activations stay in float: with onnxruntime's level 4 their rounding to 8 bits is a floor that
# all plans share (nano's text tower: uniform w8 errs .027 with it).
RECIPE = Recipe(accuracy_level=0)
# Source: open_clip, the means and deviations of CLIP's pictures.
CLIP_MARKS = 49406, 49407  # Source: CLIP's tokenizer
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def floated(path: Path, folder: Path) -> Path:
    """Put weights in 4 bits back into floats; a model without any stays as it is."""
    model = onnx.load(path)
    held = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    fresh: dict[str, np.ndarray] = {}

    def read(name: str) -> np.ndarray:
        return held[casts.get(name, name)]

    for node in model.graph.node:
        values = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if node.op_type == "MatMulNBits":
            codes = read(node.input[1])
            rows, blocks = codes.shape[:2]
            pairs = np.stack([codes & 15, codes >> 4], axis=-1).reshape(rows, -1)
            scales = read(node.input[2]).reshape(rows, blocks)
            made = Blocks(codes=pairs, scales=scales, zeros=np.full(scales.shape, 8, np.uint8), columns=values["K"])
            product, name = node.output[0], node.name
            fresh[f"{name}.float"] = np.ascontiguousarray(made.restored().T)
            node.CopyFrom(helper.make_node("MatMul", [node.input[0], f"{name}.float"], [product], name=name))
        elif node.op_type == "GatherBlockQuantized":
            codes, scales, zeros = (read(node.input[place]).astype(np.float32) for place in (0, 2, 3))
            blocks = (codes.reshape(*scales.shape, -1) - zeros[..., None]) * scales[..., None]
            fresh[f"{node.name}.float"] = blocks.reshape(codes.shape)
            taken = [f"{node.name}.float", node.input[1]]
            node.CopyFrom(helper.make_node("Gather", taken, [node.output[0]], name=node.name))
    if not fresh:
        return path
    taken = {name for node in model.graph.node for name in node.input}
    left = [weight for weight in model.graph.initializer if weight.name in taken]
    del model.graph.initializer[:], model.graph.value_info[:]  # types have changed
    model.graph.initializer.extend([*left, *(numpy_helper.from_array(array, name) for name, array in fresh.items())])
    out = folder / f"{path.stem}.float.onnx"
    onnx.save(model, out)
    return out


def called(path: Path) -> str:
    """What tables call a model: its file, and where files are named for their towers its folder as well."""
    return f"{path.parent.parent.name}/{path.name}" if path.parent.name == "onnx" else path.name


def pictures(archive: Path, count: int, side: int) -> list[np.ndarray]:
    """The first pictures of a tar, stretched to a square: uint8 (side, side, 3)."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.lower().endswith((".webp", ".jpg", ".jpeg", ".png")):
                with Image.open(io.BytesIO(tar.extractfile(member).read())) as picture:
                    found.append(np.asarray(picture.convert("RGB").resize((side, side))))
            if len(found) == count:
                break
    return found


def samples_for(path: Path, data: Path, count: int) -> list[dict[str, np.ndarray]]:
    """Inputs for single runs, by what the graph takes: captions, bytes of pictures, or normalised pictures."""
    port = CpuTarget().compile(path, 1).inputs[0]
    if port.dtype == "int64":
        lines = (data / "flickr8k_dev_captions.jsonl").read_text(encoding="utf8").splitlines()
        family = Nano(nearsight_models.load("nano", "search"))
        texts = [family.text_arrays([json.loads(line)["en"][0]]) for line in lines[:count]]
        return texts if port.name in texts[0] else [{port.name: as_clip(text["ids"])} for text in texts]
    side = next(length for length in port.shape[1:] if isinstance(length, int) and length > 3)
    archive = data / ("detection/dev.tar" if side == 300 else "flickr8k_dev.tar")
    taken = pictures(archive, count, side)
    if port.dtype == "uint8":
        return [{port.name: picture[None]} for picture in taken]
    mean, deviation = (MEAN, DEVIATION) if "vit" in called(path) else (0.0, 1.0)
    return [
        {port.name: np.ascontiguousarray(((picture / 255 - mean) / deviation).transpose(2, 0, 1)[None], np.float32)}
        for picture in taken
    ]


def as_clip(ids: np.ndarray) -> np.ndarray:
    """Pieces of one text as CLIP's towers take them, between its two marks: a network of random weights reads any."""
    begin, end = CLIP_MARKS
    return np.concatenate([[[begin]], ids, [[end]]], axis=1)


def by_weight_error(mixer: Mixer, options: Options, *, relative: bool) -> Options:
    """The same options with the squares by which weights move in place of errors at the output."""
    weighed = {}
    for name, some in options.items():
        moved = {option.choice: mixer.weights.moved(name, option.choice) for option in some}
        weighed[name] = [
            Option(
                choice=option.choice,
                cost=option.cost,
                error=moved[option.choice][0] / (moved[option.choice][1] if relative else 1.0),
            )
            for option in some
        ]
    return weighed


def sensible(options: Options) -> Options:
    """Leave out what costs more than a later, more precise option: scales of small convolutions outweigh halves."""
    kept: dict[str, list[Option]] = {}
    for name, some in options.items():
        later = (some[place + 1 :] for place in range(len(some)))
        kept[name] = [one for one, rest in zip(some, later, strict=True) if all(one.cost < two.cost for two in rest)]
    return kept


class Contest:
    """One model: plans of the same bytes, written and measured."""

    def __init__(self, path: Path, data: Path, folder: Path) -> None:
        self.folder = folder
        source = floated(path, folder)
        self.prepared: Prepared = prepare(source, inspect(source, "static"), folder)
        self.groups = group(self.prepared)
        calibrating = CALIBRATING_TEXTS if any(entry.kind == "lookup" for entry in self.groups) else CALIBRATING
        samples = samples_for(source, data, calibrating + HELD_OUT)
        self.calibrating, self.held_out = samples[:calibrating], samples[calibrating:]
        products = sum(entry.elements for entry in self.groups if entry.kind != "conv")
        self.matrices = products > sum(entry.elements for entry in self.groups) / 2
        self.pair = (words.W4, words.W8) if self.matrices else (words.A8W8, words.FP16)
        static = not self.matrices
        self.ranges = take_ranges(self.prepared, self.calibrating, histograms=False) if static else None
        self.rows: list[dict[str, Any]] = []

    def mixer(self, choices: tuple[str, ...], *, compensate: bool) -> Mixer:
        """Measure afresh."""
        return Mixer(
            self.prepared,
            self.groups,
            self.calibrating,
            self.folder,
            choices=choices,
            recipe=RECIPE,
            ranges=self.ranges,
            compensate=compensate,
        )

    def add(self, name: str, mixer: Mixer, plans: list[dict[str, str]], note: str = "") -> float:
        """Write and measure plans; keep the mean error as a row."""
        found = []
        for plan in plans:
            out = self.folder / "written.onnx"
            mixer.write(plan, out)
            found.append((self.judge.of_file(out), out.stat().st_size / 1e6))
        errors = [error for error, _ in found]
        row = {
            "plan": name,
            "mb": round(statistics.mean(size for _, size in found), 3),
            "error": statistics.mean(errors),
            "least": min(errors),
            "most": max(errors),
            "note": note,
        }
        self.rows.append(row)
        return float(row["error"])

    def run(self, *, refine: bool) -> dict[str, Any]:
        """All rows of one model, and whether the bar is met by the last."""
        low, high = self.pair
        # A convolution has no 4-bit weights, so in the uniform INT4 file it has 8.
        plain = self.mixer((low, high), compensate=False)
        self.judge = plain.trials_on(self.held_out)
        options = plain.options()
        uniform = {
            choice: {
                name: choice if choice in {o.choice for o in some} else some[0].choice for name, some in options.items()
            }
            for choice in self.pair
        }
        budget = sum(plain.bytes_of(plan) for plan in uniform.values()) // 2
        left = budget - plain.fixed_bytes()
        for choice, plan in uniform.items():
            self.add(f"uniform {choice}", plain, [plan])
        draws = [drawn(sensible(options), left, seed) for seed in range(DRAWS)]
        random = self.add("random", plain, draws, f"mean of {DRAWS}")
        weighed = [
            self.add(
                f"weight error, {kind}",
                plain,
                [knapsack(by_weight_error(plain, options, relative=kind == "relative"), left)],
            )
            for kind in ("squares", "relative")
        ]
        self.add("mixed, plain rounding, greedy", plain, [greedy(options, left)], f"{low} and {high} only")
        self.add("mixed, plain rounding", plain, [plain.plan(budget)], f"{low} and {high} only")
        began = time.perf_counter()
        full = self.mixer(FOR_BYTES, compensate=True)
        plan = full.plan(budget)
        spent = time.perf_counter() - began
        mixed = self.add("mixed", full, [plan], counted(plan))
        if refine:
            plan = full.refined(plan, budget)
            mixed = self.add("mixed, re-measured", full, [plan], counted(plan))
        rivals = {"random": random, "weight error": min(weighed)}
        met = all(mixed <= error / 2 for error in rivals.values())
        return {
            "budget_mb": round(budget / 1e6, 3),
            "groups": len(self.groups),
            "calibrating": len(self.calibrating),
            "held_out": len(self.held_out),
            "seconds": round(spent, 1),
            "rows": self.rows,
            "ratio": {name: round(mixed / error, 4) for name, error in rivals.items()},
            "met": met,
            "reason": "" if met else self.heaviest(full.options(), plan),
        }

    def heaviest(self, options: Options, plan: dict[str, str]) -> str:
        """Say which group most of a plan's error comes from: what no other division of the rest can mend."""
        errors = {name: next(o.error for o in some if o.choice == plan[name]) for name, some in options.items()}
        name = max(errors, key=errors.__getitem__)
        sizes = {entry.name: entry.elements for entry in self.groups}
        return (
            f"{name!r}, as {plan[name]}, has {errors[name] / sum(errors.values()):.0%} of the squared error foretold "
            f"and {sizes[name] / sum(sizes.values()):.0%} of the weights, all of one precision"
        )


def counted(plan: dict[str, str]) -> str:
    """How many groups have which precision."""
    return ", ".join(f"{list(plan.values()).count(choice)} {choice}" for choice in FOR_BYTES if choice in plan.values())


def show(name: str, found: dict[str, Any]) -> None:
    """Print one model's table."""
    table = Table(title=f"{name}: {found['groups']} groups, {found['budget_mb']} MB", title_justify="left")
    for head, side in (("plan", "left"), ("MB", "right"), ("error", "right"), ("least to most", "right"), ("", "left")):
        table.add_column(head, justify=side)
    for row in found["rows"]:
        table.add_row(
            row["plan"],
            f"{row['mb']:.2f}",
            f"{row['error']:.4f}",
            f"{row['least']:.4f} to {row['most']:.4f}",
            row["note"],
        )
    Console(width=120).print(table)
    ratios = ", ".join(f"{ratio:.3f} of {rival}'s" for rival, ratio in found["ratio"].items())
    Console(width=120).print(
        f"{found['rows'][-1]['plan']}: {ratios} error; the bar of one half is "
        + ("met\n" if found["met"] else f"NOT met: {found['reason']}\n")
    )


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(prog="bench.mixed", description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--quick", action="store_true", help="do not measure anew around the plan")
    args = parser.parse_args()
    for path in args.models:
        with tempfile.TemporaryDirectory(prefix="nearsight-") as place:
            found = Contest(path, args.data, Path(place)).run(refine=not args.quick)
        show(called(path), found)
        measure.append("mixed", {"model": called(path), **found})


if __name__ == "__main__":
    main()
