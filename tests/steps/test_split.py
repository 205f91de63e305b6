"""What a protocol divides is what was known at its moment: what comes later moves nobody to the other side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import stub_case
from stub_case import AS_OF, CASE

from pipelines.settings import Platform
from pipelines.steps.split import split
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

DAY = timedelta(days=1)
THEN = AS_OF - 10 * DAY


def middle(tables: Mapping[str, pl.LazyFrame]) -> datetime:
    """Split at the midnight after the middle reading."""
    found = tables["readings"].select(pl.col("read_at").median()).collect().item()
    return found.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC) + DAY


PROTOCOLS = {**CASE.protocols, "time": replace(CASE.protocols["time"], split=middle)}


@pytest.mark.parametrize("protocol", ["time", "random", "logged"])
def test_what_was_not_known_yet_moves_nobody(stub: None, tmp_path: Path, protocol: str) -> None:
    case = replace(CASE, protocols=PROTOCOLS)
    rows = stub_case.readings(a_day=20)
    late = (pl.int_range(pl.len()) % 3 == 0) & (pl.col("read_at") < THEN)
    rows = rows.with_columns(arrived_at=pl.when(late).then(THEN + DAY).otherwise("arrived_at"))
    known = rows.filter((pl.col("read_at") < THEN) & (pl.col("arrived_at") < THEN))
    assert 0 < known.height < rows.filter(pl.col("read_at") < THEN).height
    sides = []
    for name, held in (("then", known), ("now", rows)):
        ws = Workspace(tmp_path / name / "breakdown")
        Lake(ws.lake, case.tables).append("readings", held)
        divided = split(case, ws, THEN, stub_case.params(), Platform(), protocol)
        both = (divided.train, divided.test)
        sides.append([(each.start, each.end, sorted(each.labels()["reading_id"])) for each in both])
        assert all(labels for _, _, labels in sides[-1])
    assert sides[0] == sides[1]
