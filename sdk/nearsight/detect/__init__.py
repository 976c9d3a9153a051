"""Detection: things in a picture by their names in English and Chinese, or by the picture of one."""

from __future__ import annotations

from nearsight.detect.boxes import Detections
from nearsight.detect.detector import Detector
from nearsight.detect.exports import to_coco, to_supervision

__all__ = ["Detections", "Detector", "to_coco", "to_supervision"]
