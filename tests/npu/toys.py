"""The smallest model there is: x (n, 6) @ WEIGHTS -> y (n, 4)."""

from __future__ import annotations

import numpy as np

WEIGHTS = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
X = np.ones((1, 6), np.float32)
