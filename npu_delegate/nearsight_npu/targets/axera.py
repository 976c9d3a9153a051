"""The `axera` target: compiled models on Axera's NPUs (AX650N, AX630C, an AXCL card) through pyaxengine.

pyaxengine looks like onnxruntime and is not: it checks types and shapes by `assert` only, copies arrays as raw bytes,
and mixes up outputs that are asked for by name. What is said here of its ways was read in its source and its issues.

Source: AXERA-TECH/pyaxengine, axengine/_session.py, _base_session.py, _axe.py, _axclrt.py, _utils.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import weakref
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from nearsight_npu.errors import InputMismatchError, TargetLostError, UnplaceableError, UnreadableGraphError, one_line
from nearsight_npu.targets.graphfile import graph_file
from nearsight_npu.targets.machine import AXERA, Machine
from nearsight_npu.targets.target import Availability, Placement, Port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from nearsight_npu.arrays import Array

_INSTALL = "install the wheel from github.com/AXERA-TECH/pyaxengine/releases"
_BUILD = "build it with Pulsar2: pulsar2 build --input MODEL.onnx --target_hardware AX650 (or AX620E)"
# An NPU that does not open within this many seconds is given up.
LOOK_S = 20.0
# Importing the backend opens the NPU; a crash or a hang is the other process's. Some versions fail when a process ends:
# the answer counts, not how it ended.
_LOOK = """
import importlib, json, sys
import axengine
providers = list(axengine.get_available_providers())
backend = {"AxEngineExecutionProvider": "_axe", "AXCLRTExecutionProvider": "_axclrt"}.get(providers[0])
try:
    importlib.import_module(f"axengine.{backend}")
except ModuleNotFoundError:
    pass
