"""Vectors of texts in the space of the family's encoder, each made once in a process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

import nearsight_models
from nearsight.engine import Engine
from nearsight.errors import translated
from nearsight.names import HAN, Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.encoders import Encoder
    from nearsight_npu import Decision

MOST = 20_000  # vectors that are kept, 2 kB each
BATCH = 16  # texts of one run; more at once take longer for each


class Words:
    """The encoder of a family, loaded when the first text or crop comes.

    Args:
        family: Name of the family.
        wishes: Target, policy and threads, as `Encoder` takes them.
    """

    def __init__(self, family: str, **wishes: Any) -> None:
        self._family, self._wishes = family, wishes

    @cached_property
    def encoder(self) -> Encoder:
        """The family's encoder."""
        from nearsight.encoders import Encoder

        return Encoder(self._family, **self._wishes)

    @cached_property
    def tower(self) -> Engine:
        """The engine of that encoder, for pictures that are looked at through a `Sight`."""
        return Engine.shared(self._family, capability="search", **self._wishes)

    def english(self, text: str) -> str | None:
        """Say a bare Chinese noun in English, as search does; None for any other text."""
        return self._names.english(text) if HAN.search(text) and self._names else None

    @cached_property
    def _names(self) -> Names | None:
        with translated():
            listed = nearsight_models.load(self._family, "search").files.get("names")
            if listed is None:
                return None
            listed["tsv"].check()
        return Names(listed["tsv"].path)

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode n texts, or remember their vectors: float32 (n, d) of unit length."""
        return self.encoded(texts)[0]

    def encoded(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[Decision]]:
        """Encode n texts, or remember their vectors.

        Returns:
            float32 (n, d) of unit length; and the delegate's accounts of the runs that it took, none for known texts.
        """
        model = self.encoder.identity
        # Taken at once: another thread may clear what is known meanwhile.
        rows = {text: row for text in texts if (row := _known.get((model, text))) is not None}
        # Texts of about one length go together, so that little is padded.
        new = sorted((text for text in dict.fromkeys(texts) if text not in rows), key=len)
        parts = [self.encoder.texts(new[at : at + BATCH]) for at in range(0, len(new), BATCH)]
        made = dict(zip(new, (row for part in parts for row in part.vectors), strict=True))
        rows |= made
        if len(_known) + len(made) > MOST:
            _known.clear()
        _known.update(((model, text), vector) for text, vector in list(made.items())[-MOST:])
        return np.stack([rows[text] for text in texts]), [part.decision for part in parts if part.decision is not None]


_known: dict[tuple[object, str], NDArray[np.float32]] = {}
