"""Arithmetic that worlds share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def sigmoid(logit: Floats) -> Floats:
    """Turn logits into probabilities."""
    return 1 / (1 + np.exp(-logit))


def unit(vectors: Floats) -> Floats:
    """Scale each row to length 1."""
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def product(left: Floats, right: Floats) -> Floats:
    """Multiply matrices to the same last bit on any number of cores, as `@` does not."""
    found: Floats = np.einsum("nd,dm->nm", left, right)
    return found


def turned(taste: Floats, share: Floats, turn: Floats) -> Floats:
    """Turn tastes (n, d) a share (n,) of the way by an orthogonal matrix (d, d)."""
    if not share.any():
        return taste
    part = share[:, None]
    return unit((1 - part) * taste + part * product(taste, turn))
