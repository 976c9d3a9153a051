"""Captioning: one sentence about a picture, in English or Chinese."""

from __future__ import annotations

from nearsight.caption.captioner import Caption, Captioner
from nearsight.caption.memory import Memory

__all__ = ["Caption", "Captioner", "Memory"]
