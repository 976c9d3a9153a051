"""One picture that several models look at: it is read once, and each graph that looks at the whole runs once."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from nearsight.camera.source import Frame
from nearsight.pictures import at_hand, read_with_facts
from nearsight.preprocess import fit_picture, size_of, squeeze
from nearsight_npu import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from nearsight.engine import Engine
    from nearsight.pictures import PictureSource
    from nearsight_npu import Decision

    Outputs = Mapping[str, np.ndarray[Any, Any]]


# What a picture is read for when graphs look at the whole of it, at least: no embedded model looks at more, so that one
# decoding of a large JPEG serves all of them, and each sees the same pixels whoever looks first.
LOOKED_WH = (320, 320)

# A picture whose 8 x 8 parts differ by no more than this, of 255, in any colour shows nothing: of 4,500 photographs of
# Flickr8k's and COCO's training parts the plainest differs by 44.
BLANK = 12


class Sight:
    """A picture, and what was seen in it so far.

    Not for several threads at once; what it gives out is not to be written to.

    Args:
        source: Anything that `read_image` takes: path, bytes, PIL picture, array. It is read when somebody first looks;
            a large array or RGB picture is looked at as it is, without a copy.
    """

    def __init__(self, source: PictureSource) -> None:
        self.source = source
        self._picture: Image.Image | None = None
        self._whole = False
        self._size_wh = (0, 0)
        self._views: dict[tuple[int, int], Image.Image] = {}
        self._seen: dict[tuple[int, str], tuple[Engine, Outputs, Decision]] = {}

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the upright picture in full, in pixels.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
        """
        if self._at_hand is None:
            self.picture((1, 1))
            return self._size_wh
        return size_of(self._at_hand)

    def picture(self, size_hint: tuple[int, int] | None = None) -> Image.Image:
        """Read the picture, or give it as it was read before.

        Args:
            size_hint: Width and height below which it will not be used: a large JPEG is then decoded faster, and
                again if somebody later needs more of it. None decodes all of it.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
            InputError: If the source cannot hold a picture.
        """
        held = self._picture
        if held is not None and (self._whole or (size_hint is not None and _covers(held.size, size_hint))):
            return held
        self._picture = self._read(size_hint)
        self._whole = self._picture.size == self._size_wh
        return self._picture

    @property
    def _rereadable(self) -> bool:
        """Whether the source can be decoded again, at another size; a stream is read once, an array is what it is."""
        return isinstance(self.source, (str, os.PathLike, bytes))

    @cached_property
    def _at_hand(self) -> Image.Image | NDArray[np.uint8] | None:
        """The source, where it holds its pixels as they are wanted: a frame need not be read, nor copied."""
        return at_hand(self.source)

    def keep(self) -> None:
        """Copy what somebody else may write to, such as a camera's buffer, if it was not yet read.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
        """
        if self._at_hand is not None:
            self.source = self._at_hand = self._at_hand.copy()

    def _read(self, size_hint: tuple[int, int] | None) -> Image.Image:
        read, facts = read_with_facts(self.source, size_hint=size_hint if self._rereadable else None)
        self._size_wh = facts.size_wh or read.size
        return read

    def _view(self, size_hint: tuple[int, int]) -> Image.Image:
        """Give what graphs look at: the same pixels, whoever looked before and at however much."""
        if not self._rereadable:
            return self.picture()
        if size_hint not in self._views:
            held = self._picture
            # A whole picture of less than twice the size is what would be decoded anyhow.
            fits = held is not None and self._whole and not _covers(held.size, (2 * size_hint[0], 2 * size_hint[1]))
            self._views[size_hint] = held if held is not None and fits else self._read(size_hint)
            if held is None:
                self._picture = self._views[size_hint]
                self._whole = self._picture.size == self._size_wh
        return self._views[size_hint]

    def pixels(self, engine: Engine) -> NDArray[np.uint8]:
        """Fit the whole picture to an engine's input: uint8 (1, h, w, 3)."""
        shape = engine.manifest.preprocessing
        assert shape is not None, "a graph that takes pixels as they are has a page that says how they are fitted"
        width, height = shape.size_wh
        looked = self._at_hand
        if looked is None or squeeze(self.size_wh, shape.size_wh) < shape.averaged_from:
            looked = self._view((max(width, LOOKED_WH[0]), max(height, LOOKED_WH[1])))
        gap, averaged_from = shape.reducing_gap, shape.averaged_from
        return fit_picture(looked, shape.size_wh, shape.mode, gap, averaged_from)[None]

    @cached_property
    def is_blank(self) -> bool:
        """Whether the picture is of one colour, but for noise.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
        """
        parts = np.asarray(self._view(LOOKED_WH).resize((8, 8), Image.Resampling.BOX, reducing_gap=1.0))
        return bool(np.ptp(parts.reshape(-1, 3), axis=0).max() <= BLANK)

    def seen(self, engine: Engine, role: str, arrays: Callable[[], Outputs] | None = None) -> tuple[Outputs, Decision]:
        """Let one of an engine's graphs look at the whole picture, once; the second time its answer is remembered.

        Args:
            engine: The engine.
            role: Which of its graphs.
            arrays: Makes the graph's inputs; None where it takes `pixels` as the model's page fits them.

        Returns:
            All outputs of the graph, for a batch of one, and the delegate's account of the one run.

        Raises:
            PictureUnreadableError: If the picture cannot be read.
            DelegateError: If the graph cannot be placed, proven or run.
        """
        key = (id(engine), role)
        if key not in self._seen:
            # The engine is kept, so that no other one can get its number.
            given = {"pixels": self.pixels(engine)} if arrays is None else arrays()
            self._seen[key] = (engine, *engine.run(role, given))
        _, outputs, decision = self._seen[key]
        return outputs, decision


def sight_of(image: PictureSource | Frame | Sight) -> Sight:
    """Look at a picture or a camera's frame, or go on looking at one."""
    if isinstance(image, Sight):
        return image
    return Sight(image.pixels if isinstance(image, Frame) else image)


def together(lead: Decision, decisions: Iterable[Decision]) -> Decision:
    """Give one decision for an answer that took several runs.

    Args:
        lead: The run that the answer is called after.
        decisions: All runs; one that is named twice, since a picture is looked at once, counts once.

    Returns:
        The lead's, with what all of them took and refused.
    """
    once = list({id(decision): decision for decision in decisions}.values())
    runs = [decision.measured for decision in once if decision.measured is not None]
    measured = Measured(
        latency_ms=sum(run.latency_ms for run in runs),
        bytes_in=sum(run.bytes_in for run in runs),
        bytes_out=sum(run.bytes_out for run in runs),
    )
    rejected = dict.fromkeys(refused for decision in once for refused in decision.rejected)
    return replace(lead, measured=measured, rejected=tuple(rejected))


def _covers(size: tuple[int, int], hint: tuple[int, int]) -> bool:
    return size[0] >= hint[0] and size[1] >= hint[1]
