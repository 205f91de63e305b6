"""Position bias: how likely each place of a slate is looked at.

Under the position-based model (Richardson et al. 2007; Craswell et al. 2008) P(label) =
examination(position) · relevance. Slates drawn uniformly at random tell the examination curve without
bias, as any item may stand anywhere (Joachims, Swaminathan & Schnabel 2017); its logarithm is then an
offset of the logit while learning, and left out when answering. A position given as a feature would
leave it to the trees how much of a popular item's success its place explains.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def explored_curve(labels: pl.DataFrame) -> Floats:
    """Estimate the examination curve from labelled impressions: those with a position that were `explored`."""
    explored = labels.filter(pl.col("explored").fill_null(False) & pl.col("position").is_not_null())
    return examination_curve(
        explored["position"].cast(pl.Int64).to_numpy(), explored["label"].cast(pl.Float64).to_numpy()
    )


def examination_curve(positions: Ints, labels: Floats, strength: float = 50.0) -> Floats:
    """Estimate how likely each position is examined, relative to the first, from uniformly random slates.

    Returns shape (last position,), non-increasing (pool adjacent violators), 1 at the first. Rates are
    shrunk towards their mean by `strength` examples, so that a short log yields a flat curve.
    """
    if not len(positions):
        return np.ones(1)
    last = int(positions.max())
    shown = np.bincount(positions, minlength=last + 1)[1:].astype(np.float64)
    taken = np.bincount(positions, labels, minlength=last + 1)[1:]
    mean = taken.sum() / max(shown.sum(), 1.0)
    if mean == 0:
        return np.ones(last)
    rate = _non_increasing((taken + strength * mean) / (shown + strength), shown + strength)
    return np.maximum(rate / rate[0], 1e-3)


def position_offset(rows: pl.DataFrame, curve: Floats) -> Floats:
    """Return what the `position` of rows adds to the logit, (n,): 0 where it is unknown."""
    if "position" not in rows.columns:
        return np.zeros(rows.height)
    positions = rows["position"].cast(pl.Int64)
    place = positions.fill_null(1).clip(1, len(curve)).to_numpy() - 1
    return np.where(positions.is_null().to_numpy(), 0.0, np.log(curve[place]))


def _non_increasing(values: Floats, weights: Floats) -> Floats:
    """Fit a non-increasing sequence by pooling adjacent violators."""
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, wa, na), (b, wb, nb) = blocks[-2:]
            blocks[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, na + nb)]
    return np.concatenate([np.full(count, value) for value, _, count in blocks])
