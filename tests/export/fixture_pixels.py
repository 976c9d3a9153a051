"""Writes tests/sdk/processors.npz anew: what the models' own processors make of a few small pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 24
PICTURES = {"RGB": (37, 61), "L": (50, 24), "RGBA": (25, 33)}
PAGES: dict[str, dict[str, Any]] = {
    "clip": {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}},
    "siglip": {"size": {"height": SIDE, "width": SIDE}, "resample": 2},
    "chinese-clip": {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False},
}
OPEN_CLIP = {"size": SIDE, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear"}


def drawn(mode: str) -> Image.Image:
    """Draw a picture that is the same wherever it is drawn."""
    width, height = PICTURES[mode]
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    rows, columns, channel = np.mgrid[0:height, 0:width, 0:channels]
    values = (rows * 7 + columns * columns * 3 + channel * 61 + (rows * columns) % 29 * 5) % 256
    return Image.fromarray(values.astype(np.uint8).squeeze())


def main(place: Path) -> None:
    """Ask transformers and open_clip, and write pages and pixels."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    kinds = {
        "clip": CLIPImageProcessorPil,
        "siglip": SiglipImageProcessorPil,
        "chinese-clip": ChineseCLIPImageProcessorPil,
    }
    arrays = {}
    for name, kind in kinds.items():
        processor = kind(**PAGES[name])
        arrays[f"page/{name}"] = np.array(json.dumps(processor.to_dict(), default=str))
        for mode in PICTURES:
            arrays[f"{name}/{mode}"] = np.asarray(processor(drawn(mode), return_tensors="np")["pixel_values"][0])
    arrays["page/open_clip"] = np.array(json.dumps({"preprocess_cfg": OPEN_CLIP}))
    transform = image_transform_v2(PreprocessCfg(**OPEN_CLIP), is_train=False)
    for mode in ("RGB", "L"):
        arrays[f"open_clip/{mode}"] = transform(drawn(mode)).numpy()
    np.savez_compressed(place, **arrays)


if __name__ == "__main__":
    from conftest import _OPERATORS  # noqa: F401  (torchvision can be imported from here on)

    main(Path(sys.argv[1]))
