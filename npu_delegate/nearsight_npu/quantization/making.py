"""Makes one file as its settings say: operators or groups are chosen and handed to the writer of their precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import QuantizationError
from nearsight_npu.quantization import plan as words
from nearsight_npu.quantization.calibration import MODEST
from nearsight_npu.quantization.dynamic import choose_products, write_dynamic
from nearsight_npu.quantization.groups import group
from nearsight_npu.quantization.settings import DEFAULT_BLOCK
from nearsight_npu.quantization.static import choose, parted_limiters, write_static
from nearsight_npu.quantization.writing import Recipe, write_plan

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array
    from nearsight_npu.quantization.plan import Group, Plan
    from nearsight_npu.quantization.settings import Settings
    from nearsight_npu.quantization.source import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What is known of a file that was written.

    Attributes:
        plan: name of a group -> what it became; empty where single operators were chosen.
        doubts: what is doubtful about it, a line each.
    """

    plan: Plan = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Give the same as `json.dumps` takes it."""
        return {"plan": dict(self.plan), "doubts": list(self.doubts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Made:
        """Read back what `to_dict` gave."""
        return cls(plan=dict(values["plan"]), doubts=tuple(values["doubts"]))


def make(settings: Settings, prepared: Prepared, samples: Sequence[dict[str, Array]], out: Path) -> Made:
    """Write a file in the one precision that the settings name.

    Args:
        settings: what was asked for; any mode but "mixed".
        prepared: the graph.
        samples: what to take ranges from.
        out: where to write.

    Returns:
        What is known of it.

    Raises:
        QuantizationError: if no operator can become what was asked for, or the writer refuses.
    """
    check_prefixes(settings, prepared)
    if settings.mode == "dynamic":
        chosen = choose_products(prepared, settings.keep_float)
        _check_choice(settings, chosen, "no matrix product with constant weights is left; give calibration= for static")
        write_dynamic(prepared, out, chosen, reduce_range=settings.reduce_range)
        return Made()
    if settings.mode == "static":
        chosen = choose(prepared, settings.kinds, settings.keep_float)
        other = "a shorter keep_float=" if settings.kinds is None else "other kinds= or a shorter keep_float="
        why = f"no operator is left to make integer; give {other}"
        _check_choice(settings, chosen, why)
        heard = write_static(prepared, out, samples, chosen, settings)
        return Made(doubts=(*_doubts(prepared, chosen, len(samples)), *heard))
    groups = free_groups(settings, prepared)
    plan = {entry.name: _of(entry, settings.precision) for entry in groups}
    write_plan(prepared, groups, plan, out, recipe=Recipe(block=settings.block or DEFAULT_BLOCK))
    wider = sum(choice != settings.precision for choice in plan.values())
    said = f"4 bits are for matrix products and tables; {wider} convolutions are stored in 8"
    return Made(plan=plan, doubts=(said,) if wider else ())


def _of(entry: Group, precision: str) -> str:
    return words.W8 if (entry.kind, precision) == ("conv", words.W4) else precision


def free_groups(settings: Settings, prepared: Prepared) -> tuple[Group, ...]:
    """Give the groups that are not to stay in float; tables do for chips that take no weights alone in integers.

    Raises:
        QuantizationError: if none is left.
    """
    groups = tuple(
        entry
        for entry in group(prepared)
        if not entry.name.startswith(settings.keep_float) and (entry.kind != "lookup" or words.W8 in settings.runnable)
    )
    _check_choice(settings, groups, "no operator with constant weights is left; give a shorter keep_float=")
    return groups


def check_prefixes(settings: Settings, prepared: Prepared) -> None:
    """Refuse a beginning that no operator's name has.

    Raises:
        QuantizationError: if there is one.
    """
    names = (*prepared.original, *(node.name for node in prepared.nodes))
    for prefix in settings.keep_float:
        if not any(name.startswith(prefix) for name in names):
            shown = ", ".join(dict.fromkeys(node.name for node in prepared.nodes if node.name))[:120]
            raise QuantizationError(
                f"keep_float={prefix!r} was asked for; no operator's name begins so; they are {shown}...; "
                "give the beginning of one of them"
            )


def _check_choice(settings: Settings, chosen: Collection[object], why: str) -> None:
    if not chosen:
        wanted = {"weights": f"W{settings.bits or 8}", "half": "FP16", "mixed": "mixed precision"}
        what = wanted.get(settings.mode, f"{settings.mode} INT8")
        raise QuantizationError(f"{settings.source.name} was to be made {what}; {why}")


def _doubts(prepared: Prepared, chosen: Collection[str], samples: int) -> tuple[str, ...]:
    said = []
    parted = parted_limiters(prepared, chosen)
    if parted:
        said.append(
            f"{len(parted)} operators are integer without the Clip or Relu behind them (the first is {parted[0]!r}), "
            "so their ranges are too wide: make both integer, or keep both in float"
        )
    return (*said, *too_few(samples, "ranges were taken from"))


def too_few(count: int, what: str) -> tuple[str, ...]:
    """Say so where something stands on few samples."""
    return (f"{what} {count} samples only; 100 are better",) if count < MODEST else ()
