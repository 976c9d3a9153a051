"""Which class a word that no lexicon has lies near to, in the text space of the family's encoder."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nearsight.detect.lexicon import kinds, words_of
from nearsight.errors import ModelError, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nearsight.detect.words import Words
    from nearsight.encoders import Encoder
    from nearsight_models import Manifest

WORDS = "words"


class Nearness:
    """Compares words with classes, each class standing where the mean of its names lies.

    Args:
        manifest: A page of an embedded detector; its settings `near` and `near_kind` are what a word has to reach, by
            `sureness`, and its file of words says where its classes lie.
        words: The encoder of its family; it is loaded when the first word comes.
        classes: Names of the classes, if they are others than the page's.
    """

    def __init__(self, manifest: Manifest, words: Words, classes: Sequence[str] | None = None) -> None:
        self._manifest, self._words = manifest, words
        self._names = list(manifest.settings["classes"] if classes is None else classes)

    @property
    def least(self) -> float:
        """The sureness below which a word is not judged."""
        return float(self._manifest.settings["routes"]["near"])

    @property
    def least_kind(self) -> float:
        """The same for a word that ends in a name of the class it is near to, as a kind of it would."""
        return float(self._manifest.settings["routes"]["near_kind"])

    def nearest(self, words: Sequence[str]) -> list[int | None]:
        """Give for each word the number of the class it is near to, or None where that is not sure enough.

        A word that holds a class's name is compared as `nearsight.detect.lexicon.kinds` allows.

        Raises:
            ModelError: If the classes' vectors are missing, changed, or of another space than the encoder's.
            DelegateError: If the text tower cannot be placed, proven or run.
        """
        allowed = {word: kinds(word) for word in words}
        asked = [word for word, classes in allowed.items() if classes is None or classes]
        if not asked:
            return [None] * len(words)
        cosines = self.cosines(asked)
        found = {}
        for word, row, sure in zip(asked, cosines, sureness(cosines), strict=True):
            classes, number = allowed[word], int(row.argmax())
            near = sure >= self.least if classes is None else self._names[number] in classes and sure >= self.least_kind
            found[word] = number if near else None
        return [found.get(word) for word in words]

    def cosines(self, words: Sequence[str]) -> NDArray[np.float32]:
        """Compare n words with each class: float32 (n, classes)."""
        cosines: NDArray[np.float32] = self._words.vectors(words) @ self.classes.T
        return cosines

    @cached_property
    def classes(self) -> NDArray[np.float32]:
        """Where each class's names lie: float32 (classes, d), of unit length."""
        listed: list[str] = self._manifest.settings["classes"]
        rows = dict(zip(listed, self._listed, strict=True))
        others = [name for name in self._names if name not in rows]
        if others:
            rows |= dict(zip(others, self._words.vectors(others), strict=True))
        return np.stack([rows[name] for name in self._names])

    @property
    def _listed(self) -> NDArray[np.float32]:
        """Where the classes of the page lie."""
        file = self._manifest.files[WORDS]["npz"]
        with translated():
            file.check()
        with np.load(file.path, allow_pickle=False) as archive:
            space = str(archive["space"])
            vectors: NDArray[np.float32] = archive["vectors"].astype(np.float32)
        there = self._words.encoder.space
        if space != there:
            raise ModelError(
                f"the class words of {self._manifest.name} were made in the space {space!r}, the encoder's is "
                f"{there!r}; make them again: make train"
            )
        return vectors


def sureness(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Say how surely each word means its nearest class: the cosine to it, and twice its lead over the second.

    Args:
        cosines: (n, classes), at least two classes.

    Returns:
        float32 (n,).
    """
    ranked = np.sort(cosines, axis=1)
    sure: NDArray[np.float32] = 3 * ranked[:, -1] - 2 * ranked[:, -2]
    return sure


def class_vectors(encoder: Encoder, classes: Sequence[str]) -> NDArray[np.float32]:
    """Give the unit mean of the vectors of each class's names: float32 (classes, d)."""
    means = np.stack([encoder.texts(words_of(name)).vectors.mean(axis=0) for name in classes])
    unit: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit
