"""Judges whether the things that a caption names are in the picture: by the detector's classes and the encoder."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nearsight.caption.nouns import class_of, nouns
from nearsight.errors import ModelError, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.engine import Engine
    from nearsight.sight import Sight
    from nearsight_models import Manifest
    from nearsight_npu import Decision

DETECT = "detect"
NOUNS = "nouns"
LEAST = 0.5  # a thing is seen if it is likelier there than not
_CLIP = 1e-3  # scores nearer to 0 or 1 than this tell no more


class Grounding:
    """Looks for things in a picture, whether or not a caption names them rightly.

    The encoder's vector of the picture goes through one linear probe for each thing, fitted to what people named in
    photographs that it was trained on. Where a class of the detector shows the thing, that class's best score counts as
    well. A logistic function makes a chance of it, fitted on photographs that the encoder was not trained on.

    Args:
        manifest: The captioner's page; its file `nouns` holds the probes, its settings `grounding` the function.
        tower: The search engine whose vectors the probes are for.
        detector: An engine that serves detection.
    """

    def __init__(self, manifest: Manifest, tower: Engine, detector: Engine) -> None:
        self._manifest, self._tower, self._detector = manifest, tower, detector
        self._classes: list[str] = detector.manifest.settings["classes"]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages whose nouns it knows."""
        return self._manifest.languages

    def verdicts(
        self, sight: Sight, text: str, language: str, decisions: list[Decision]
    ) -> tuple[tuple[str, bool], ...]:
        """Check each concrete noun of a text: (noun, whether it was seen). In a blank picture none is.

        Args:
            sight: The picture.
            text: A sentence in lower case.
            language: "en" or "zh".
            decisions: Takes up the delegate's account of the runs.

        Raises:
            ModelError: If the probes are missing, changed, or for another tower.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        named = nouns(text, language)
        if sight.is_blank:
            return tuple((noun, False) for noun, _ in named)
        chances = self.chances(self.evidence(sight, [thing for _, thing in named], decisions))
        return tuple((noun, bool(chance >= LEAST)) for (noun, _), chance in zip(named, chances, strict=True))

    def chances(self, evidence: NDArray[np.float64]) -> NDArray[np.float64]:
        """Estimate the chance that each thing is in the picture: (n,) of the n rows that `evidence` gave.

        That is the chance that one of ten people who describe the picture names it, or that it is boxed there.
        """
        settings = self._manifest.settings["grounding"]
        probe, score = evidence.T
        a, b, c = settings["class"]
        d, e = settings["other"]
        logits = np.where(np.isnan(score), d * probe + e, a * probe + b * np.nan_to_num(score) + c)
        chances: NDArray[np.float64] = 1 / (1 + np.exp(-logits))
        return chances

    def evidence(self, sight: Sight, things: Sequence[str], decisions: list[Decision]) -> NDArray[np.float64]:
        """Look for n things.

        Args:
            sight: The picture.
            things: Names of things, as `nearsight.caption.nouns` has them.
            decisions: Takes up the delegate's account of the runs.

        Returns:
            (n, 2): the probe's value; log odds of the best score of the class that shows the thing, NaN without one.

        Raises:
            ModelError: If the probes are missing, changed, or for another tower.
            DelegateError: If a graph cannot be placed, proven or run.
        """
        names, weights, offsets = self._probes
        at = [names.index(thing) for thing in things]
        tower, _ = sight.seen(self._tower, "image")
        values = tower["embedding"][0] @ weights[at].T + offsets[at]
        classes = [class_of(thing) for thing in things]
        odds = np.full(len(things), np.nan)
        if any(name in self._classes for name in classes):
            found, decision = sight.seen(self._detector, DETECT)
            decisions.append(decision)
            best = np.clip(found["scores"][0].max(axis=0).astype(np.float64), _CLIP, 1 - _CLIP)
            for place, name in enumerate(classes):
                if name in self._classes:
                    score = best[self._classes.index(name)]
                    odds[place] = np.log(score / (1 - score))
        return np.stack([values.astype(np.float64), odds], axis=1)

    @cached_property
    def _probes(self) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
        """Names of t things, weights (t, d) and offsets (t,)."""
        file = self._manifest.files[NOUNS]["npz"]
        with translated():
            file.check()
        with np.load(file.path, allow_pickle=False) as archive:
            space, names = str(archive["space"]), archive["things"].tolist()
            weights, offsets = archive["weights"].astype(np.float32), archive["offsets"]
        if space != self._tower.manifest.space:
            raise ModelError(
                f"the nouns of {self._manifest.name} are for the space {space!r}, the tower's is "
                f"{self._tower.manifest.space!r}; fit them again: make train"
            )
        return names, weights, offsets
