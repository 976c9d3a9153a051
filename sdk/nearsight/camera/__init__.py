"""Frames with their time, out of a video file or a folder of pictures."""

from __future__ import annotations

from nearsight.camera.source import Camera, Frame

__all__ = ["Camera", "Frame"]
