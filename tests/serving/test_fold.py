"""However actions arrive (again, late, in any order, in any batches, read in any turns), the lake is the same."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from log_help import file_log
from tiny import START, tiny_case, tiny_tables

from pipelines.steps.ingest import ingest_log
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

CASE = tiny_case()
SENT = tiny_tables(days=4)["actions"]
HOURS = 12
BEGIN = START + timedelta(days=30)

Delivery = tuple[int, int]
"""Which action comes, and at which hour."""


@st.composite
def deliveries(draw: st.DrawFn) -> list[Delivery]:
    """Deliver every action once or more, in the order of the hours; within an hour in any order."""
    times = st.lists(st.integers(0, HOURS - 1), min_size=1, max_size=3)
    drawn = [(number, hour) for number in range(SENT.height) for hour in draw(times)]
    return sorted(draw(st.permutations(drawn)), key=lambda each: each[1])


def rows(some: list[Delivery]) -> pl.DataFrame:
    """Lay out what came: rows as they were sent, but for when they arrived."""
    arrived = [BEGIN + timedelta(hours=hour) for _, hour in some]
    return SENT[[number for number, _ in some]].with_columns(
        arrived_at=pl.Series(arrived, dtype=SENT.schema["arrived_at"])
    )


def digest(folder: Path, came: list[Delivery], cuts: set[int], turns: set[int]) -> str:
    """Append to a log, split at the cuts; ingest after the turns' hours, and at the end; return the lake's digest."""
    ws = Workspace(folder / "live" / "tiny")
    with file_log(ws) as log:
        for hour in range(HOURS):
            batch: list[Delivery] = []
            for place, each in enumerate(came):
                if each[1] != hour:
                    continue
                batch.append(each)
                if place in cuts:
                    log.append("actions", rows(batch))
                    batch = []
            if batch:
                log.append("actions", rows(batch))
            if hour in turns:
                ingest_log(CASE, ws, log, as_of=BEGIN + timedelta(hours=hour, minutes=1))
        ingest_log(CASE, ws, log, as_of=BEGIN + timedelta(hours=HOURS))
    lake = Lake(ws.lake, CASE.tables)
    assert sorted(lake.scan("actions").collect()["action_id"]) == sorted(SENT["action_id"])
    return lake.digest()


@settings(max_examples=6)
@given(deliveries(), st.sets(st.integers(0, 3 * SENT.height)), st.sets(st.integers(0, HOURS - 1), max_size=3))
def test_the_lake_does_not_tell_how_actions_came(
    came: list[Delivery], cuts: set[int], turns: set[int]
) -> None:
    first: dict[int, int] = {}
    for number, hour in came:
        first.setdefault(number, hour)
    once = sorted(first.items(), key=lambda each: (each[1], each[0]))
    with tempfile.TemporaryDirectory() as folder:
        clean = digest(Path(folder) / "clean", once, set(), set())
        assert digest(Path(folder) / "faulty", came, cuts, turns) == clean
