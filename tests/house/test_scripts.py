"""Bench and eval are scripts that nothing else imports; they must at least start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("script", ["bench", "eval"])
def test_a_script_tells_its_parts(script, root):
    done = subprocess.run(
        [sys.executable, "-m", script, "--help"], cwd=root, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "--part" in done.stdout
