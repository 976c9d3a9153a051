"""Every error the delegate raises, and the one warning it gives; each message is one line that ends with the remedy.

DelegateError
├── InputMismatchError      an array, a name or an argument that does not fit the graph (also a ValueError)
│   └── QuantizationError   a model, a setting or calibration data that cannot be quantized as asked
├── PolicyError             a policy that this version does not follow (also a ValueError)
├── UnreadableGraphError    a model file that is missing, cut off or not an ONNX graph
├── UnreadableGoldenError   a golden set that is missing, damaged or contradicts itself
├── UnplaceableError        no target here can run the graph
├── ProofFailedError        the graph runs, but its answers are not the golden ones
├── TargetLostError         the target failed in mid-run, or the session is closed
└── RemoteError             a machine elsewhere gave no answer, or none that can be used

NearsightDelegateWarning    a choice was refused and another one runs instead (a UserWarning)
"""

from __future__ import annotations


class DelegateError(Exception):
    """Root of everything that the delegate raises on purpose."""


class InputMismatchError(DelegateError, ValueError):
    """An array, a name or an argument does not fit what the graph takes or gives."""


class QuantizationError(InputMismatchError):
    """A model, a setting or calibration data cannot be quantized as asked."""


class PolicyError(DelegateError, ValueError):
    """A policy asks for something that this version does not follow."""


class UnreadableGraphError(DelegateError):
    """A model file is missing, cut off, changed, or not an ONNX graph."""


class UnreadableGoldenError(DelegateError):
    """A golden set is missing, damaged, or contradicts itself."""


class UnplaceableError(DelegateError):
    """No target on this machine can run the graph."""


class ProofFailedError(DelegateError):
    """The graph runs, but its answers are not the golden ones."""


class TargetLostError(DelegateError):
    """The target failed while it was running, or the session is closed."""


class RemoteError(DelegateError):
    """A machine elsewhere gave no answer, or none that can be used.

    Attributes:
        sent: what had left, or may have left, this machine when it failed; empty means nothing.
        retry_ms: milliseconds after which a second try may help; None where it would not.
    """

    def __init__(self, message: str, *, sent: tuple[str, ...] = (), retry_ms: float | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.retry_ms = retry_ms


class NearsightDelegateWarning(UserWarning):
    """A precision or a target was refused, and another one runs instead."""


def one_line(text: object, limit: int = 240) -> str:
    """Fold a library's message into one line of at most `limit` characters.

    Args:
        text: anything whose `str` is a message, such as an exception.
        limit: the most characters to keep.

    Returns:
        The message with every run of white space made one blank, cut with "..." where it was longer.
    """
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."
