"""Turns texts into token ids: pure, and the same on every machine."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from nearsight.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from nearsight_models import Tokenizer as TokenizerPage


class Tokens:
    """A sentencepiece vocabulary with the model's own prefix and specials.

    Args:
        vocabulary: A sentencepiece model file.
        page: The manifest's words on prefix, specials and longest text.
    """

    def __init__(self, vocabulary: Path, page: TokenizerPage) -> None:
        import sentencepiece

        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(vocabulary))
        self._page = page

    def ids(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Encode texts, cut to the model's longest and padded to the longest of them.

        Args:
            texts: n texts.

        Returns:
            ids: int64 (n, t).
            mask: int64 (n, t), 1 where there is a token, 0 where there is padding.

        Raises:
            InputError: If there is no text, or one that is blank.
        """
        if not texts:
            raise InputError("no text was given; give at least one")
        page = self._page
        rows = []
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"a query is a text, not {type(text).__name__}; give a str")
            words = cleaned(text)
            if not words:
                raise InputError(f"the text {text!r} is blank; write what the picture should show")
            pieces = self._pieces.encode(page.prefix + words)[: page.longest - 2]
            rows.append([page.bos, *pieces, page.eos])
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), page.pad, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        return ids, mask

    def reads(self, text: str) -> bool:
        """Whether the vocabulary has pieces for half of a text or more; other scripts leave it nothing to go by."""
        blank = self._pieces.piece_to_id("▁")  # the mark of a beginning, which stands before any script
        pieces = [piece for piece in self._pieces.encode(cleaned(text)) if piece != blank]
        return bool(pieces) and bool(2 * pieces.count(self._pieces.unk_id()) <= len(pieces))


def cleaned(text: str) -> str:
    """Drop control characters and lone surrogates, and squeeze white space.

    Args:
        text: As a person or a program wrote it.
    """
    kept = (" " if unicodedata.category(c) == "Cc" else c for c in text if unicodedata.category(c) != "Cs")
    return " ".join("".join(kept).split())
