"""Every error a caller can meet, and the one place where lower floors' errors are translated.

NearsightError                      exit code 1
├── InputError                      exit code 2: what was handed in cannot be used
│   └── PictureUnreadableError      a file that is no picture, or not one of the formats read
├── CameraError                     a video that is damaged or cut short, after the frames before that place
├── ModelError                      exit code 1, from nearsight_models
│   ├── UnknownModelError           exit code 2
│   ├── MissingFilesError
│   │   └── NotInstalledError       exit code 2
│   └── ChecksumError
├── DelegateError                   from nearsight_npu: a graph that cannot be placed, proven or run
├── RemoteError                     from nearsight_npu: no usable answer from another machine
├── AgentError                      a tool that is none, or one whose own code failed
└── GalleryError
    ├── GalleryNotFoundError        exit code 2
    ├── SpaceMismatchError          exit code 2
    ├── GalleryBusyError
    └── GalleryDamagedError

NearsightWarning                    something was left out, and the rest goes on (a UserWarning)
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class NearsightError(Exception):
    """Root of everything that Nearsight raises on purpose; its text is one line with the remedy."""

    exit_code: ClassVar[int] = 1


class NearsightWarning(UserWarning):
    """Something was left out, and the rest goes on; its text is one line."""


class InputError(NearsightError, ValueError):
    """What was handed in cannot be used; the message says what would be."""

    exit_code: ClassVar[int] = 2


class PictureUnreadableError(InputError):
    """A source that is not a picture, or not one in a format that is read."""


class CameraError(NearsightError):
    """A camera's source cannot be read on; the frames before that place were given."""


class ModelError(NearsightError):
    """A model that is unknown, incomplete or changed."""


class UnknownModelError(ModelError):
    """No manifest bears this name."""

    exit_code: ClassVar[int] = 2


class MissingFilesError(ModelError):
    """A manifest names a file that is not there."""


class NotInstalledError(MissingFilesError):
    """A model of the catalogue that was not fetched or made yet."""

    exit_code: ClassVar[int] = 2


class ChecksumError(ModelError):
    """A file's SHA-256 is not the one its manifest states."""


class DelegateError(NearsightError):
    """The delegate could not place, prove or run a graph."""


class RemoteError(NearsightError):
    """Another machine gave no answer, or none that can be used."""


class AgentError(NearsightError):
    """A tool that an agent cannot use, or one whose own code failed."""


class GalleryError(NearsightError):
    """A gallery that cannot be read or written."""


class GalleryNotFoundError(GalleryError):
    """There is no gallery at this path."""

    exit_code: ClassVar[int] = 2


class SpaceMismatchError(GalleryError):
    """The gallery's vectors belong to another space than the encoder's."""

    exit_code: ClassVar[int] = 2


class GalleryBusyError(GalleryError):
    """Another process is writing this gallery."""


class GalleryDamagedError(GalleryError):
    """The gallery's file is not readable as one."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of the floor below into the public class of the same meaning, once.

    Raises:
        ModelError: or its subclass of the same name, for errors of `nearsight_models`.
        RemoteError: for what `nearsight_npu.remote` raises.
        DelegateError: for the other errors of `nearsight_npu`.
    """
    # Imported here, so that `import nearsight` stays light.
    import nearsight_models.errors as models_errors
    import nearsight_npu.errors as npu_errors

    try:
        yield
    except models_errors.ModelError as error:
        raise _TWINS.get(type(error).__name__, ModelError)(str(error)) from error
    except (npu_errors.InputMismatchError, npu_errors.PolicyError) as error:
        raise InputError(str(error)) from error
    except npu_errors.RemoteError as error:
        raise RemoteError(str(error)) from error
    except npu_errors.DelegateError as error:
        raise DelegateError(str(error)) from error


_TWINS: dict[str, type[ModelError]] = {
    "UnknownModelError": UnknownModelError,
    "MissingFilesError": MissingFilesError,
    "NotInstalledError": NotInstalledError,
    "ChecksumError": ChecksumError,
}
