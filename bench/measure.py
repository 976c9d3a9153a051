"""Interleaved timing, a probe of how parallel the machine is right now, and the JSON that every part appends."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


def _spin(seconds: float) -> int:
    """Count loops for a while."""
    until, loops = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        for _ in range(1000):
            loops += 1
    return loops


def parallelism(seconds: float = 1.0) -> float:
    """How much two busy processes get done against one: 2 on two idle cores, 1 when one core is taken away."""
    alone = _spin(seconds)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_spin, [0.05, 0.05])  # started and warm
        together = sum(pool.map(_spin, [seconds, seconds], chunksize=1))
    return round(together / alone, 2)


def interleaved(runs: dict[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Call each in turn, `repetitions` times; every call returns its own figure."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            found[name].append(run())
    return found


def timed(work: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def worked(work: Callable[[], object]) -> float:
    """Seconds of processor time that one call takes in this thread: what others do on the machine hardly counts."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    """Spread of the pairwise ratios of two interleaved series."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def show(title: str, rows: list[tuple[str, str]]) -> None:
    """Print a two-column table."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)


def text(figures: dict[str, float], unit: str, digits: int = 1) -> str:
    """`median unit (min to max)`."""
    return f"{figures['median']:.{digits}f} {unit} ({figures['min']:.{digits}f} to {figures['max']:.{digits}f})"


def append(part: str, figures: dict[str, object]) -> None:
    """Append one run to bench/results/PART.json, a list."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"bench-{part}.json"
    runs = json.loads(path.read_text(encoding="utf8")) if path.exists() else []
    libraries = {name: version(name) for name in ("onnxruntime", "numpy", "faiss-cpu", "pillow")}
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(), **libraries}
    runs.append({"when": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, **figures})
    path.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf8")
