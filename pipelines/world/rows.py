"""Rows as worlds write them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.world.delays import instants


def words(names: Sequence[str | None], codes: NDArray[np.int64]) -> pl.Series:
    """Write codes as the words they stand for; negative ones count from the end."""
    return pl.Series(names, dtype=pl.String).gather(codes % len(names))


def actions(
    base: pl.DataFrame, word: str, time: NDArray[np.int64], value: NDArray[np.float64] | None = None
) -> pl.DataFrame:
    """Write an action on each impression of `base`, at a world time; the other columns of `base` follow."""
    nothing = pl.lit(None, pl.Float64).alias("value")
    return base.select(
        pl.format("{}-{}", "impression_id", pl.lit(word)).alias("action_id"),
        "impression_id",
        pl.lit(word).alias("action"),
        nothing if value is None else pl.Series("value", value),
        instants(time).alias("action_time"),
        pl.exclude("impression_id"),
    )
