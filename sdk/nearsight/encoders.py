"""Turns pictures and texts into vectors of one space, so that a sentence finds a photograph."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nearsight.calibration import Calibration, names_thing
from nearsight.engine import AUTO, Engine
from nearsight.errors import InputError, translated
from nearsight.names import HAN, Names
from nearsight.values import Embeddings, EncoderIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.tokens import Tokens
    from nearsight_npu import Policy

BATCH = 16


class Encoder:
    """A picture tower and a text tower of one space; each is loaded at its first use.

    Args:
        model: Name of a model; `nearsight models list` shows them.
        target: Where to run; `auto` lets the delegate choose.
        precision: `auto`, or one of the precisions that the model's files come in.
        policy: How the delegate may behave.
        threads: Threads of one run.

    Raises:
        UnknownModelError: If no model bears this name.
        MissingFilesError: If one of its files is not there.
        InputError: If the model has no such precision.
    """

    def __init__(
        self,
        model: str = "nano",
        *,
        target: str = AUTO,
        precision: str = AUTO,
        policy: Policy | None = None,
        threads: int | None = None,
    ) -> None:
        self._engine = Engine.shared(
            model, capability="search", target=target, precision=precision, policy=policy, threads=threads
        )
        self._manifest = self._engine.manifest
        self._wished = precision

    @property
    def space(self) -> str:
        """Name of the space; vectors of two spaces cannot be compared."""
        return self._manifest.space

    @property
    def dimensions(self) -> int:
        """Width of a vector."""
        return self._manifest.dimensions

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the picture tower's input, in pixels."""
        return self._manifest.preprocessing.size_wh

    @cached_property
    def identity(self) -> EncoderIdentity:
        """Which files make the vectors; asking does not load them."""
        files = self._manifest.files["image"]
        precision = self._wished if self._wished in files else next(iter(files))
        return EncoderIdentity(
            model=self._manifest.name,
            space=self.space,
            dimensions=self.dimensions,
            precision=precision,
            preprocessing=self._manifest.preprocessing.key,
            model_hash=files[precision].sha256,
        )

    def images(self, pictures: Sequence[Any]) -> Embeddings:
        """Encode pictures.

        Args:
            pictures: n of anything that `read_image` takes: paths, bytes, PIL pictures, arrays.

        Returns:
            float32 vectors (n, d) of unit length.

        Raises:
            InputError: If there is no picture.
            PictureUnreadableError: If one of them cannot be read.
            DelegateError: If the tower cannot be placed, proven or run.
        """
        from nearsight.pictures import read_image

        if isinstance(pictures, (str, bytes)) or not len(pictures):
            raise InputError("images() takes a list of pictures and got none; write images([picture])")
        read = [self.pixels(read_image(picture, size_hint=self.input_size)) for picture in pictures]
        parts = [self.encode_pixels(np.stack(read[at : at + BATCH])) for at in range(0, len(read), BATCH)]
        vectors = np.concatenate([part.vectors for part in parts])
        return Embeddings(vectors=vectors, space=self.space, decision=parts[-1].decision)

    def pixels(self, picture: Image.Image) -> NDArray[np.uint8]:
        """Fit one picture to the tower's input: uint8 (h, w, 3); pure, may run in many threads."""
        from nearsight.preprocess import fit_picture

        return fit_picture(picture, self.input_size, mode=self._manifest.preprocessing.mode)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Embeddings:
        """Encode fitted pictures.

        Args:
            pixels: uint8 (n, h, w, 3), as `pixels` makes them.

        Returns:
            float32 vectors (n, d) of unit length.
        """
        outputs, decision = self._engine.run("image", {"pixels": pixels}, ("embedding",))
        return Embeddings(vectors=outputs["embedding"], space=self.space, decision=decision)

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Encode texts in any of the model's languages.

        Args:
            texts: n texts.

        Returns:
            float32 vectors (n, d) of unit length.

        Raises:
            InputError: If there is no text, or one that is blank.
            DelegateError: If the tower cannot be placed, proven or run.
        """
        if isinstance(texts, str):
            raise InputError("texts() takes a list of texts; write texts([text])")
        parts = []
        for at in range(0, max(1, len(texts)), BATCH):
            ids, mask = self._tokens.ids([self._said(text) for text in texts[at : at + BATCH]])
            outputs, decision = self._engine.run("text", {"ids": ids, "mask": mask}, ("embedding",))
            parts.append(outputs["embedding"])
        return Embeddings(vectors=np.concatenate(parts), space=self.space, decision=decision)

    def reads(self, text: str) -> bool:
        """Whether a text is in a script that the model's vocabulary has; the vector of another one says nothing."""
        return self._tokens.reads(text)

    @property
    def default_min_relevance(self) -> float:
        """The calibrated relevance below which a hit of a text query is not shown unless asked for."""
        return self._calibration.min_relevance

    def relevance(
        self, query: NDArray[np.float32], vectors: NDArray[np.float32], text: str | None, considered: int
    ) -> NDArray[np.float32] | None:
        """Judge the best pictures of one query.

        Args:
            query: float32 (d,), the query's vector.
            vectors: float32 (n, d), the pictures' vectors, best first, from the very best on.
            text: The query; None where a picture takes part, which is not calibrated.
            considered: How many pictures these are the best of: among many, an unrelated one may score high.

        Returns:
            float32 (n,), the chance that each picture is what was asked for, 0 for a text in a script that the model
            does not read; None without a text.
        """
        if text is None:
            return None
        if not self.reads(text):
            return np.zeros(len(vectors), np.float32)
        return self._calibration.relevance(vectors @ query, considered, thing=names_thing(self._said(text)))

    @cached_property
    def _calibration(self) -> Calibration:
        return Calibration.read(self._manifest.relevance)

    def _said(self, text: str) -> str:
        """Give a text as the tower understands it best: a bare noun in English and in the singular, if it is listed."""
        if not isinstance(text, str) or not (HAN.search(text) or names_thing(text)) or self._names is None:
            return text
        named = self._names.english(text) if HAN.search(text) else self._names.singular(text)
        return named or text

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
        assert tokenizer is not None, "every page that serves search has one"
        return Tokens(vocabulary.path, tokenizer)
