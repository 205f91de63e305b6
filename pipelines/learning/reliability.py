"""Reliability: do things that are predicted at 30 % happen 30 % of the time?"""

from __future__ import annotations

import numpy as np

Z95 = 1.96


def reliability(predicted: np.ndarray, outcomes: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Group predictions by their quantiles and compare each group's mean with its outcomes, shape (n,) both.

    Return one row a group: predicted, observed, Wilson's 95 % interval of the observed share, and n.
    """
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
    groups = np.searchsorted(edges, predicted, side="left")
    rows = []
    for group in np.unique(groups):
        inside = groups == group
        n = int(inside.sum())
        observed = float(outcomes[inside].mean())
        low, high = wilson(observed, n)
        rows.append(
            {
                "predicted": float(predicted[inside].mean()),
                "observed": observed,
                "low": low,
                "high": high,
                "n": n,
            }
        )
    return rows


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share that was seen in n."""
    scale = 1 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / scale
    half = Z95 / scale * float(np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n)))
    return centre - half, centre + half
