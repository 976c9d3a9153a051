"""Cold start of `nearsight search`, import time, and the sizes of wheel and base install."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from bench import measure

ROOT = Path(__file__).parent.parent


def run(command: list[str]) -> float:
    """Seconds of a whole process, which must succeed."""
    return measure.timed(lambda: subprocess.run(command, check=True, capture_output=True))


def installed() -> dict[str, float]:
    """MB of the wheel, and of an environment that holds it and its base dependencies, less the empty one."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
            check=True,
            cwd=ROOT,
            capture_output=True,
        )
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", with_pip=True)

        def size() -> float:
            return (
                sum(
                    path.stat().st_size
                    for path in (folder / "venv").rglob("*")
                    if path.is_file() and not path.is_symlink()
                )
                / 1e6
            )

        empty = size()
        subprocess.run(
            [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", str(wheel)],
            check=True,
            capture_output=True,
        )
        own = (
            sum(
                p.stat().st_size
                for name in ("nearsight", "nearsight_npu", "nearsight_models")
                for p in (folder / "venv").rglob(f"site-packages/{name}/**/*")
                if p.is_file()
            )
            / 1e6
        )
        return {
            "wheel_mb": round(wheel.stat().st_size / 1e6, 1),
            "own_mb": round(own, 1),
            "installed_mb": round(size() - empty, 1),
        }


def main(repetitions: int = 7) -> None:
    """Measure, print, append."""
    parallel = measure.parallelism()
    tool = str(Path(sys.executable).parent / "nearsight")
    with tempfile.TemporaryDirectory() as place:
        gallery = str(Path(place) / "g.nsg")
        subprocess.run(
            [tool, "index", str(ROOT / "tests/photos"), "--gallery", gallery], check=True, capture_output=True
        )
        runs = {
            "search": lambda: run([tool, "search", "a cup of coffee", "--gallery", gallery]),
            "import": lambda: run([sys.executable, "-c", "import nearsight"]),
            "python": lambda: run([sys.executable, "-c", "pass"]),
            "libraries": lambda: run([sys.executable, "-c", "import numpy, onnxruntime, faiss, sentencepiece"]),
        }
        for work in runs.values():
            work()
        found = measure.interleaved(runs, repetitions)
    sizes = installed()
    added = [1000 * (a - b) for a, b in zip(found["import"], found["python"], strict=True)]
    rows = [
        ("parallelism of the machine (2 is two free cores)", f"{parallel}"),
        (
            "nearsight search, process start to first hit",
            measure.text(measure.spread([1000 * v for v in found["search"]]), "ms", 0),
        ),
        (
            "importing numpy, onnxruntime, faiss and sentencepiece alone",
            measure.text(measure.spread([1000 * v for v in found["libraries"]]), "ms", 0),
        ),
        ("import nearsight, above python itself", measure.text(measure.spread(added), "ms")),
        ("wheel", f"{sizes['wheel_mb']} MB"),
        ("Nearsight's own files, installed", f"{sizes['own_mb']} MB"),
        ("base install with all its dependencies", f"{sizes['installed_mb']} MB"),
    ]
    measure.show("Start and size", rows)
    measure.append(
        "start",
        {
            "parallelism": parallel,
            **{k: measure.spread(v) for k, v in found.items()},
            "import_added_ms": measure.spread(added),
            **sizes,
        },
    )
