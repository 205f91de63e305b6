"""A small world and its log: what tests of worlds share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.cases.video_recommendation.world import WORLD, VideoWorld

START = datetime(2026, 1, 5, tzinfo=UTC)
SMALL = {"users": 300, "videos": 200, "shelf_days": 8, "burn_in_days": 8, "tenure_days": 20}

QUIET = {"late_share": 0, "duplicate_share": 0, "malformed_share": 0}
"""Delivery without faults."""

Log = dict[str, pl.DataFrame]


def draw(folder: Path, days: int = 4, seed: int = 3, start: datetime = START, **changes: object) -> Log:
    """Draw a world's log, a frame a table."""
    tables: dict[str, list[pl.DataFrame]] = {}
    params = VideoWorld.model_validate({**SMALL, **changes})
    for batch in WORLD.rows(params, seed, start, days, folder):
        tables.setdefault(batch.table, []).append(batch.rows)
    return {table: pl.concat(rows) for table, rows in tables.items()}


def labelled(log: Log) -> pl.DataFrame:
    """Join the label to each impression: at least half watched within 24 hours."""
    seen = log["actions"].filter((pl.col("action") == "watch") & (pl.col("value") >= 0.5))
    soon = pl.col("action_time") - pl.col("impression_time") <= pl.duration(hours=24)
    good = (
        log["impressions"]
        .join(seen.select("impression_id", "action_time"), on="impression_id")
        .filter(soon)
        .select("impression_id", label=pl.lit(1.0))
        .unique()
    )
    return (
        log["impressions"]
        .join(good, on="impression_id", how="left", maintain_order="left")
        .with_columns(pl.col("label").fill_null(0.0))
    )
