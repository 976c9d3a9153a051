"""Which targets can be used on this machine, and why the others cannot."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from nearsight_npu.errors import UnplaceableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nearsight_npu.targets.target import Availability, Target

AUTO = "auto"
TARGETS_VARIABLE = "NEARSIGHT_TARGETS"
FALLBACK = "cpu"
# Target -> its module here and what makes it. A module is imported when its target is asked for, and imports the
# runtime itself only when a graph is compiled.
TARGETS: Mapping[str, tuple[str, str]] = {
    "reference": ("reference", "ReferenceTarget"),
    "cpu": ("cpu", "CpuTarget"),
    "openvino": ("openvino", "OpenVinoTarget"),
    "qnn": ("qnn", "QnnTarget"),
    "axera": ("axera", "AxeraTarget"),
    "simulated": ("simulated", "simulated_target"),
}
# Of these there are kinds, named after a colon ("openvino:cpu", "simulated:AX650N") and handed to the maker.
VARIED = ("openvino", "qnn", "simulated")
# Of these there is nothing without a kind.
_ONLY_VARIED = ("simulated",)
# It defines what a graph means, slowly.
_MEANING = "reference"


def probe() -> tuple[Availability, ...]:
    """Say for every target whether it can be used here, without importing any of their libraries.

    Returns:
        One `Availability` per target.
    """
    return tuple(target_named(name).probe() for name in TARGETS if name not in _ONLY_VARIED)


def automatic() -> tuple[Target, ...]:
    """Give the targets among which "auto" chooses: those that can be used here at their own speed.

    The environment variable NEARSIGHT_TARGETS may name others, with commas between them.

    Raises:
        UnplaceableError: if the variable names a target that there is not.
    """
    named = os.environ.get(TARGETS_VARIABLE, "")
    if named.strip():
        return tuple(target_named(name.strip()) for name in named.split(",") if name.strip())
    found = (target_named(name) for name in TARGETS if name not in (*_ONLY_VARIED, _MEANING))
    return tuple(target for target in found if (state := target.probe()).available and not state.simulator)


def target_named(name: str) -> Target:
    """Give the target of this name, whether or not it can be used here.

    Args:
        name: such as "cpu" or "simulated:AX650N".

    Raises:
        UnplaceableError: if there is none.
    """
    family, colon, kind = name.partition(":")
    if family not in TARGETS or (colon and family not in VARIED) or (not kind and (colon or family in _ONLY_VARIED)):
        from nearsight_npu.targets.chips import targets_for

        there = targets_for(name) or f"there are {', '.join((AUTO, *_shown()))}"
        raise UnplaceableError(
            f"target {name!r} was asked for; {there}; choose one of them "
            "(nearsight doctor shows which can be used here)"
        )
    module, maker = TARGETS[family]
    make: Callable[..., Target] = getattr(importlib.import_module(f".{module}", __package__), maker)
    return make(kind) if kind else make()


def _shown() -> tuple[str, ...]:
    return tuple(f"{name}:<chip>" if name in _ONLY_VARIED else name for name in TARGETS)