print("\\nproviders:", json.dumps(providers), flush=True)
"""
_ANSWER = re.compile(r"^providers: (.+)$", re.MULTILINE)
# What pyaxengine logs while it opens an NPU.
_FACTS = re.compile(r"(Chip type|VNPU type|Engine version|SOC Name): +(.+)")
_NEURAL = "neu mode"
_PARAMETERS = "npu_params"
_MOST_SHOWN = 4


class AxeraTarget:
    """Runs compiled models (.axmodel) on an Axera NPU.

    A program belongs to the thread that compiled it: the NPU's handles do. The delegate keeps each in a thread of its
    own, with the deadline stated here.
    """

    name = "axera"
    # Where a model was built in FP32, it is held to what processors are held to; nothing was measured on a device.
    tolerance = 1e-4
    # Seconds. Source: language models load in 17 to 73 s over PCIe (Radxa's AX-M1 pages); one graph is a part of one.
    deadline_s = 60.0

    def __init__(self, device: int = 0) -> None:
        """Choose the card.

        Args:
            device: which card, by number, where there are several; an NPU on the board has no number.
        """
        self._device = device

    def probe(self) -> Availability:
        """Look for pyaxengine, and let another process open the NPU; the answer is kept while this process lives."""
        machine = Machine()
        version = machine.installed("axengine")
        if version is None:
            return _missing(f"the package axengine is not installed, {_hardware(machine)}", _INSTALL)
        look = _looked(_surroundings())
        if look.trouble:
            return _missing(f"axengine {version} is installed, {_hardware(machine)}; {look.trouble}", look.remedy)
        return Availability(
            target="axera", available=True, reason=f"axengine {version} opens {look.providers[0]} ({_told(look)})"
        )

    def versions(self) -> dict[str, str]:
        """Name pyaxengine, and what it tells of the NPU and its driver."""
        version = Machine().installed("axengine")
        facts = _looked(_surroundings()).facts if version else {}
        return {"axengine": version or "none", "device": str(self._device), **facts}

    def compile(self, path: Path, threads: int | None = None) -> AxeraProgram:  # noqa: ARG002  the NPU has no threads
        """Load a compiled model onto the NPU; see `Target.compile`."""
        operators = _compiled(path)
        try:
            # Imported here: it opens the NPU.
            import axengine
        except (ImportError, RuntimeError, OSError) as error:
            raise UnplaceableError(
                f"{path.name} was to run on axera; axengine cannot be loaded ({one_line(error)}); "
                "nearsight doctor says what is missing"
            ) from error
        providers = list(axengine.get_available_providers())
        try:
            # As text: the card's backend takes no other path. Options in tuples are ignored; these are not.
            session = axengine.InferenceSession(
                str(path), providers=providers[:1], provider_options=[{"device_id": self._device}]
            )
        except (ValueError, RuntimeError, OSError, ImportError, AttributeError) as error:
            # The last two where the library and the driver are of different versions.
            raise UnplaceableError(
                f"{path.name} was to run on axera; {providers[0]} does not take it ({one_line(error)}); build it for "
                "this chip with types that it has (no float16, no 64-bit integers), or free the NPU's memory"
            ) from error
        return AxeraProgram(session, path.name, operators)


class AxeraProgram:
    """A compiled model on the NPU, for the thread that loaded it."""

    __slots__ = ("__weakref__", "_groups", "_name", "_release", "_session", "inputs", "outputs", "placement")

    def __init__(self, session: Any, name: str, operators: int) -> None:
        self._session = session
        self._name = name
        # Let go by hand: the card's backend keeps every session in a list, and with it the card's memory. Not at the
        # end of the process: there it lets them go itself, and an NPU that hangs would hold everything up.
        self._release = weakref.finalize(self, session.__exit__, None, None, None)
        self._release.atexit = False
        self._groups = tuple(_groups(session))
        self.inputs = _joined([inputs for inputs, _ in self._groups])
        self.outputs = _joined([outputs for _, outputs in self._groups])
        provider = session.get_providers()
        self.placement = Placement(parts=((provider if isinstance(provider, str) else provider[0], operators),))

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once; see `Program.run`."""
        import numpy as np

        if not self._release.alive:
            raise TargetLostError(f"{self._name} was to run on axera; it is closed; load it again")
        number = self._group(arrays)
        inputs, given = self._groups[number]
        # In one piece and in this machine's byte order: what arrives is copied byte by byte.
        feed = {port.name: np.asarray(arrays[port.name], np.dtype(port.dtype), order="C") for port in inputs}
        options = {"shape_group": number} if len(self._groups) > 1 else {}
        try:
            # All outputs, in the model's order: some of them, or another order, give errors or the wrong arrays.
            found = self._session.run(None, feed, None, **options)
            answers = dict(zip((port.name for port in given), found, strict=True))
        except AssertionError as error:
            raise InputMismatchError(
                f"the arrays were accepted, but {self._name} on axera takes others: {one_line(error)}; "
                "build the model again, or give it what it was built for"
            ) from error
        except (RuntimeError, ValueError, OSError, AttributeError) as error:
            raise TargetLostError(
                f"axera failed while running {self._name}: {one_line(error)}; load the session again"
            ) from error
        return {name: answers[name] for name in outputs}

    def close(self) -> None:
        """Let the NPU's memory go; the program cannot run afterwards."""
        self._release()

    def _group(self, arrays: Mapping[str, Array]) -> int:
        """Find the group of shapes that was built for these arrays; pyaxengine itself looks at the first one only."""
        for number, (inputs, _) in enumerate(self._groups):
            if all(
                arrays[port.name].shape == port.shape and arrays[port.name].dtype.name == port.dtype for port in inputs
            ):
                return number
        given = ", ".join(f"{name} {array.dtype.name} {array.shape}" for name, array in arrays.items())
        built = " or ".join("; ".join(map(str, inputs)) for inputs, _ in self._groups)
        raise InputMismatchError(
            f"{self._name} was given {given}; on axera it was built for {built}; give one of these shapes, or build it "
            "with src_extra_shapes"
        )


def _groups(session: Any) -> Iterator[tuple[tuple[Port, ...], tuple[Port, ...]]]:
    """Give the ports of each group of shapes; there is no count, and one too many is an error of either kind."""
    yield _ports(session.get_inputs()), _ports(session.get_outputs())
    number = 1
    while True:
        try:
            group = _ports(session.get_inputs(number)), _ports(session.get_outputs(number))
        except (ValueError, IndexError, TypeError):
            return
        yield group
        number += 1


