"""The embedded encoders: pixels and token ids as they are, relevance calibrated on the training side."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from nearsight.calibration import Calibration, names_thing
from nearsight.errors import translated
from nearsight.names import HAN, Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.families.family import Arrays
    from nearsight.tokens import Tokens
    from nearsight_models import Manifest, Preprocessing


def family(manifest: Manifest) -> Nano:
    """Give the leaf of an embedded model."""
    return Nano(manifest)


class Nano:
    """An `EncoderFamily` whose graphs normalise pixels and vectors themselves.

    Args:
        manifest: A page that serves search.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the picture tower's input, in pixels."""
        return self._fit.size_wh

    @property
    def size_hint(self) -> tuple[int, int]:
        """The input's size: its vectors hardly tell a JPEG that was decoded smaller (cosine .995)."""
        return self.input_size

    @property
    def preprocessing(self) -> str:
        """Size, mode and filter."""
        return self._fit.key

    def outputs(self, role: str) -> tuple[str, ...]:  # noqa: ARG002  (both towers name it alike)
        """The one output that is a vector."""
        return ("embedding",)

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Fit one picture: uint8 (h, w, 3)."""
        from nearsight.preprocess import fit_picture

        return fit_picture(picture, self.input_size, mode=self._fit.mode)

    def image_arrays(self, pixels: NDArray[np.uint8]) -> Arrays:
        """The graph takes pixels as they are."""
        return {"pixels": pixels}

    def text_arrays(self, texts: Sequence[str]) -> Arrays:
        """Give ids and mask."""
        ids, mask = self._tokens.ids([self._said(text) for text in texts])
        return {"ids": ids, "mask": mask}

    def vectors(self, role: str, outputs: Arrays) -> NDArray[np.float32]:  # noqa: ARG002
        """The graph gives unit vectors."""
        return outputs["embedding"]

    def reads(self, text: str) -> bool:
        """Whether the vocabulary has pieces for half of the text."""
        return self._tokens.reads(text)

    @property
    def default_min_relevance(self) -> float:
        """The calibrated threshold."""
        return self._calibration.min_relevance

    def relevance(self, scores: NDArray[np.float32], text: str, considered: int) -> NDArray[np.float32]:
        """Give the calibrated chance of each picture."""
        return self._calibration.relevance(scores, considered, thing=names_thing(self._said(text)))

    def _said(self, text: str) -> str:
        """Give a text as the tower understands it best: a bare noun in English and in the singular, if it is listed."""
        if not isinstance(text, str) or not (HAN.search(text) or names_thing(text)) or self._names is None:
            return text
        named = self._names.english(text) if HAN.search(text) else self._names.singular(text)
        return named or text

    @property
    def _fit(self) -> Preprocessing:
        assert self._manifest.preprocessing is not None, "every embedded page says how a picture is fitted"
        return self._manifest.preprocessing

    @cached_property
    def _calibration(self) -> Calibration:
        return Calibration.read(self._manifest.relevance)

    @cached_property
    def _names(self) -> Names | None:
        listed = self._manifest.files.get("names")
        if listed is None:
            return None
        with translated():
            listed["tsv"].check()
        return Names(listed["tsv"].path)

    @cached_property
    def _tokens(self) -> Tokens:
        from nearsight.tokens import Tokens

        vocabulary = self._manifest.files["vocabulary"]["spm"]
        with translated():
            # A graph is proven when it is loaded; a vocabulary is only right if it is the very file.
            vocabulary.check()
        tokenizer = self._manifest.tokenizer
        assert tokenizer is not None, "every embedded page that serves search has one"
        return Tokens(vocabulary.path, tokenizer)
