"""The same models with graphs in FP32, from the files that training leaves beside its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import nearsight as ns
from nearsight.engine import Engine
from nearsight_npu import Delegate

if TYPE_CHECKING:
    from nearsight_npu import Session


class FullEncoder(ns.Encoder):
    """nano with its picture tower in FP32."""

    def __init__(self, graph: Path) -> None:
        super().__init__("nano")
        self.graph = graph
        self._session = Delegate().load({"fp32": graph})

    def encode_pixels(self, pixels: np.ndarray) -> ns.Embeddings:
        outputs, decision = self._session.run({"pixels": pixels}, ("embedding",))
        return ns.Embeddings(vectors=outputs["embedding"], space=self.space, decision=decision)


class FullEngine(Engine):
    """An engine some of whose graphs come from elsewhere, unproven."""

    def __init__(self, capability: str, graphs: Mapping[str, Path]) -> None:
        super().__init__("nano", capability=capability)
        self._full = {role: Delegate().load({"fp32": graph}) for role, graph in graphs.items()}

    def session(self, role: str) -> Session:
        return self._full.get(role) or super().session(role)


def detector(graph: Path) -> ns.Detector:
    """Give nano's detector in FP32."""
    made = ns.Detector("nano")
    assert "_engine" in vars(made), "its graph is held elsewhere now"
    made._engine = FullEngine("detect", {"detect": graph})  # noqa: SLF001
    return made


def captioner(folder: Path, tower: Path) -> ns.Captioner:
    """Give nano's captioner in FP32: those of its graphs that training left in a folder, and the tower under it."""
    made = ns.Captioner("nano")
    speaker: Any = made._speaker  # noqa: SLF001
    assert {"_engine", "tower"} <= vars(speaker).keys(), "its graphs are held elsewhere now"
    there = {role: folder / f"caption.{role}.fp32.onnx" for role in speaker._engine.manifest.golden}  # noqa: SLF001
    speaker._engine = FullEngine("caption", {role: graph for role, graph in there.items() if graph.is_file()})  # noqa: SLF001
    speaker.tower = FullEngine("search", {"image": tower})
    return made
