"""The one way in which chances are fitted here without torch: logistic functions, by Newton's method."""

from __future__ import annotations

import numpy as np

RIDGE = 1e-3  # holds the weights where the samples alone would not
STEPS = 50


def logistic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slopes and intercept (k + 1,) of the likeliest logistic function from x (n, k) to y (n,) of 0 and 1."""
    columns = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weights = np.zeros(columns.shape[1])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(columns @ weights, -60, 60)))
        slope = columns.T @ (p - y) + RIDGE * weights
        weights -= np.linalg.solve((columns * (p * (1 - p))[:, None]).T @ columns + RIDGE * np.eye(len(weights)), slope)
    return weights
