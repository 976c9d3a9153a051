"""`python -m bench.delegate`: what the delegate chooses, against every file on every runtime that it could have chosen.

For each network the delegate chooses once, in a process of its own, with nothing remembered. Then, in a fresh process
that has only the remembered choice, its session and every admissible (file, runtime) pair run in turn. A pair is
admissible where it gives the network's golden answers; it stands there with the quickest of its set-ups, found by
trying each, but for those whose threads spin: they gain by taking from whoever runs next (`tuning.toll_of`), so they
are tried with `--spinning` only. The session's time holds all that the delegate adds around a run, the pairs' only the
run.

Nano's networks are the wheel's, with their golden sets. The two others have random weights (speed does not depend on
them) and are made as `bench.models` makes them unless a file is given; their other precisions are written by
`quantize`, calibrated on quarters of the repository's photographs, and their golden answers are those of FP32 to the
whole photographs. `error` is the output's error against these as a share of its spread from picture to picture.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench import measure
from PIL import Image

import nearsight_models
from nearsight_npu import Delegate, Golden, Policy, prove, quantize
from nearsight_npu.errors import DelegateError
from nearsight_npu.golden import DEFAULT_FLOORS
from nearsight_npu.targets.probe import automatic
from nearsight_npu.targets.target import Program, Setup, Target, Tunable

ROOT = Path(__file__).resolve().parent.parent
SHAPES = {"ViT-B/32": "ViT-B-32", "MobileCLIP2-S0": "MobileCLIP2-S0"}
# How each network's weights may become smaller: a name for the file -> what `quantize` is asked for.
WAYS: dict[str, dict[str, dict[str, Any]]] = {
    "ViT-B/32": {"d8w8": {"mode": "dynamic"}, "a8w8": {"mode": "static"}, "w8": {"mode": "weights", "bits": 8}},
    "MobileCLIP2-S0": {"a8w8": {"mode": "static"}, "fp16": {"mode": "half"}},
}
# Mixed precision as a share of FP32's bytes: halfway between INT4 and INT8, and between INT8 and FP16.
MIXED, SHARES = "mixed", {"ViT-B/32": 0.2, "MobileCLIP2-S0": 0.39}
WITH_SAMPLES = ("a8w8", MIXED)
TRIES = 3  # runs of each set-up of a pair before the quickest stands for it
SETTLED_S = 0.05  # for threads that spin a while after a run, and would take the next one's core
WORTH_S = 0.02  # a repetition runs a graph as often as fits in this, and takes the median


def pictures(shape: tuple[int | str, ...], dtype: str, *, quarters: bool) -> np.ndarray:
    """Photographs of the repository, whole or in quarters, as a graph of this shape takes them."""
    last = shape[-1] == 3
    side = int(shape[1] if last else shape[2])
    found = []
    for path in sorted((ROOT / "tests" / "photos").glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        width, height = image.width // 2, image.height // 2
        boxes = [(x, y, x + width, y + height) for x in (0, width) for y in (0, height)] if quarters else [None]
        found += [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box)) for box in boxes]
    stacked = np.stack(found)
    return stacked if dtype == "uint8" else (np.moveaxis(stacked, -1, 1) / 255).astype(np.float32)


def nano(role: str, capability: str, **more: Path | None) -> dict[str, Any]:
    """A network of the wheel, with the files that are given besides."""
    page = nearsight_models.load("nano", capability)
    files = {name: str(file.path) for name, file in page.files[role].items()}
    given = {name: str(path) for name, path in more.items() if path is not None}
    return {"files": {**given, **files}, "golden": str(page.golden[role].path)}


def made(name: str, fp32: Path, place: Path, *, mixed: bool = False) -> dict[str, Any]:
    """A network of random weights: its other precisions, and what FP32 answers as its golden set."""
    ways, stem = dict(WAYS[name]), name.replace("/", "-")
    if mixed:
        ways[MIXED] = {"mode": "mixed", "budget_mb": SHARES[name] * fp32.stat().st_size / 1e6}
    session = Delegate("cpu").load(fp32, precision="fp32")
    (port,) = session.inputs
    shape = tuple(port.shape)
    files, refused = {"fp32": str(fp32)}, {}
    quarters = pictures(shape, port.dtype, quarters=True)
    for way, wishes in ways.items():
        out = place / f"{stem}.{way}.onnx"
        if out.exists():
            files[way] = str(out)
            continue
        samples = [{port.name: one[None]} for one in quarters] if way in WITH_SAMPLES else None
        try:
            files[way] = quantize(fp32, out, calibration=samples, **wishes).out
        except DelegateError as error:
            refused[way] = str(error)
    whole = pictures(shape, port.dtype, quarters=False)
    answers = [session.run({port.name: one[None]})[0] for one in whole]
    golden = Golden(
        inputs={port.name: whole},
        outputs={key: np.concatenate([one[key] for one in answers]) for key in answers[0]},
        floors={**DEFAULT_FLOORS, **dict.fromkeys(ways, DEFAULT_FLOORS["int8"])},
    )
    golden.save(place / f"{stem}.golden.npz")
    return {"files": files, "golden": str(place / f"{stem}.golden.npz"), "refused": refused}


def choose(spec: dict[str, Any]) -> dict[str, Any]:
    """Let the delegate choose, with nothing remembered."""
    began = time.perf_counter()
    session = _load(spec)
    seconds = time.perf_counter() - began
    _, decision = session.run(_inputs(spec))
    return {"seconds": seconds, "decision": decision.to_dict()}


def compare(spec: dict[str, Any], repetitions: int) -> dict[str, Any]:
    """Time the chosen session and all admissible pairs in turn."""
    inputs = _inputs(spec)
    began = time.perf_counter()
    session = _load(spec)
    again_s = time.perf_counter() - began
    # What every file gives: some give more than the golden set compares.
    names = list(Golden.load(spec["golden"]).outputs)
    _, decision = session.run(inputs, names)
    runs: dict[str, Callable[[], object]] = {"chosen": lambda: session.run(inputs, names)}
    refused: dict[str, str] = dict(spec.get("refused", {}))
    setups: dict[str, str] = {}
    kept = []
    for target, precision, path in _pairs(spec):
        pair = f"{precision} on {target.name}"
        try:
            proof = prove(path, spec["golden"], precision, target, cache_dir=spec["cache"])
            if not proof.passed:
                refused[pair] = proof.reason
                continue
            setup, program = _quickest(target, path, inputs, names, spinning=spec["spinning"])
        except DelegateError as error:
            refused[pair] = str(error)
            continue
        kept.append(program)
        setups[pair] = str(setup) if setup is not None else "as it is"
        runs[pair] = lambda program=program: program.run(inputs, names)
    found = measure.interleaved({name: lambda run=run: _steady(run) for name, run in runs.items()}, repetitions)
    return {"decision": decision.to_dict(), "ms": found, "refused": refused, "setups": setups, "again_s": again_s}


def _load(spec: dict[str, Any]) -> Any:
    delegate = Delegate(cache_dir=spec["cache"], policy=Policy(), threads=spec["threads"])
    return delegate.load(spec["files"], golden=spec["golden"], name=spec["name"])


def _inputs(spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """The first sample of the golden set, as one run takes it."""
    return {name: np.ascontiguousarray(array[:1]) for name, array in Golden.load(spec["golden"]).inputs.items()}


def _pairs(spec: dict[str, Any]) -> list[tuple[Target, str, Path]]:
    """Every file on every runtime that is here for its speed: no simulator, and not the reference."""
    return [(target, precision, Path(path)) for target in automatic() for precision, path in spec["files"].items()]


def _quickest(
    target: Target, path: Path, inputs: dict[str, np.ndarray], names: list[str], *, spinning: bool
) -> tuple[Setup | None, Program]:
    """Try the set-ups of a pair, those whose threads spin only if asked to, and give the quickest."""
    if not isinstance(target, Tunable):
        return None, target.compile(path)
    tried: dict[Setup, float] = {}
    for setup in (one for one in target.setups(len(os.sched_getaffinity(0))) if spinning or not one.spinning):
        program = target.compile_as(path, setup)
        tried[setup] = min(_steady(lambda program=program: program.run(inputs, names)) for _ in range(TRIES))
    best = min(tried, key=lambda setup: tried[setup])
    return best, target.compile_as(path, best)


def _steady(run: Callable[[], object]) -> float:
    """Milliseconds of a run, after one that wakes threads and fills caches."""
    time.sleep(SETTLED_S)
    first = measure.timed(run)
    times = [measure.timed(run) for _ in range(max(1, min(10, int(WORTH_S / first))))]
    return 1000 * statistics.median(times)


def in_a_process(stage: str, spec: dict[str, Any], place: Path, repetitions: int) -> dict[str, Any]:
    """Run one stage in a process of its own."""
    path = place / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "-m", "bench.delegate", "--stage", stage, "--spec", str(path)]
    done = subprocess.run(
        [*command, "--repetitions", str(repetitions)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{spec['name']}: {stage} failed\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(spec: dict[str, Any], chosen: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Print one network's table and give its figures."""
    spreads = {name: measure.spread(times) for name, times in found["ms"].items()}
    pairs = {name: spread for name, spread in spreads.items() if name != "chosen"}
    best = min(pairs, key=lambda name: pairs[name]["median"])
    decision = found["decision"]
    taken = f"{decision['precision']} on {decision['target']}"
    ratio = spreads["chosen"]["median"] / spreads[best]["median"]
    in_turn = measure.ratio(found["ms"]["chosen"], found["ms"][best])
    # What runs take when nothing else wants the processor; on a busy machine this says more than a median.
    calm = {name: statistics.quantiles(times, n=4)[0] for name, times in found["ms"].items()}
    calm_ratio = calm["chosen"] / min(calm[name] for name in pairs)
    errors, sizes = _errors(spec), {name: Path(path).stat().st_size / 1e6 for name, path in spec["files"].items()}
    rows = [
        (f"chosen in {chosen['seconds']:.1f} s: {taken}", measure.text(spreads["chosen"], "ms", 2)),
        (f"  {decision['placement']}", ""),
        ("  loaded again, in a fresh process", f"{found['again_s']:.2f} s"),
    ]
    for name in sorted(pairs, key=lambda name: pairs[name]["median"]):
        precision = name.partition(" ")[0]
        words = f"{name}, {found['setups'][name]}; {sizes[precision]:.1f} MB, error {errors[precision]:.3f}"
        rows.append((words, measure.text(pairs[name], "ms", 2)))
    rows += [(f"refused: {name}", why[:60]) for name, why in found["refused"].items()]
    rows += [
        ("chosen / best, of the medians", f"{ratio:.3f}"),
        ("chosen / best, of the lower quartiles", f"{calm_ratio:.3f}"),
        ("chosen / best, in turn", measure.text(in_turn, "x", 3)),
    ]
    measure.show(spec["name"], rows)
    return {
        "chosen": taken,
        "best": best,
        "ratio": ratio,
        "ratio_of_quartiles": calm_ratio,
        "ratio_in_turn": in_turn,
        "ms": spreads,
        "mb": sizes,
        "errors": errors,
        "setups": found["setups"],
        "refused": found["refused"],
        "placement": decision["placement"],
        "rejected": decision["rejected"],
        "choosing_s": chosen["seconds"],
        "again_s": found["again_s"],
    }


