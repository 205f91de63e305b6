"""How ratings are divided for judging: k-core, a share of time, a share of each user."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipelines.errors import DataError


def k_core(pairs: pl.DataFrame, k: int, user: str = "user_id", item: str = "item_id") -> pl.DataFrame:
    """Keep, of distinct pairs, the largest part in which every user and every item has at least k."""
    while True:
        kept = pairs.filter(pl.len().over(user) >= k)
        kept = kept.filter(pl.len().over(item) >= k)
        if kept.height == pairs.height:
            return kept
        pairs = kept


def moment_at_share(times: pl.Series, share: float) -> datetime:
    """Return the midnight (UTC) nearest to the moment by which a share of the events had come.

    Features are stamped with midnights, so a cut at one loses nothing. Where that midnight would leave
    one side empty (all events on one day), the moment itself is returned.
    """
    ordered = times.drop_nulls().sort()
    if ordered.is_empty():
        raise DataError(
            f"no row with a time in '{times.name}' could be used: there is nothing to divide; `loop quarantine list` "
            "says why"
        )
    exact: datetime = ordered[min(int(share * len(ordered)), len(ordered) - 1)]
    midnight = (exact + timedelta(hours=12)).replace(hour=0, minute=0, second=0, microsecond=0)
    first: datetime = ordered[0]
    last: datetime = ordered[-1]
    return midnight if first < midnight <= last else exact


def hold_out_share(pairs: pl.DataFrame, share: float, seed: int, user: str = "user_id") -> pl.DataFrame:
    """Draw a share of each user's rows at random (rounded, at least one of two or more).

    The rows are sorted first, so that their order decides nothing.
    """
    ordered = pairs.sort(pairs.columns)
    chance = pl.Series("_chance", np.random.default_rng(seed).random(ordered.height))
    place = pl.col("_chance").rank("ordinal").over(user)
    total = pl.len().over(user)
    wanted = (total * share).round().cast(pl.Int64).clip(1, None)
    drawn = ordered.with_columns(chance).filter((place <= wanted) & (total > 1))
    return drawn.select(pairs.columns)
