"""What the tests with torch share: a torchvision that can be imported, small models saved the hub's way, no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

# The small models stand beside the tests; tests are imported by path, so their folder has to be named.
sys.path.insert(0, str(Path(__file__).parent))

# The registry's torchvision is built for another torch than the one that is here: two of its operators have to be
# known before it is imported. People with an ordinary torch need none of this.
_OPERATORS = torch.library.Library("torchvision", "DEF")
_OPERATORS.define("nms(Tensor a, Tensor b, float c) -> Tensor")
_OPERATORS.define("qnms(Tensor a, Tensor b, float c) -> Tensor")

_WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "open_clip", "timm", "torchvision", "safetensors"}:
            raise ImportError(f"{name} was imported where there is no torch")
        return None

sys.meta_path.insert(0, Blocked())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A page of the catalogue, as far as an exporter needs one."""

    name: str
    architecture: str
    capability: str
    summary: str = "a random model of the real architecture"
    languages: tuple[str, ...] = ("en",)
    licence: str = "Apache-2.0"
    trained_on: tuple[str, ...] = ("nothing: its weights are random",)
    research_only: bool = False
    parameters: int = 1


@pytest.fixture(scope="session")
def entry() -> Callable[..., Entry]:
    """Return a maker of pages: `entry("tiny-clip", "clip", "search")`, with more fields by name."""

    def made(name: str, architecture: str, capability: str, **more: object) -> Entry:
        return Entry(name=name, architecture=architecture, capability=capability, **more)

    return made


@pytest.fixture
def torchless(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Return a function that runs code in a process in which torch cannot be imported.

    It takes the code, which fills a dictionary `found` with arrays, the models folder, and arguments, which the code
    finds in `sys.argv[2:]`; it returns those arrays.
    """

    def run(code: str, models: Path, *arguments: object) -> dict[str, np.ndarray]:
        script, answer = tmp_path / "torchless.py", tmp_path / "torchless.npz"
        whole = "\n".join(
            (
                _WITHOUT_TORCH,
                "import numpy as np\nfound = {}",
                textwrap.dedent(code),
                "np.savez(sys.argv[1], **found)",
                "assert not {'torch', 'transformers', 'open_clip'} & set(sys.modules)",
            )
        )
        script.write_text(whole, encoding="utf8")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script), str(answer), *map(str, arguments)],
            env={**os.environ, "NEARSIGHT_MODELS": str(models)},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        with np.load(answer) as arrays:
            return dict(arrays)

    return run
