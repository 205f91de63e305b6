"""Delays: between an impression and what is done about it, and between an event and its arrival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from pipelines.settings import Frozen
from pipelines.world.streams import SECOND


@dataclass(frozen=True)
class Delay:
    """A mixture in seconds: mostly quick (log-normal), a share of it slow (exponential)."""

    median: float
    spread: float
    slow_share: float
    slow_mean: float

    def sample(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw delays in seconds, shape (count,)."""
        quick = self.median * np.exp(self.spread * rng.standard_normal(count))
        slow = rng.exponential(self.slow_mean, count)
        return np.where(rng.random(count) < self.slow_share, slow, quick)

    def read(self, dice: NDArray[np.float64]) -> NDArray[np.float64]:
        """Read delays in seconds off dice, two each: shape (n, 2) to (n,)."""
        from scipy.special import ndtri

        quick = self.median * np.exp(self.spread * ndtri(dice[:, 1]))
        return np.where(dice[:, 0] < self.slow_share, -self.slow_mean * np.log1p(-dice[:, 1]), quick)


class Delivery(Frozen):
    """How events reach the platform: some late, some twice, a few of them spoiled on the way."""

    late_share: float = Field(default=0.02, ge=0, le=1)
    late_hours: float = Field(default=6.0, gt=0)
    duplicate_share: float = Field(default=0.001, ge=0, le=1)
    malformed_share: float = Field(default=0.0001, ge=0, le=1)


AT_ONCE = Delivery(late_share=0, duplicate_share=0, malformed_share=0)


def deliver(
    rows: pl.DataFrame, time: str, how: Delivery, rng: np.random.Generator, spoil: str | None = None
) -> pl.DataFrame:
    """Add `arrived_at`, repeat the duplicates (a little later), and empty `spoil` in malformed rows."""
    count = rows.height
    quick = Delay(median=2.0, spread=0.8, slow_share=how.late_share, slow_mean=how.late_hours * 3600)
    twice = np.flatnonzero(rng.random(count) < how.duplicate_share)
    rows = rows.with_columns(_after(time, quick.sample(count, rng)).alias("arrived_at"))
    if spoil is not None:
        sound = pl.Series(rng.random(count) >= how.malformed_share)
        rows = rows.with_columns(pl.when(sound).then(pl.col(spoil)).alias(spoil))
    if not len(twice):
        return rows
    later = _after("arrived_at", rng.exponential(60.0, len(twice)))
    again = rows[twice].with_columns(later.alias("arrived_at"))
    return pl.concat([rows, again])


def _after(time: str, seconds: NDArray[np.float64]) -> pl.Expr:
    return pl.col(time) + pl.Series((seconds * SECOND).astype(np.int64)).cast(pl.Duration("us"))


def instants(time: NDArray[np.int64]) -> pl.Series:
    """Write world times as UTC datetimes."""
    return pl.Series(time, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
