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
        """Say whether the processor lists one of these x86 instruction sets, such as "avx512_vnni"."""
        lines = _content(self.root / "proc/cpuinfo").lower().splitlines()
        listed = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
        return not set(instructions).isdisjoint(listed)

    def free_bytes(self) -> int | None:
        """Give the memory that could be filled without swapping, or None where the system does not say."""
        for line in _content(self.root / "proc/meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return None


def _content(path: Path) -> str:
    """Read a small system file; an absent or closed one is empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
