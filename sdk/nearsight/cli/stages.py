"""What a long call is doing, on stderr: one moving line for a person, at most a line a stage for a log."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nearsight.cli.terminal import console, for_a_person, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nearsight_npu import Progress

TALK_EVERY_S = 5.0  # a log hears of a stage once, and nothing of those that pass between


@contextmanager
def stages_shown(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Give a callback that shows what is being done.

    Args:
        quiet: whether nothing is said where there is no terminal.

    Yields:
        The callback; None where nothing is said.
    """
    if for_a_person(sys.stderr):
        with _moving() as told:
            yield told
    else:
        yield None if quiet else _lines()


@contextmanager
def _moving() -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[count]}", style="green"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        bars.add_task("", total=None, count="")
        (task,) = bars.tasks

        def told(progress: Progress) -> None:
            task.total = progress.total  # `update` takes None for no change
            bars.update(task.id, description=progress.stage, completed=progress.done, count=_count(progress))
            task.finished_time = None  # a stage is done, not the call: its clock and its spinner go on

        yield told


def _lines() -> Callable[[Progress], None]:
    last, said = time.monotonic(), set[str]()

    def told(progress: Progress) -> None:
        nonlocal last
        if progress.stage not in said and time.monotonic() - last >= TALK_EVERY_S:
            last = time.monotonic()
            said.add(progress.stage)
            say(f"{progress.stage} {_count(progress)}")

    return told


def _count(progress: Progress) -> str:
    if progress.total is None:
        return str(progress.done or "")
    return f"{progress.done} of {progress.total}"
