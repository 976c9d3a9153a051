"""Detection: things in a picture by their names in English and Chinese."""

from __future__ import annotations

from nearsight.detect.boxes import Detections, to_supervision
from nearsight.detect.detector import Detector

__all__ = ["Detections", "Detector", "to_supervision"]
