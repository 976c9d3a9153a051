"""Finds the leaf that reads a model's architecture; only that leaf is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nearsight.errors import ModelError

if TYPE_CHECKING:
    from nearsight_models import Manifest

# Architecture, as a page states it -> module of this package; each has a function `family(manifest)`.
LEAVES = {
    "nano": "nano",
    "clip": "clip",
    "siglip": "siglip",
    "chinese-clip": "chinese_clip",
    "mobileclip": "mobileclip",
    "owlv2": "owlv2",
    "grounding-dino": "grounding_dino",
    "rt-detr": "rt_detr",
    "yolox": "yolox",
    "blip": "blip",
    "florence-2": "florence2",
    "smolvlm": "smolvlm",
    "qwen2": "language",
    "qwen3": "language",
    "llama": "language",
}


def leaf(manifest: Manifest) -> Any:
    """Make the leaf for a model: what it follows is the protocol of the model's capability (`family.py`).

    Args:
        manifest: Whose architecture is looked up; its files are read when the leaf first needs them.

    Raises:
        ModelError: If no leaf reads the architecture, or one of the model's own files cannot be followed.
    """
    name = LEAVES.get(manifest.architecture)
    if name is None:
        raise ModelError(
            f"model {manifest.name!r} is of the architecture {manifest.architecture!r}; this version reads "
            f"{', '.join(LEAVES)}; upgrade Nearsight: pip install --upgrade nearsight"
        )
    return import_module(f"nearsight.families.{name}").family(manifest)
