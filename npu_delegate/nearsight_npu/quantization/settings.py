"""What was asked for, checked before anything costly begins."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from nearsight_npu.errors import QuantizationError, UnplaceableError, one_line
from nearsight_npu.quantization import plan as words
from nearsight_npu.targets.chips import targets_for
from nearsight_npu.targets.probe import target_named

MODES = ("auto", "static", "dynamic", "weights", "half", "mixed")
METHODS = ("minmax", "percentile", "entropy", "mse")
DEFAULT_PERCENTILE = 99.99
DEFAULT_SAMPLES = 100
MOST = 1_000_000
BITS = (4, 8)
DEFAULT_BITS = 8
BLOCKS = (16, 32, 64, 128)
DEFAULT_BLOCK = 32
ACTIVATIONS = {"u8": words.A8W8, "s8": words.S8W8, "u16": words.A16W8}  # number type -> the precision it makes
# What a kind of target is given, its default for static integers first. Source: QDQ graphs with 8-bit weights are what
# the toolchains of the last three take (docs/quantization.md); weights alone in integers are operators of onnxruntime.
_PROCESSORS = (words.A8W8, words.FP16, words.W8, words.W4, words.DYNAMIC)
_NPUS = (words.S8W8, words.A16W8, words.A8W8)
RUNS = {"cpu": _PROCESSORS, "openvino": _PROCESSORS, "qnn": _NPUS, "axera": _NPUS, "simulated": _NPUS}
# What may be asked of it besides: onnxruntime runs everything; 16-bit activations are wrong in OpenVINO 2026.4.
_MORE = {"cpu": (words.S8W8, words.A16W8), "openvino": (words.S8W8,)}
# What each of these settings is for.
_EFFECTS = {
    "kinds": ("static",),
    "activations": ("static",),
    "method": ("static", "mixed"),
    "bits": ("weights",),
    "block": ("weights",),
    "budget_mb": ("mixed",),
    "budget_ms": ("mixed",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of one call of `quantize`; see there.

    Raises:
        QuantizationError: for a value that cannot be followed.
    """

    source: Path
    target: Path
    mode: str
    kinds: frozenset[str] | None
    keep_float: tuple[str, ...]
    method: str | None
    percentile: float | None
    reduce_range: bool
    samples: int
    threads: int
    bits: int | None = None
    block: int | None = None
    activations: str | None = None
    budget_mb: float | None = None
    budget_ms: float | None = None
    max_drop: float | None = None
    scores: tuple[str, ...] = ()
    runs_on: str = "cpu"

    def __post_init__(self) -> None:
        _check_target(self.runs_on)
        _among("mode", self.mode, MODES)
        if self.method is not None:
            _among("method", self.method, METHODS)
        share = self.percentile
        if share is not None and (
            isinstance(share, bool) or not isinstance(share, (int, float)) or not 50 < share <= 100
        ):
            raise QuantizationError(
                f"percentile={self.percentile!r} was asked for; it is the share of values a range keeps, above 50 and "
                "at most 100, in percent; give one such as 99.99"
            )
        for name in ("samples", "threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
                raise QuantizationError(
                    f"{name}={value!r} was asked for; it is a whole number from 1 to {MOST}; give one"
                )
        processors = os.cpu_count() or 1
        if self.threads > processors:
            raise QuantizationError(
                f"threads={self.threads} was asked for; this machine has {processors} processors; give no more"
            )
        self._check_choices()
        self._check_limits()
        self._check_effects()
        check_place("out", self.target, self.source)

    @property
    def range_method(self) -> str:
        """How static ranges are taken."""
        return self.method or METHODS[0]

    @property
    def kept_share(self) -> float:
        """The share of values that a range keeps, in percent."""
        return DEFAULT_PERCENTILE if self.percentile is None else float(self.percentile)

    @property
    def runnable(self) -> tuple[str, ...]:
        """The precisions that the target is given, its default for static integers first."""
        return RUNS[self.runs_on.partition(":")[0]]

    @property
    def precision(self) -> str:
        """What every operator that can becomes, where the mode says so: one of `plan.CHOICES`."""
        if self.mode == "static":
            return ACTIVATIONS[self.activations] if self.activations else self.runnable[0]
        return {"dynamic": words.DYNAMIC, "half": words.FP16, "weights": words.W4 if self.bits == 4 else words.W8}[
            self.mode
        ]

    @property
    def static_type(self) -> str:
        """The number type of static activations."""
        return next(name for name, precision in ACTIVATIONS.items() if precision == self.precision)

    def to_dict(self) -> dict[str, object]:
        """Give what the written file depends on, as `json.dumps` takes it: not its place, nor what comes after."""
        left_out = {"source", "target", "threads", "samples", "max_drop", "scores"}
        given = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in left_out}
        return given | {"kinds": None if self.kinds is None else sorted(self.kinds)}

    def _check_choices(self) -> None:
        if self.bits is not None:
            _among("bits", self.bits, BITS)
        if self.block is not None:
            _among("block", self.block, BLOCKS)
        if self.activations is not None:
            _among("activations", self.activations, tuple(ACTIVATIONS))
        known = (*self.runnable, *_MORE.get(self.runs_on.partition(":")[0], ()))
        if self.mode != "mixed" and self.precision not in known:
            asked = f"activations={self.activations!r}" if self.activations else f"mode={self.mode!r}"
            raise QuantizationError(
                f"{asked} with target={self.runs_on!r} would make {self.precision}; what runs there is "
                f"{', '.join(known)}; choose another mode=, activations= or target="
            )

    def _check_limits(self) -> None:
        for name in ("budget_mb", "budget_ms", "max_drop"):
            value = getattr(self, name)
            number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
            if value is not None and (not number or value < 0 or (value == 0 and name != "max_drop")):
                raise QuantizationError(f"{name}={value!r} was asked for; it is a number above 0; give one")
        if self.budget_mb is not None and self.budget_ms is not None:
            raise QuantizationError(
                f"budget_mb={self.budget_mb} and budget_ms={self.budget_ms} were asked for; one of them can lead; "
                "give the one that is scarce"
            )
        if self.budget_ms is not None and self.runnable is _NPUS:
            raise QuantizationError(
                f"budget_ms={self.budget_ms} was asked for with target={self.runs_on!r}, whose time cannot be measured "
                "here; give budget_mb= or max_drop="
            )
        if self.mode == "mixed" and (self.budget_mb, self.budget_ms, self.max_drop) == (None, None, None):
            raise QuantizationError(
                "mode='mixed' was asked for without a limit; give budget_mb=, budget_ms= or max_drop="
            )

    def _check_effects(self) -> None:
        """Refuse settings that would change nothing."""
        if self.mode == "dynamic" and self.kinds is not None:
            raise QuantizationError(
                f"kinds={sorted(self.kinds)} was asked for with dynamic INT8, which takes matrix products only; "
                "leave kinds out, or give calibration="
            )
        if self.mode == "dynamic" and self.method is not None:
            raise QuantizationError(
                f"method={self.method!r} was asked for with dynamic INT8, which takes no ranges; leave method out, or "
                "make it static with calibration="
            )
        for name, modes in _EFFECTS.items():
            value = getattr(self, name)
            if value is not None and self.mode not in modes:
                other = " or ".join(f"mode={mode!r}" for mode in modes)
                raise QuantizationError(
                    f"{name}={sorted(value) if name == 'kinds' else value!r} was asked for with mode={self.mode!r}, "
                    f"where it would change nothing; give {other}, or leave it out"
                )
        if self.percentile is not None and self.method != "percentile":
            raise QuantizationError(
                f"percentile={self.percentile!r} was asked for without method='percentile', so it would change "
                "nothing; give both or neither"
            )


