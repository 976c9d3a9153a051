"""Remembers what was said about pictures, so that a picture that looks the same is not described anew."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import InputError
from nearsight_npu import Rung

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from nearsight.caption.captioner import Caption
    from nearsight_npu import Decision

MOST = 256
ROUNDING = 1e-6  # a vector in single precision has a cosine with itself that is so far from 1
TARGET = "memory"


class Memory:
    """Captions and their verdicts by picture, prompt and model; may be shared by captioners and threads.

    A picture counts as the same if its vector's cosine with that of a picture described before reaches `reuse`. A
    caption that was said again is not remembered for the new picture, so that likeness does not drift.

    Args:
        reuse: The cosine from which a caption is said again, above 0 and at most 1; `docs/captioning.md` has what each
            costs.
        most: How many captions are kept; the oldest is forgotten first.

    Raises:
        InputError: If `reuse` or `most` is out of its range.
    """

    def __init__(self, reuse: float, most: int = MOST) -> None:
        if isinstance(reuse, bool) or not isinstance(reuse, (int, float)) or not 0 < reuse <= 1:
            raise InputError(
                f"reuse={reuse!r} was asked for; it is a cosine above 0 and at most 1; give one such as .97"
            )
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise InputError(f"most={most!r} was asked for; it is a whole number from 1; give one such as {MOST}")
        self.reuse, self.most = float(reuse), most
        self._kept: list[tuple[Hashable, NDArray[np.float32], Caption]] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, prompt: Hashable, vector: NDArray[np.float32], said: Caption) -> None:
        """Remember what was said; `prompt` is everything besides the picture that it depends on."""
        with self._lock:
            self._kept = [*self._kept[1 - self.most or len(self._kept) :], (prompt, vector, said)]

    def recall(self, prompt: Hashable, vector: NDArray[np.float32], seen: Decision) -> Caption | None:
        """Say again what was said of the picture that looks most like this one, if it looks the same.

        Args:
            prompt: As it was kept.
            vector: float32 (d,), of unit length.
            seen: How the vector came about: all that this answer costs.
        """
        kept = [(other, said) for asked, other, said in self._kept if asked == prompt]
        if not kept:
            return None
        cosines = np.stack([other for other, _ in kept]) @ vector
        best = int(cosines.argmax())
        if cosines[best] < self.reuse - ROUNDING:
            return None
        said = kept[best][1]
        reason = f"said before of a picture with cosine {cosines[best]:.3f}; reused from {self.reuse:g} on"
        rung = Rung(target=TARGET, precision=said.decision.precision, confidence=said.confidence, reason=reason)
        return replace(said, decision=replace(said.decision, measured=seen.measured, rungs=(rung,)))
