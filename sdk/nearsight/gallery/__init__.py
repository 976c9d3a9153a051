"""Pictures that can be searched by words: SQLite holds the truth, FAISS answers."""

from __future__ import annotations

from nearsight.gallery.gallery import Gallery

__all__ = ["Gallery"]
