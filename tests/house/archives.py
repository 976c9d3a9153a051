"""Open a wheel and a source archive and check what is in them: `python tests/house/archives.py FILE.whl FILE.tar.gz`."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {
    "nearsight": ROOT / "sdk" / "nearsight",
    "nearsight_npu": ROOT / "npu_delegate" / "nearsight_npu",
    "nearsight_models": ROOT / "models" / "nearsight_models",
    "nearsight_apps": ROOT / "apps" / "nearsight_apps",
    "nearsight_demos": ROOT / "demos" / "nearsight_demos",
}


def package_files() -> set[str]:
    """Return every file of the three packages in the work tree, as the wheel must name it."""
    return {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def wheel_complaints(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel; empty when nothing is."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    wanted = package_files()
    complaints = [f"{wheel.name} lacks {name}" for name in sorted(wanted - names)]
    complaints += [
        f"{wheel.name} holds {name}, which is no part of the packages" for name in sorted(names - wanted - info)
    ]
    if not any(name.endswith(".onnx") for name in names):
        complaints.append(f"{wheel.name} holds no weights")
    complaints += [
        f"{wheel.name} lacks {end} in its metadata"
        for end in ("entry_points.txt", "LICENSE", "THIRD_PARTY.md")
        if not any(name.endswith(end) for name in info)
    ]
    return complaints


def source_complaints(source: Path) -> list[str]:
    """Return what is wrong with a source archive; empty when nothing is."""
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md", "tests/conftest.py"}
    complaints = [f"{source.name} lacks {name}" for name in sorted(wanted - names)]
    if not any(name.startswith("models/training/") for name in names):
        complaints.append(f"{source.name} lacks the training recipe")
    strangers = sorted(name for name in names if "__pycache__" in name or name.startswith((".venv", "demo/", "shared")))
    return complaints + [f"{source.name} holds {name}" for name in strangers]


def main(paths: list[str]) -> int:
    """Check each archive and print the complaints."""
    complaints = []
    for path in map(Path, paths):
        complaints += wheel_complaints(path) if path.suffix == ".whl" else source_complaints(path)
    for complaint in complaints:
        print(complaint)
    print(f"{len(paths)} archives checked, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
