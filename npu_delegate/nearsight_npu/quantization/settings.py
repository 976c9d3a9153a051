"""What was asked for, checked before anything costly begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nearsight_npu.errors import QuantizationError

MODES = ("auto", "static", "dynamic")
# Not "entropy": through quantize_static onnxruntime 1.32 weighs a single candidate for each range, the widest, and the
# file is minmax's byte for byte.
METHODS = ("minmax", "percentile")
DEFAULT_PERCENTILE = 99.99
DEFAULT_SAMPLES = 100
MOST = 1_000_000


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

    def __post_init__(self) -> None:
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
        self._check_effects()
        self._check_target()

    @property
    def range_method(self) -> str:
        """How static ranges are taken."""
        return self.method or METHODS[0]

    @property
    def kept_share(self) -> float:
        """The share of values that a range keeps, in percent."""
        return DEFAULT_PERCENTILE if self.percentile is None else float(self.percentile)

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
        if self.percentile is not None and self.method != "percentile":
            raise QuantizationError(
                f"percentile={self.percentile!r} was asked for without method='percentile', so it would change "
                "nothing; give both or neither"
            )

    def _check_target(self) -> None:
        """Look at the place to write to now, so that a long calibration is not lost there."""
        folder = self.target.parent
        if self.target.exists() and self.source.exists() and self.target.samefile(self.source):
            raise QuantizationError(f"{self.target} is the model itself; write to another file with out=")
        if self.target.is_dir():
            raise QuantizationError(
                f"{self.target} is a folder; name a file in it, such as {self.target / 'model.int8.onnx'}"
            )
        if not folder.is_dir():
            raise QuantizationError(f"{self.target} was to be written; there is no folder {folder}; make it first")
        if not os.access(folder, os.W_OK):
            raise QuantizationError(
                f"{self.target} was to be written; {folder} may not be written to; choose another with out="
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


def _among(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise QuantizationError(f"{name}={value!r} was asked for; there are {', '.join(known)}; choose one of them")
