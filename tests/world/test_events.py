"""A world without slates: its days come out alike at once, one by one, and after a late arrival."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from pipelines.world.engine import run_events
from pipelines.world.state import midnight

START = datetime(2026, 1, 5, tzinfo=UTC)


class Bells:
    """Each day a bell is born and one rings, heard a day and a half later."""

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        return {"bells": pl.DataFrame({"bell": [day], "old": [first], "arrived_at": [midnight(day)]})}

    def happen(self, day: int) -> Mapping[str, pl.DataFrame]:
        heard = midnight(day) + timedelta(hours=36)
        return {"rings": pl.DataFrame({"bell": [day], "arrived_at": [heard]})}


def draw(folder: Path, days: int, start: datetime = START) -> dict[str, pl.DataFrame]:
    parts: dict[str, list[pl.DataFrame]] = {}
    for batch in run_events(Bells(), {}, 0, start, days, folder):
        parts.setdefault(batch.table, []).append(batch.rows)
    return {table: pl.concat(rows) for table, rows in parts.items()}


def test_days_one_by_one_are_the_days_at_once(tmp_path: Path) -> None:
    whole = draw(tmp_path / "a", 4)
    assert whole["bells"]["old"].to_list() == [True, False, False, False]
    assert whole["rings"].height == 3  # the last one is still on its way
    singly = [draw(tmp_path / "b", 1, START + timedelta(days=day)) for day in range(4)]
    for table, rows in whole.items():
        assert_frame_equal(rows, pl.concat([day[table] for day in singly if table in day]))
