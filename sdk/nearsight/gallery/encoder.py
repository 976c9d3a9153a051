"""What a gallery needs of an encoder, so that any object with these members will do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from nearsight.values import Embeddings, EncoderIdentity


class GalleryEncoder(Protocol):
    """Pictures and texts in, unit vectors of one space out; `nearsight.Encoder` is one."""

    @property
    def identity(self) -> EncoderIdentity:
        """Name of model and space, known without loading the model."""

    @property
    def size_hint(self) -> tuple[int, int] | None:
        """Width and height from which on a JPEG may be decoded smaller for `pixels`; None decodes all of it."""

    @property
    def default_min_relevance(self) -> float:
        """Relevance below which a hit is left out unless the caller says otherwise."""

    def pixels(self, picture: Image.Image, /) -> NDArray[np.uint8]:
        """Prepare one picture, uint8 (h, w, 3); called from several threads at once."""

    def encode_pixels(self, pixels: NDArray[np.uint8], /) -> Embeddings:
        """Encode uint8 (n, h, w, 3)."""

    def images(self, sources: Sequence[Any], /) -> Embeddings:
        """Encode anything that `read_image` takes."""

    def texts(self, texts: Sequence[str], /) -> Embeddings:
        """Encode texts."""

    def relevance(
        self, query: NDArray[np.float32], vectors: NDArray[np.float32], text: str | None, considered: int, /
    ) -> NDArray[np.float32] | None:
        """Judge the best vectors (n, d), best first, of those considered; None where it cannot for such a query."""


def resolved(encoder: str | GalleryEncoder) -> GalleryEncoder:
    """Give the encoder itself for its name.

    Raises:
        UnknownModelError: when no model has this name.
    """
    if not isinstance(encoder, str):
        return encoder
    # Imported here, so that a gallery with an encoder of its own loads no runtime.
    from nearsight.encoders import Encoder

    return Encoder(model=encoder)
