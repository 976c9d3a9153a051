"""How far an answer may go (`Policy`), and how it came about (`Decision`)."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass

from nearsight_npu.errors import PolicyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the delegate may do to get an answer.

    This version reads `strict` only. The other fields are named because callers will hand them over; a value that
    would be ignored is refused.

    Attributes:
        threshold: the confidence below which a larger model would be asked.
        risk: the share of wrong answers that may be kept.
        budget_ms: milliseconds that an answer may take.
        max_memory_mb: megabytes that models may fill.
        budget_money: what answers from elsewhere may cost.
        cloud: whether anything may leave this machine.
        endpoint: where it may go.
        privacy: what may leave: "nothing", "text", "embedding", "blur", "crop" or "whole".
        strict: refuse instead of falling back to another precision or target.

    Raises:
        PolicyError: for a value that this version would ignore, or a `strict` that is not a bool.
    """

    threshold: float | None = None
    risk: float | None = None
    budget_ms: float | None = None
    max_memory_mb: float | None = None
    budget_money: float | None = None
    cloud: bool = False
    endpoint: str | None = None
    privacy: str = "blur"
    strict: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "strict" and value != field.default:
                raise PolicyError(
                    f"Policy({field.name}={value!r}) was asked for; that is not built yet, and this version follows "
                    f"only strict=True or False; leave {field.name} out"
                )
        if not isinstance(self.strict, bool):
            raise PolicyError(
                f"Policy(strict={self.strict!r}) was asked for; strict is True or False; give one of them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run cost.

    Attributes:
        latency_ms: time from handing the arrays to the target until its answer was there, in milliseconds.
        bytes_in: size of the arrays handed in.
        bytes_out: size of the arrays given back.
    """

    latency_ms: float
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One attempt at an answer.

    Attributes:
        target: where it ran.
        precision: of which variant of the model.
        confidence: how sure its answer was, 0 to 1; None where nobody judged it.
        reason: why it was tried, or why the answer was kept.
    """

    target: str
    precision: str
    confidence: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A choice that was looked at and not taken.

    Attributes:
        target: the target.
        precision: the variant of the model; empty where the target itself was not available.
        reason: why not, in one line.
    """

    target: str
    precision: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How an answer came about; every answer carries one.

    Attributes:
        requested: the target that was asked for; "auto" leaves the choice to the delegate.
        target: the target that ran.
        precision: the variant of the model that ran; "unstated" where one file was loaded without saying.
        model_hash: SHA-256 of the model file that ran.
        rungs: the attempts, in order; the last one gave the answer.
        predicted: what the run was expected to cost; None, since there is no cost model yet.
        measured: what it did cost.
        rejected: choices that were not taken, with the reasons.
        sent: what left this machine; empty means nothing.
    """

    requested: str
    target: str
    precision: str
    model_hash: str
    rungs: tuple[Rung, ...] = ()
    predicted: Measured | None = None
    measured: Measured | None = None
    rejected: tuple[Rejected, ...] = ()
    sent: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Give the same as nested dictionaries and lists that `json.dumps` takes."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


def plain(value: object) -> object:
    """Turn dataclasses into dictionaries and tuples into lists, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value
