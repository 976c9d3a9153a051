"""Nearsight: find photographs by a sentence in English or Chinese, on this machine, without a network.

    import nearsight as ns

    with ns.Gallery.open("photos.nsg") as gallery:
        gallery.add("~/Pictures")
        for hit in gallery.search("a dog on the beach"):
            print(hit.relevance, hit.path)

Everything here is loaded at its first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nearsight.__about__ import __version__

if TYPE_CHECKING:
    from nearsight.agent import Agent as Agent
    from nearsight.agent import Answer as Answer
    from nearsight.agent import Step as Step
    from nearsight.camera import Camera as Camera
    from nearsight.camera import Frame as Frame
    from nearsight.caption import Caption as Caption
    from nearsight.caption import Captioner as Captioner
    from nearsight.cooperate import policy as policy
    from nearsight.detect import Detections as Detections
    from nearsight.detect import Detector as Detector
    from nearsight.detect import to_coco as to_coco
    from nearsight.detect import to_supervision as to_supervision
    from nearsight.detect.draw import draw as draw
    from nearsight.encoders import Encoder as Encoder
    from nearsight.errors import AgentError as AgentError
    from nearsight.errors import CameraError as CameraError
    from nearsight.errors import ChecksumError as ChecksumError
    from nearsight.errors import DelegateError as DelegateError
    from nearsight.errors import GalleryBusyError as GalleryBusyError
    from nearsight.errors import GalleryDamagedError as GalleryDamagedError
    from nearsight.errors import GalleryError as GalleryError
    from nearsight.errors import GalleryNotFoundError as GalleryNotFoundError
    from nearsight.errors import InputError as InputError
    from nearsight.errors import MissingFilesError as MissingFilesError
    from nearsight.errors import ModelError as ModelError
    from nearsight.errors import NearsightError as NearsightError
    from nearsight.errors import NearsightWarning as NearsightWarning
    from nearsight.errors import PictureUnreadableError as PictureUnreadableError
    from nearsight.errors import RemoteError as RemoteError
    from nearsight.errors import SpaceMismatchError as SpaceMismatchError
    from nearsight.errors import UnknownModelError as UnknownModelError
    from nearsight.gallery import Gallery as Gallery
    from nearsight.looking import Look as Look
    from nearsight.looking import look as look
    from nearsight.pictures import read_image as read_image
    from nearsight.sheet import Figure as Figure
    from nearsight.sheet import contact_sheet as contact_sheet
    from nearsight.values import AddReport as AddReport
    from nearsight.values import Embeddings as Embeddings
    from nearsight.values import Failure as Failure
    from nearsight.values import Hit as Hit
    from nearsight.values import Hits as Hits
    from nearsight.values import Progress as Progress
    from nearsight.wording import relevance_words as relevance_words
    from nearsight_npu import Decision as Decision
    from nearsight_npu import Policy as Policy

_HOMES = {
    "nearsight.agent": ("Agent", "Answer", "Step"),
    "nearsight.camera": ("Camera", "Frame"),
    "nearsight.caption": ("Caption", "Captioner"),
    "nearsight.cooperate": ("policy",),
    "nearsight.detect": ("Detections", "Detector", "to_coco", "to_supervision"),
    "nearsight.detect.draw": ("draw",),
    "nearsight.encoders": ("Encoder",),
    "nearsight.errors": (
        "AgentError",
        "CameraError",
        "ChecksumError",
        "DelegateError",
        "GalleryBusyError",
        "GalleryDamagedError",
        "GalleryError",
        "GalleryNotFoundError",
        "InputError",
        "MissingFilesError",
        "ModelError",
        "NearsightError",
        "NearsightWarning",
        "PictureUnreadableError",
        "RemoteError",
        "SpaceMismatchError",
        "UnknownModelError",
    ),
    "nearsight.gallery": ("Gallery",),
    "nearsight.looking": ("Look", "look"),
    "nearsight.pictures": ("read_image",),
    "nearsight.sheet": ("Figure", "contact_sheet"),
    "nearsight.values": ("AddReport", "Embeddings", "Failure", "Hit", "Hits", "Progress"),
    "nearsight.wording": ("relevance_words",),
    "nearsight_npu": ("Decision", "Policy"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604  (every element is a str)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'nearsight' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
