"""What can be learned about this machine by looking: installed packages, device nodes, PCI cards, the processor."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# The lines of /proc/cpuinfo that say which instructions a library may choose (x86, Arm, RISC-V).
_PROCESSOR_LINES = frozenset(
    {
        "model name",
        "flags",
        "features",
        "cpu implementer",
        "cpu architecture",
        "cpu variant",
        "cpu part",
        "isa",
        "uarch",
    }
)
# Source: 1f4b is the vendor that lspci lists for an AX650N or AX8850 card.
AXERA = "0x1f4b"
# Source: PCI Code and ID Assignment Specification: processing accelerators, co-processors, 3D controllers.
_ACCELERATORS = ("0x12", "0x0b40", "0x0302")
_LINK = ("current_link_speed", "max_link_speed", "current_link_width", "max_link_width")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine seen through its file system.

    Attributes:
        root: where its `dev`, `proc` and `sys` lie; another folder than "/" describes another machine.
        packages: module name -> version, in place of what is installed; None looks at what is installed.
    """

    root: Path = Path("/")
    packages: Mapping[str, str] | None = None

    def installed(self, module: str, *distributions: str) -> str | None:
        """Look for a module without importing it.

        Args:
            module: its top-level name.
            distributions: names it may have been installed under, where they differ from the module's.

        Returns:
            Its version, "of unknown version" where no distribution claims it, None where it is absent.
        """
        if self.packages is not None:
            return self.packages.get(module)
        if importlib.util.find_spec(module) is None:
            return None
        for name in (module, *distributions):
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "of unknown version"

    def device(self, *names: str) -> str | None:
        """Give the first of these device nodes that exists, as "/dev/NAME"; None where there is none."""
        return next((f"/dev/{name}" for name in names if (self.root / "dev" / name).exists()), None)

    def accelerator(self, vendor: str) -> str | None:
        """Give the node of a compute accelerator (drivers/accel) of a PCI vendor such as "0x8086", or None."""
        for entry in sorted((self.root / "sys/class/accel").glob("accel*")):
            if _content(entry / "device/vendor") == vendor:
                return f"/dev/accel/{entry.name}"
        return None

    def pci(self, vendor: str) -> str | None:
        """Give the bus address of the first PCI card of a vendor such as "0x1f4b", or None."""
        for entry in sorted((self.root / "sys/bus/pci/devices").glob("*")):
            if _content(entry / "vendor") == vendor:
                return entry.name
        return None

    def processor(self) -> str:
        """Name the processor and, in eight hexadecimal digits, the instructions it offers."""
        facts: dict[str, str] = {}
        for line in _content(self.root / "proc/cpuinfo").split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() in _PROCESSOR_LINES:
                facts[key.strip().lower()] = value.strip()
        name = facts.get("model name") or platform.processor() or "processor"
        digest = hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()[:8]
        return f"{platform.machine()} {name} {digest}"

    def offers(self, *instructions: str) -> bool:
        """Say whether the processor lists one of these instruction sets: "avx512_vnni" (x86), "asimddp" (Arm)."""
        lines = _content(self.root / "proc/cpuinfo").lower().splitlines()
        listed = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "features"))), [])
        return not set(instructions).isdisjoint(listed)

    def processors(self) -> Processors | None:
        """Count the processors and cores that this process may use; None where the system does not say."""
        usable = _listed(_field(self.root / "proc/self/status", "Cpus_allowed_list"))
        if not usable:
            return None
        folders = [self.root / f"sys/devices/system/cpu/cpu{number}" for number in sorted(usable)]
        siblings = {
            _content(folder / "topology/core_cpus_list") or _content(folder / "topology/thread_siblings_list")
            for folder in folders
        }
        return Processors(
            usable=len(usable),
            # A system that tells no siblings has one processor a core as far as anybody knows.
            cores=len(siblings) if "" not in siblings else len(usable),
            present=max(_content(self.root / "proc/cpuinfo").count("processor\t"), len(usable)),
            paces=len({capacity for folder in folders if (capacity := _content(folder / "cpu_capacity"))}) or 1,
            quota=self._quota(),
        )

    def _quota(self) -> float | None:
        """Give how many seconds of processors' time this process's group may spend in a second, if that is limited."""
        limits = []
        for folder in self._groups("cpu"):
            allowed, _, period = _content(folder / "cpu.max").partition(" ")
            allowed = allowed or _content(folder / "cpu.cfs_quota_us")
            period = period or _content(folder / "cpu.cfs_period_us")
            if allowed.isdecimal() and period.isdecimal():
                limits.append(int(allowed) / int(period))
        return min(limits, default=None)

    def governors(self) -> tuple[str, ...]:
        """Name what decides over the processors' clock ("performance", "powersave"), each once; empty where untold."""
        files = (self.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")
        return tuple(sorted({_content(file) for file in files} - {""}))

    def memory_bytes(self) -> int | None:
        """Give how much memory this process may fill: the machine's, or its group's limit; None where untold."""
        total = _field(self.root / "proc/meminfo", "MemTotal").removesuffix(" kB")
        if not total.isdecimal():
            return None
        limits = [
            _content(folder / name)
            for folder in self._groups("memory")
            for name in ("memory.max", "memory.limit_in_bytes")
        ]
        return min([int(total) * 1024, *(int(limit) for limit in limits if limit.isdecimal())])

    def free_bytes(self) -> int | None:
        """Give the memory that could be filled without swapping, or None where the system does not say."""
        free = _field(self.root / "proc/meminfo", "MemAvailable").removesuffix(" kB")
        return int(free) * 1024 if free.isdecimal() else None

    def links(self) -> tuple[Link, ...]:
        """Give the PCI Express links of the accelerator cards, by bus address."""
        found = []
        for card in sorted((self.root / "sys/bus/pci/devices").glob("*")):
            accelerates = _content(card / "class").startswith(_ACCELERATORS) or _content(card / "vendor") == AXERA
            figures = [_number(_content(card / name)) for name in _LINK]
            if accelerates and all(figures):
                speed, full_speed, lanes, full_lanes = figures
                found.append(
                    Link(
                        address=card.name,
                        vendor=_content(card / "vendor"),
                        lanes=int(lanes),
                        full_lanes=int(full_lanes),
                        speed_gts=speed,
                        full_speed_gts=full_speed,
                    )
                )
        return tuple(found)

    def _groups(self, controller: str) -> list[Path]:
        """Give the folders of the control groups that limit this process, from its own up to the top."""
        folders = []
        for line in _content(self.root / "proc/self/cgroup").splitlines():
            _, kinds, own = line.split(":", 2)
            if kinds and controller not in kinds.split(","):
                continue
            top = self.root / "sys/fs/cgroup" / (controller if kinds else "")
            place = top / own.strip("/")
            folders += [place, *(parent for parent in place.parents if parent.is_relative_to(top))]
        return folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Processors:
    """How much of the processor a process may use.

    Attributes:
        usable: logical processors that it may run on.
        cores: physical cores that these belong to; fewer where two threads share a core.
        present: logical processors that the machine has.
        paces: how many kinds of core there are, told apart by their pace (big and little ones); 1 where all are alike.
        quota: processors' time in seconds that it may spend in a second, as containers limit it; None without a limit.
    """

    usable: int
    cores: int
    present: int
    paces: int
    quota: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The PCI Express link of a card.

    Attributes:
        address: the card's bus address.
        vendor: its maker's number, such as "0x1f4b".
        lanes: how many lanes are in use.
        full_lanes: how many the card has.
        speed_gts: transfers a second on each lane, in GT/s.
        full_speed_gts: what the card is able to, in GT/s.
    """

    address: str
    vendor: str
    lanes: int
    full_lanes: int
    speed_gts: float
    full_speed_gts: float

    @property
    def rate_gbs(self) -> float:
        """What the link carries in one direction before packets' heads, in GB/s."""
        # Source: PCI Express Base Specification: 8 of 10 bits are data up to 5 GT/s, 128 of 130 from 8 GT/s on.
        share = 8 / 10 if self.speed_gts < 8 else 128 / 130
        return self.lanes * self.speed_gts * share / 8


def _field(path: Path, name: str) -> str:
    """Give the value of a line "name: value" of a small system file; empty where there is none."""
    lines = (line.partition(":") for line in _content(path).splitlines())
    return next((value.strip() for key, _, value in lines if key == name), "")


def _listed(ranges: str) -> set[int]:
    """Read the kernel's way to write numbers: "0-3,8"."""
    found: set[int] = set()
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def _number(text: str) -> float:
    """Read the number that a text begins with ("8.0 GT/s PCIe"); 0 where it begins with none ("Unknown")."""
    first = text.partition(" ")[0]
    return float(first) if first.replace(".", "", 1).isdecimal() else 0.0


def _content(path: Path) -> str:
    """Read a small system file; an absent or closed one is empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
