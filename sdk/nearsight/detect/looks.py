"""Lets a detector's graph look at pictures: one, which the picture remembers, or several in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nearsight.detect.closedset import NanoBoxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearsight.engine import Engine
    from nearsight.families.family import Arrays, DetectorFamily
    from nearsight.sight import Outputs, Sight
    from nearsight_npu import Decision

    Leaf = NanoBoxes | DetectorFamily


def arrays_of(engine: Engine, leaf: Leaf, sight: Sight) -> Arrays:
    """Give the graph's inputs for one picture, each (1, ...).

    Raises:
        PictureUnreadableError: If the picture cannot be read.
    """
    if isinstance(leaf, NanoBoxes):
        return {"pixels": sight.pixels(engine)}
    return leaf.picture_arrays(sight.picture())


def look(engine: Engine, leaf: Leaf, sight: Sight, words: Arrays) -> tuple[Outputs, Decision]:
    """Let the graph look at one picture; without words it does so once, whatever is asked later.

    Returns:
        Its outputs, of which the first row is the picture's, and the delegate's account of the run.

    Raises:
        PictureUnreadableError: If the picture cannot be read.
        DelegateError: If the graph cannot be placed, proven or run.
    """
    if not words:
        return sight.seen(engine, leaf.role, lambda: _inputs(engine, leaf, [arrays_of(engine, leaf, sight)], {}))
    return engine.run(leaf.role, _inputs(engine, leaf, [arrays_of(engine, leaf, sight)], words))


def look_at_many(
    engine: Engine, leaf: Leaf, pictures: Sequence[Arrays], words: Arrays
) -> list[tuple[Outputs, Decision]]:
    """Let the graph look at several pictures at once, or in batches of its own length where that is fixed.

    Args:
        engine: Whose graph.
        leaf: How it is read.
        pictures: Of each picture what `arrays_of` gives.
        words: What each is asked.

    Returns:
        For each picture its outputs, each (1, ...), and the account of the run that it was part of.

    Raises:
        DelegateError: If the graph cannot be placed, proven or run.
    """
    step = _fixed(engine, leaf, pictures[0]) or len(pictures)
    seen: list[tuple[Outputs, Decision]] = []
    for at in range(0, len(pictures), step):
        group = pictures[at : at + step]
        outputs, decision = engine.run(leaf.role, _inputs(engine, leaf, group, words))
        seen += [
            ({name: array[place : place + 1] for name, array in outputs.items()}, decision)
            for place in range(len(group))
        ]
    return seen


def _inputs(engine: Engine, leaf: Leaf, pictures: Sequence[Arrays], words: Arrays) -> Arrays:
    """Put pictures and words together as the graph takes them; a batch of fixed length is filled with the last one."""
    fixed = _fixed(engine, leaf, pictures[0])
    rows = [*pictures, *[pictures[-1]] * (fixed - len(pictures))]
    asked = {port.name for port in engine.session(leaf.role).inputs}
    given = {name: np.concatenate([one[name] for one in rows]) for name in pictures[0] if name in asked}
    return given | {name: np.concatenate([array] * len(rows)) for name, array in words.items() if name in asked}


def _fixed(engine: Engine, leaf: Leaf, picture: Arrays) -> int:
    """Give the length of the graph's batches where that is fixed, otherwise 0."""
    for port in engine.session(leaf.role).inputs:
        if port.name in picture and port.shape and isinstance(port.shape[0], int):
            return port.shape[0]
    return 0
