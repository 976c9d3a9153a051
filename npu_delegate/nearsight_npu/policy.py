"""How far an answer may go (`Policy`), and how it came about (`Decision`)."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite

from nearsight_npu.endpoint import endpoint_at
from nearsight_npu.errors import PolicyError

ENDPOINT_VARIABLE = "NEARSIGHT_ENDPOINT"
# What may leave, from the least to the most.
PRIVACY = ("nothing", "text", "blur", "whole")
LONGEST_WORD = 12
_NOT_BUILT = ("risk", "budget_money")
_NOT_BUILT_PRIVACY = ("embedding", "crop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be done to get an answer, and how far it may climb: from this machine to a larger one elsewhere.

    By default nothing leaves this machine. A value that this version would ignore is refused: `risk`, `budget_money`,
    and the privacies "embedding" and "crop" are named because they will come.

    Attributes:
        threshold: the confidence, 0 to 1, below which a larger model is asked; None never asks.
        risk: the share of wrong answers that may be kept (not built yet).
        budget_ms: milliseconds that an answer may take, over everything; None leaves a local run its time and gives
            the cloud `ladder.CLOUD_MS`. A local run is not interrupted; what it leaves is the cloud's.
        max_memory_mb: megabytes (millions of bytes) that the models of all delegates with this limit may fill together
            in this process; those unused for longest make room and are loaded again when they run. None is no limit.
        budget_money: what answers from elsewhere may cost (not built yet).
        cloud: whether anything may leave this machine.
        endpoint: base URL of an OpenAI-compatible server, such as "https://host/v1"; with `cloud` and None it is
            taken from the environment variable NEARSIGHT_ENDPOINT. Without `cloud` nothing is sent to it.
        privacy: what may leave: "nothing"; "text": words only; "blur": words, and pictures in which no face or number
            plate can be read; "whole": words and pictures.
        strict: refuse instead of falling back to another precision or target, and refuse a program of which any
            operator would run outside its target.
        cloud_model: the name of the model to ask there; servers that hold one model mostly take any.

    Raises:
        PolicyError: for a value that this version would ignore, or one that cannot be followed.
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
    cloud_model: str | None = None

    def __post_init__(self) -> None:
        for name in _NOT_BUILT:
            self._refuse_unbuilt(name, built=getattr(self, name) is None)
        self._refuse_unbuilt("privacy", built=self.privacy not in _NOT_BUILT_PRIVACY)
        self._check("strict", isinstance(self.strict, bool), "True or False")
        self._check("cloud", isinstance(self.cloud, bool), "True or False")
        self._check(
            "threshold", self.threshold is None or _within(self.threshold, 0, 1), "a number from 0 to 1, or None"
        )
        self._check(
            "budget_ms",
            self.budget_ms is None or (_within(self.budget_ms, 0) and self.budget_ms > 0),
            "a number of milliseconds above 0, or None",
        )
        self._check(
            "max_memory_mb",
            self.max_memory_mb is None or (_within(self.max_memory_mb, 0) and self.max_memory_mb > 0),
            "a number of megabytes above 0, or None",
        )
        self._check("privacy", self.privacy in PRIVACY, _choices(PRIVACY))
        self._check(
            "cloud_model",
            self.cloud_model is None or (isinstance(self.cloud_model, str) and bool(self.cloud_model.strip())),
            "the name of a model, or None",
        )
        self._find_endpoint()

    def _refuse_unbuilt(self, name: str, *, built: bool) -> None:
        if not built:
            raise PolicyError(
                f"Policy({name}={_shown(getattr(self, name))}) was asked for; that is not built yet, and this version "
                f"would ignore it; leave {name} out"
            )

    def _check(self, name: str, holds: bool, meaning: str) -> None:
        if not holds:
            shown = _shown(getattr(self, name))
            raise PolicyError(f"Policy({name}={shown}) was asked for; it is {meaning}; give that")

    def _find_endpoint(self) -> None:
        if self.cloud and self.endpoint is None:
            # Kept, so that a policy says by itself where answers come from.
            object.__setattr__(self, "endpoint", os.environ.get(ENDPOINT_VARIABLE) or None)
        if self.cloud and self.endpoint is None:
            raise PolicyError(
                "Policy(cloud=True) was asked for without an address; the cloud is wherever you say; give "
                f"endpoint='https://host/v1' or set {ENDPOINT_VARIABLE}"
            )
        if self.endpoint is not None:
            endpoint_at(self.endpoint)


def _shown(value: object) -> str:
    """Give a value as messages show it: a text only where it is a short word, since a key may be in the wrong place."""
    word = isinstance(value, str) and value.isalpha() and len(value) <= LONGEST_WORD
    return repr(value) if word or value is None or isinstance(value, (int, float)) else f"<{type(value).__name__}>"


def _within(value: object, low: float, high: float = float("inf")) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and isfinite(value) and low <= value <= high  # type: ignore[arg-type, operator]


def _choices(names: tuple[str, ...]) -> str:
    return "one of " + ", ".join(f'"{name}"' for name in names)


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
        reason: why it was tried, why its answer was kept, or why it gave none.
        latency_ms: what it took, in milliseconds; None where nobody looked at the clock.
        failed: whether it gave no answer that can be used; the answer is then that of an earlier rung.
    """

    target: str
    precision: str
    confidence: float | None
    reason: str
    latency_ms: float | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A choice that was looked at and not taken.

    Attributes:
        target: the target.
        precision: the variant of the model; empty where the target itself was not available.
        reason: why not, in one line.
        latency_ms: what a run took, in milliseconds, where it was only slower; None where it could not be taken.
    """

    target: str
    precision: str
    reason: str
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How an answer came about; every answer carries one.

    Attributes:
        requested: the target that was asked for; "auto" leaves the choice to the delegate.
        target: the target that ran.
        precision: the variant of the model that ran; "unstated" where one file was loaded without saying.
        model_hash: SHA-256 of the model file that ran; empty where another machine answered.
        rungs: the attempts, in order; the last one that did not fail gave the answer.
        predicted: what the run was expected to cost; None, since there is no cost model yet.
        measured: what it did cost.
        rejected: choices that were not taken, with the reasons.
        sent: what left this machine, in words, bytes and whereto; empty means nothing.
        placement: one line: which provider took how many operators, with how many threads, and where an answer took
            several runs, how many samples at a time; empty where unknown.
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
    placement: str = ""

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