def _errors(spec: dict[str, Any]) -> dict[str, float]:
    """Each file's output error on its golden set, on the processor: of the first output, as a share of its spread."""
    golden = Golden.load(spec["golden"])
    output, wanted = next(iter(golden.outputs.items()))
    centred = wanted.astype(np.float64) - wanted.mean(0, dtype=np.float64)
    found = {}
    for precision, path in spec["files"].items():
        session = Delegate("cpu").load(path, precision=precision)
        answers = [
            session.run({name: array[at : at + 1] for name, array in golden.inputs.items()}, (output,))[0][output]
            for at in range(len(golden))
        ]
        difference = np.concatenate(answers).astype(np.float64) - wanted
        found[precision] = float(np.sqrt((difference**2).sum() / (centred**2).sum()))
    return found


def networks(args: argparse.Namespace, place: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> what makes the network's files ready."""

    def shape(name: str, given: Path | None) -> dict[str, Any]:
        if given is not None:
            return made(name, given.resolve(), place, mixed=args.mixed)
        # Needs torch; see bench.models.
        from bench import models

        models.importable()
        os.environ["NEARSIGHT_MODELS"] = str(place / "models")
        ready = models.made(SHAPES[name], place)
        fp32 = nearsight_models.load(ready.model).files["image"]["fp32"].path
        return made(name, fp32, place, mixed=args.mixed)

    return {
        "nano image": lambda: nano("image", "search"),
        "nano text": lambda: nano("text", "search"),
        "nano detector": lambda: nano("detect", "detect", fp32=args.detect),
        "ViT-B/32": lambda: shape("ViT-B/32", args.vit),
        "MobileCLIP2-S0": lambda: shape("MobileCLIP2-S0", args.mobileclip),
    }


def main() -> None:
    """Choose, measure, print, append."""
    parser = argparse.ArgumentParser(prog="bench.delegate", description=__doc__)
    parser.add_argument("--network", action="append", help="only this one; may be given again")
    parser.add_argument("--detect", type=Path, help="nano's detector in FP32")
    parser.add_argument("--vit", type=Path, help="a picture tower of ViT-B/32's shape in FP32, (n, 3, side, side)")
    parser.add_argument("--mobileclip", type=Path, help="a picture tower of MobileCLIP2-S0's shape in FP32")
    parser.add_argument("--mixed", action="store_true", help="mixed precision too, which takes minutes to decide")
    parser.add_argument("--work", type=Path, help="where the files that are made stay for the next time")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--spinning", action="store_true", help="let the pairs have threads that spin as well")
    parser.add_argument("--threads", type=int, help="threads of one run; without, the delegate chooses them too")
    parser.add_argument("--stage", choices=("choose", "compare"), help=argparse.SUPPRESS)
    parser.add_argument("--spec", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        spec = json.loads(args.spec.read_text(encoding="utf-8"))
        print(json.dumps(choose(spec) if args.stage == "choose" else compare(spec, args.repetitions)))
        return
    parallel = measure.parallelism()
    measure.show("Delegate", [("parallelism of the machine (2 is two free cores)", f"{parallel}")])
    figures: dict[str, Any] = {
        "parallelism": parallel,
        "repetitions": args.repetitions,
        "threads": args.threads,
        "spinning": args.spinning,
    }
    with tempfile.TemporaryDirectory(prefix="nearsight-bench-") as home:
        place = args.work or Path(home)
        place.mkdir(parents=True, exist_ok=True)
        for name, make in networks(args, place).items():
            if args.network and name not in args.network:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                cache = Path(home) / "cache" / name.replace("/", "-")
                asked = {"threads": args.threads, "spinning": args.spinning, "cache": str(cache)}
                spec = {"name": name, **asked, **make()}
            calm = measure.parallelism()
            chosen = in_a_process("choose", spec, place, args.repetitions)
            timed = in_a_process("compare", spec, place, args.repetitions)
            figures[name] = {**report(spec, chosen, timed), "parallelism": [calm, measure.parallelism()]}
    measure.append("delegate", figures)


if __name__ == "__main__":
    main()
