"""Sources that tell no times: their rows are kept, judged without an order, and watched by nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest
from tiny import START, tiny_tables

from pipelines.case_study import Batch, CaseStudy, Framing, Label, Observed
from pipelines.cases.video_recommendation.tables import VideoActions
from pipelines.errors import DataError
from pipelines.settings import Alarms, Platform
from pipelines.steps import monitor as room
from pipelines.steps.ingest import ingest
from pipelines.steps.quarantine import replay_quarantine, show_quarantine
from pipelines.steps.split import first_moment, has_times
from pipelines.stores.dataset import open_dataset
from pipelines.stores.schemas import Utc
from pipelines.stores.workspace import Workspace

END = START + timedelta(days=9)
UNTIMED = Observed(times=False)


class Deeds(VideoActions):
    """Actions of a case whose sources may tell no times."""

    action_time: Utc = pa.Field(nullable=True)


@pytest.fixture
def untimed(case: CaseStudy) -> CaseStudy:
    """A case that allows it, and labels each action."""
    tables = tuple(replace(each, schema=Deeds) if each.name == "actions" else each for each in case.tables)
    label = Label(
        ("action_id",), "action_time", ("actions",), lambda rows, _: rows["actions"].mutate(label=1)
    )
    framing = Framing("", "", "", timedelta(days=1), "")
    return replace(case, tables=tables, label=label, framing=framing)


def deeds(*, timed: bool) -> Batch:
    rows = tiny_tables()["actions"]
    return Batch("actions", rows if timed else rows.with_columns(action_time=None), "deeds.csv")


def read(case: CaseStudy, ws: Workspace, batch: Batch, observed: Observed | None) -> Any:
    return ingest(case, ws, [batch], source="deeds", as_of=END, observed=observed).total


def test_rows_without_a_time_need_a_source_that_tells_none(untimed: CaseStudy, ws: Workspace) -> None:
    assert read(untimed, ws, deeds(timed=False), None).quarantined == 12
    (problem,) = next(iter(show_quarantine(ws)))["problems"]
    assert problem == {"field": "action_time", "reason": "is null"}
    assert read(untimed, ws, deeds(timed=False), UNTIMED).kept == 12
    with pytest.raises(DataError, match="'action_time' has values, but deeds does not observe it"):
        read(untimed, ws, deeds(timed=True), UNTIMED)


def test_what_had_no_time_when_it_came_needs_none_to_come_back(untimed: CaseStudy, ws: Workspace) -> None:
    spoilt = deeds(timed=False)
    first = pl.int_range(pl.len()) == 0
    action = pl.when(first).then(pl.lit("stare")).otherwise("action")
    assert (
        read(untimed, ws, replace(spoilt, rows=spoilt.rows.with_columns(action=action)), UNTIMED).quarantined
        == 1
    )
    for path in (ws.quarantine / "actions").glob("*.jsonl"):
        path.write_text(path.read_text().replace('"stare"', '"watch"'))
    assert replay_quarantine(untimed, ws, END).total.kept == 1


def test_only_a_data_set_without_an_order_of_time_holds_them(untimed: CaseStudy, ws: Workspace) -> None:
    read(untimed, ws, deeds(timed=False), UNTIMED)
    for timeless, rows in ((True, 12), (False, 0)):
        found = open_dataset(untimed, ws, START, END, 0, Platform(), timeless=timeless)
        assert found.table("actions").select(pl.len()).collect().item() == rows
        assert found.labels().height == rows
    assert not has_times(untimed, ws)
    with pytest.raises(DataError, match="no dated rows"):
        first_moment(untimed, ws)


def test_dated_rows_outside_the_window_stay_outside(untimed: CaseStudy, ws: Workspace) -> None:
    read(untimed, ws, deeds(timed=True), None)
    found = open_dataset(untimed, ws, START + timedelta(days=1), END, 0, Platform(), timeless=True)
    assert found.table("actions").select(pl.col("action_time").min()).collect().item() > found.start
    assert 0 < found.labels().height == found.table("actions").select(pl.len()).collect().item() < 12


def test_monitoring_says_that_there_are_no_days(
    untimed: CaseStudy, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(untimed, ws, deeds(timed=False), UNTIMED)
    monkeypatch.setattr(room, "read_manifest", lambda folder: {"digest": "d"})
    monkeypatch.setattr(room, "read_record", lambda folder: {})
    verdict = room.monitor(untimed, ws, END, Alarms(), Platform())
    assert (verdict.level, verdict.status) == ("none", "no_times")
    assert verdict.summary() == "drift: none (no times)"
    assert (ws.monitor / "verdict.json").is_file()
