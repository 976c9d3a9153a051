"""The models that the tabs can use: those of this machine, each loaded when it is first asked for."""

from __future__ import annotations

from functools import cache

import nearsight as ns
import nearsight_models

NANO = "nano"


class Models:
    """Encoders, detectors and captioners by the name of their model.

    Attributes:
        broken: what is wrong with each installed model that cannot be used, by its name; as `names` found it.
    """

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self.encoder = cache(ns.Encoder)
        self.detector = cache(ns.Detector)
        self.captioner = cache(ns.Captioner)

    def names(self, capability: str) -> list[str]:
        """List what serves a capability, the wheel's own first."""
        found = []
        self.broken = {}
        for page in nearsight_models.names():
            try:
                manifest = nearsight_models.load(page)
            except nearsight_models.ModelError as error:
                self.broken[page] = str(error)
                continue
            if manifest.capability == capability:
                # The wheel's pages are called by their family, as everywhere.
                found.append(manifest.name if manifest.source else manifest.family)
        return found