def ending(mode: str, bits: int | None) -> str:
    """Give what a file's name ends in that was made in this way."""
    named = {"weights": f".w{bits or DEFAULT_BITS}", "half": ".fp16", "mixed": ".mixed"}
    return named.get(str(mode), ".int8") + ".onnx"


def check_place(name: str, place: Path, *others: Path) -> None:
    """Refuse a place that cannot be written to, or where something else of the same call lies.

    Args:
        name: of the argument.
        place: where a file is to be written.
        others: the model, and what else is written.

    Raises:
        QuantizationError: if it cannot.
    """
    folder = place.parent
    for other in others:
        same = place.samefile(other) if place.exists() and other.exists() else place.absolute() == other.absolute()
        if same:
            what = "the model itself" if other is others[0] else "what is to be written with out="
            raise QuantizationError(f"{place} is {what}; write to another file with {name}=")
    if place.is_dir():
        raise QuantizationError(f"{place} is a folder; name a file in it with {name}=, such as {place / 'file'}")
    if not folder.is_dir():
        raise QuantizationError(
            f"{place} was to be written; there is no folder {folder}; make it first, or give {name}="
        )
    if not os.access(folder, os.W_OK):
        raise QuantizationError(
            f"{place} was to be written; {folder} may not be written to; choose another with {name}="
        )


def as_path(name: str, value: object) -> Path:
    """Read a path; an empty one would be taken for the current folder.

    Raises:
        QuantizationError: for what is none.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise QuantizationError(f"{name}={value!r} was asked for; it is the path of a file; give one")
    return Path(os.fsdecode(value))


def texts(name: str, value: object) -> tuple[str, ...]:
    """Read a collection of names; a bare string would be taken letter by letter.

    Raises:
        QuantizationError: for anything else.
    """
    given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
    if not all(isinstance(item, str) and item for item in given):
        raise QuantizationError(f"{name}={value!r} was asked for; it is a tuple of names; give {name}=('NAME',)")
    return given


def _check_target(name: object) -> None:
    """Refuse a target that there is none of, or that files are not made for."""
    if not isinstance(name, str) or name.partition(":")[0] not in RUNS:
        shown = ", ".join(kind + ":<chip>" * (kind == "simulated") for kind in RUNS)
        there = (targets_for(name) if isinstance(name, str) else "") or f"there are {shown}"
        raise QuantizationError(f"target={name!r} was asked for; {there}; choose one of them")
    try:
        target_named(name)
    except UnplaceableError as error:
        there = str(error).partition(" was asked for; ")[2] or one_line(error)
        raise QuantizationError(f"target={name!r} was asked for; {there}") from error


def _among(name: str, value: object, known: tuple[str | int, ...]) -> None:
    if isinstance(value, bool) or value not in known:
        shown = ", ".join(map(str, known))
        raise QuantizationError(f"{name}={value!r} was asked for; there are {shown}; choose one of them")
