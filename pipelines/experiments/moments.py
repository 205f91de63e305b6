"""What all estimates rest on: counts, means and products of the units' outcomes, which add up over days.

Outcomes have four columns: numerator, denominator, and the same two of the time before the experiment. A mean
is a ratio whose denominators are 1; a metric without covariate has 0 there. So one formula serves them all.
Every function takes leading axes (runs, days), so that thousands of experiments are one array.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.experiments.declaration import Metric

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Moments of units: `n` (...), `mean` (..., 4), and `spread` (..., 4, 4), the centred products summed."""

    n: Floats
    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, outcomes: Floats) -> Moments:
        """Take the moments of outcomes, shape (..., units, 4)."""
        units = outcomes.shape[-2]
        mean = outcomes.mean(axis=-2) if units else np.zeros((*outcomes.shape[:-2], 4))
        centred = outcomes - mean[..., None, :]
        spread = np.swapaxes(centred, -1, -2) @ centred
        return cls(np.full(outcomes.shape[:-2], float(units)), mean, spread)

    def __add__(self, other: Moments) -> Moments:
        """Join with the moments of other units (Chan et al. 1979: no sums of squares that cancel)."""
        n = self.n + other.n
        apart, share = other.mean - self.mean, other.n / np.maximum(n, 1)
        between = apart[..., :, None] * apart[..., None, :] * (self.n * share)[..., None, None]
        return Moments(n, self.mean + apart * share[..., None], self.spread + other.spread + between)

    def __getitem__(self, place: Any) -> Moments:
        """Take a part of the leading axes, the first of them first."""
        return Moments(self.n[place], self.mean[place], self.spread[place])

    @property
    def covariance(self) -> Floats:
        """Return the sample covariance, (..., 4, 4); NaN below two units."""
        return self.spread / np.where(self.n < 2, np.nan, self.n - 1)[..., None, None]


def read_outcomes(rows: pl.DataFrame, metric: Metric) -> Floats:
    """Lay out a metric's columns, shape (units, 4); an outcome that is null or not finite is a DataError.

    A covariate that is null counts as 0: the unit was not there before, which no arm can have caused.
    """
    asked = (metric.numerator, metric.denominator, metric.covariate, metric.covariate_denominator)
    missing = [name for name in asked if name and name not in rows.columns]
    if missing:
        raise DataError(
            f"the outcomes have no column {', '.join(map(repr, missing))}, which '{metric.name}' reads"
        )
    now = [pl.col(metric.numerator), pl.col(metric.denominator) if metric.denominator else pl.lit(1.0)]
    before = [
        pl.col(name).fill_null(0) if name else pl.lit(standing)
        for name, standing in ((metric.covariate, 0.0), (metric.covariate_denominator, 1.0))
    ]
    columns = [column.cast(pl.Float64).alias(str(place)) for place, column in enumerate(now + before)]
    values = rows.select(columns).to_numpy().astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            f"'{metric.name}' has outcomes that are null or not finite: leave out units without one"
        )
    return values
