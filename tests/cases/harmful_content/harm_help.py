"""A small world of posts, and its log: what the tests of harmful content share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.cases.harmful_content.population import HarmWorld, Posts
from pipelines.cases.harmful_content.world import WORLD
from pipelines.world.state import world_day

START = datetime(2026, 1, 5, tzinfo=UTC)
QUIET = {"late_share": 0, "duplicate_share": 0, "malformed_share": 0}
"""Delivery without faults."""
SMALL: dict[str, Any] = {"authors": 600, "tenure_days": 15, "audit": 0.5, "delivery": QUIET}

Log = dict[str, pl.DataFrame]


def draw(folder: Path, days: int = 6, seed: int = 3, **changes: object) -> Log:
    """Draw a world's log, a frame a table."""
    tables: dict[str, list[pl.DataFrame]] = {}
    params = HarmWorld.model_validate({**SMALL, **changes})
    for batch in WORLD.rows(params, seed, START, days, folder):
        tables.setdefault(batch.table, []).append(batch.rows)
    return {table: pl.concat(rows) for table, rows in tables.items()}


def posts(seed: int = 3, **changes: object) -> Posts:
    """Open the same world's truth."""
    return Posts(HarmWorld.model_validate({**SMALL, **changes}), seed, world_day(START))