def _ports(nodes: Sequence[Any]) -> tuple[Port, ...]:
    import numpy as np

    return tuple(
        Port(name=_text(node.name), dtype=np.dtype(node.dtype).name, shape=tuple(map(int, node.shape)))
        for node in nodes
    )


def _text(name: Any) -> str:
    """Give a name as text; some versions leave those of outputs on a card as C's own."""
    if isinstance(name, str):
        return name
    import cffi  # type: ignore[import-untyped]

    return bytes(cffi.FFI().string(name)).decode()


def _joined(groups: Sequence[tuple[Port, ...]]) -> tuple[Port, ...]:
    """Make one port of what each group says of it; an axis that differs between groups is free."""
    return tuple(
        Port(
            name=same[0].name,
            dtype=same[0].dtype,
            shape=tuple(
                lengths[0] if len(set(lengths)) == 1 else "?"
                for lengths in zip(*(port.shape for port in same), strict=True)
            ),
        )
        for same in zip(*groups, strict=True)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What another process found when it opened the NPU."""

    providers: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    remedy: str = ""


def _surroundings() -> tuple[str, ...]:
    """Give what decides over the answer of a look: where modules are found."""
    return (sys.executable, *filter(None, sys.path))


@cache
def _looked(surroundings: tuple[str, ...]) -> _Look:
    """Open the NPU in another process."""
    executable, *folders = surroundings
    try:
        process = subprocess.Popen(
            [executable, "-c", _LOOK],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        trouble = f"no other process can be started to open it ({one_line(error)})"
        return _Look(trouble=trouble, remedy="start from an ordinary Python")
    try:
        answer, talk = process.communicate(timeout=LOOK_S)
    except subprocess.TimeoutExpired:
        _abandon(process)
        trouble = f"opening the NPU gave no sign within {LOOK_S:g} s"
        return _Look(trouble=trouble, remedy="restart the board or the card, then look again")
    facts = {name.lower(): value.strip() for name, value in _FACTS.findall(answer + talk)}
    found = _ANSWER.search(answer)
    if found is None:
        last = (talk.strip().splitlines() or [f"it ended with exit status {process.returncode}"])[-1]
        trouble = f"it cannot open an NPU ({one_line(last)})"
        return _Look(facts=facts, trouble=trouble, remedy="install the driver and runtime of the board or card")
    return _Look(providers=tuple(json.loads(found[1])), facts=facts)


def _abandon(process: subprocess.Popen[str]) -> None:
    """End a process that hangs; one that the kernel holds is not waited for."""
    process.kill()
    try:
        process.communicate(timeout=1)
    except subprocess.TimeoutExpired:
        return


def _missing(reason: str, remedy: str) -> Availability:
    return Availability(target="axera", available=False, reason=reason, remedy=remedy)


def _hardware(machine: Machine) -> str:
    node = machine.device("axcl_host", "ax_sys")
    if node:
        return f"an Axera NPU is at {node}"
    card = machine.pci(AXERA)
    return f"an Axera card is at PCI {card}, its driver is not loaded" if card else "no device of its own was found"


def _told(look: _Look) -> str:
    return ", ".join(f"{name} {value}" for name, value in look.facts.items()) or "it tells no version"


def _compiled(path: Path) -> int:
    """Look into a file before the NPU does: how many compiled parts it has.

    Raises:
        UnreadableGraphError: if it is missing, damaged, or has lost its compiled part.
        UnplaceableError: if it is a graph that is not compiled.
    """
    found = graph_file(path, "axera")
    others = dict.fromkeys(operator.kind for operator in found.operators if operator.kind != _NEURAL)
    if others:
        shown = ", ".join(list(others)[:_MOST_SHOWN])
        more = f" and {len(others) - _MOST_SHOWN} more" if len(others) > _MOST_SHOWN else ""
        raise UnplaceableError(
            f"{path.name} was to run on axera, which runs compiled models only; it has {shown}{more}; {_BUILD}"
        )
    if _PARAMETERS not in found.weights:
        raise UnreadableGraphError(
            f"{path.name} was to be loaded; it has lost its compiled part ({_PARAMETERS}), as it does in tools that "
            "simplify graphs; build it again"
        )
    return len(found.operators)
