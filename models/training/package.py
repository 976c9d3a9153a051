"""Writes the manifest page of `nano`: hashes, sizes, statement of data, calibration."""

from __future__ import annotations

import json
from pathlib import Path

from training import model, textgraph
from training.files import row

TRAINED_ON = (
    "EfficientNet-Lite0 (Apache-2.0), itself trained on ImageNet (research use)",
    "multilingual-e5-small in 4 bit (MIT)",
    "Flickr8k photographs and captions, Flickr8k-CN captions and machine translations (research use)",
    "250 ImageNet sample photographs (research use)",
    "crops of COCO photographs with their class names (annotations CC BY 4.0; photographs under Flickr terms)",
    "CC-CEDICT noun pairs (CC BY-SA 4.0)",
    "WordNet 3.0 names of ImageNet's classes (WordNet licence)",
    "CLIP ViT-B/32 text vectors of LVIS and Objects365 names (Apache-2.0)",
)


def write(root: Path, parameters: int, relevance: dict[str, object], space: str) -> None:
    """Write manifests/nano.toml under `root`, the folder of nearsight_models.

    The space is named after the FP32 graphs: weights that are trained again make another space, since their vectors
    cannot be compared with the old ones.
    """
    at = root / "embedded" / "nano"
    lines = [
        "# Written by `make train` (models/training/package.py).",
        'name = "nano"',
        'capability = "search"',
        'summary = "small bilingual encoders that are in the wheel"',
        f'space = "{space}"',
        f"dimensions = {model.LEARNED + model.NAMED}",
        'languages = ["en", "zh"]',
        'licence = "LicenseRef-nearsight-nano-weights"',
        "research_only = true",
        f"parameters = {parameters}",
        "trained_on = [",
        *(f"  {json.dumps(line)}," for line in TRAINED_ON),
        "]",
        "",
        "[preprocessing]",
        "size_wh = [224, 224]",
        'mode = "stretch"',
        'resample = "bicubic"',
        "",
        "[tokenizer]",
        'kind = "sentencepiece"',
        'prefix = "query: "',
        f"longest = {textgraph.POSITIONS}",
        "bos = 0",
        "eos = 2",
        "pad = 1",
        "",
        "[files.image]",
        f"int8 = {row(root, at / 'image.int8.onnx')}",
        f"fp16 = {row(root, at / 'image.fp16.onnx')}",
        "",
        "[files.text]",
        f"w4 = {row(root, at / 'text.w4.onnx')}",
        "",
        "[files.vocabulary]",
        f"spm = {row(root, at / 'vocabulary.spm')}",
        "",
        "# Written by hand; not trained.",
        "[files.names]",
        f"tsv = {row(root, at / 'names.zh.tsv')}",
        "",
        "[golden]",
        f"image = {row(root, at / 'image.golden.npz')}",
        f"text = {row(root, at / 'text.golden.npz')}",
        "",
        "[relevance]",
        *(f"{key} = {json.dumps(value)}" for key, value in relevance.items()),
        "",
    ]
    (root / "manifests" / "nano.toml").write_text("\n".join(lines), encoding="utf8")
