"""Quarantine: what is corrected passes on replay, what is not stays, and the counts balance."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest
from tiny import tiny_batches, tiny_tables

from pipelines.case_study import SPOILED, Batch, CaseStudy
from pipelines.cases.video_recommendation.tables import VideoImpressions
from pipelines.errors import DataError, UsageError
from pipelines.steps.ingest import Rows, ingest, manifests
from pipelines.steps.quarantine import Problems, list_quarantine, replay_quarantine, show_quarantine
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def bad(case: CaseStudy, ws: Workspace) -> None:
    """Three impressions and a video that cannot be used, among good rows."""
    spoiled = []
    for batch in tiny_batches():
        rows = batch.rows
        row = pl.int_range(pl.len())
        if batch.table == "impressions":
            rows = rows.with_columns(
                propensity=pl.when(row < 2).then(7.25).otherwise("propensity"),
                position=pl.when(row == 5).then(pl.lit("top")).otherwise(pl.col("position").cast(pl.String)),
            )
        if batch.table == "videos":
            rows = rows.with_columns(
                duration_seconds=pl.when(row == 2).then(-1.0).otherwise("duration_seconds")
            )
        spoiled.append(replace(batch, rows=rows))
    ingest(case, ws, spoiled, source="tiny", as_of=AS_OF)


def correct(ws: Workspace, table: str, wrong: str, right: str) -> None:
    """Do what a person does in an editor."""
    for path in (ws.quarantine / table).glob("*.jsonl"):
        path.write_text(path.read_text().replace(wrong, right))


def test_list_counts_by_problem(ws: Workspace, bad: None) -> None:
    assert list_quarantine(ws) == [
        Problems("impressions", "tiny", "propensity", "fails less_than_or_equal_to(1)", 2),
        Problems("impressions", "tiny", "position", "cannot be read as Int32", 1),
        Problems("videos", "tiny", "duration_seconds", "fails greater_than(0)", 1),
    ]


def test_show_gives_the_row_as_it_came(ws: Workspace, bad: None) -> None:
    [video] = show_quarantine(ws, "videos")
    assert video["origin"] == "videos.csv"
    assert video["row_number"] == 3
    assert video["row"]["genres"] == ["Drama"]
    assert video["row"]["arrived_at"] == "2025-12-23T04:00:00.000000+00:00"
    assert len(show_quarantine(ws, limit=2)) == 2
    assert len(show_quarantine(ws, limit=None)) == 4


def test_show_names_the_nearest_table(ws: Workspace, bad: None) -> None:
    with pytest.raises(UsageError, match="did you mean 'videos'"):
        show_quarantine(ws, "video")


def test_an_empty_quarantine_is_no_error(case: CaseStudy, ws: Workspace) -> None:
    assert list_quarantine(ws) == []
    assert show_quarantine(ws) == []
    assert replay_quarantine(case, ws, AS_OF).total == Rows()


def test_replay_without_correction_changes_nothing(case: CaseStudy, ws: Workspace, bad: None) -> None:
    files = {path: path.read_bytes() for path in ws.quarantine.rglob("*.jsonl")}
    digest = Lake(ws.lake, case.tables).digest()
    assert replay_quarantine(case, ws, AS_OF).total == Rows(read=4, quarantined=4)
    assert {path: path.read_bytes() for path in ws.quarantine.rglob("*.jsonl")} == files
    assert Lake(ws.lake, case.tables).digest() == digest


def test_corrected_rows_leave_quarantine_and_the_lake_is_as_if_never_spoiled(
    case: CaseStudy, ws: Workspace, bad: None, tmp_path: Any
) -> None:
    correct(ws, "impressions", '"position":"top"', '"position":"3"')
    one = replay_quarantine(case, ws, AS_OF, "impressions")
    assert one.total == Rows(read=3, kept=1, quarantined=2)
    rows = tiny_tables()["impressions"]
    for old, new in zip((7.25, 7.25), rows["propensity"][:2], strict=True):
        lines = next((ws.quarantine / "impressions").glob("*.jsonl"))
        lines.write_text(lines.read_text().replace(f'"propensity":{old}', f'"propensity":{new}', 1))
    assert replay_quarantine(case, ws, AS_OF, "impressions").total == Rows(read=2, kept=2)
    assert not list((ws.quarantine / "impressions").glob("*"))
    correct(ws, "videos", '"duration_seconds":-1.0', '"duration_seconds":62.0')
    last = replay_quarantine(case, ws, AS_OF)
    assert last.total == Rows(read=1, kept=1)
    clean = Workspace(tmp_path / "runs" / "clean")
    assert last.digest == ingest(case, clean, tiny_batches(), source="tiny", as_of=AS_OF).digest
    kept = sum(each["total"]["kept"] for each in manifests(ws))
    assert kept == sum(rows.height for rows in tiny_tables().values())


def test_replay_after_the_schema_was_corrected(case: CaseStudy, ws: Workspace, bad: None) -> None:
    class Lenient(VideoImpressions):
        propensity: float = pa.Field(nullable=True, gt=0, le=10)

    tables = tuple(
        replace(each, schema=Lenient) if each.name == "impressions" else each for each in case.tables
    )
    manifest = replay_quarantine(replace(case, tables=tables), ws, AS_OF)
    assert manifest.tables["impressions"] == Rows(read=3, kept=2, quarantined=1)
    assert manifest.tables["videos"] == Rows(read=1, quarantined=1)


def test_a_corrected_row_whose_key_stands_is_a_duplicate(case: CaseStudy, ws: Workspace, bad: None) -> None:
    ingest(case, ws, tiny_batches(), source="again", as_of=AS_OF)
    correct(ws, "videos", "-1.0", "5.0")
    assert replay_quarantine(case, ws, AS_OF, "videos").total == Rows(read=1, duplicate=1)


def test_a_column_that_does_not_exist_keeps_the_row(case: CaseStudy, ws: Workspace, bad: None) -> None:
    correct(ws, "videos", '"duration_seconds":-1.0', '"duration":5.0')
    assert replay_quarantine(case, ws, AS_OF, "videos").total == Rows(read=1, quarantined=1)
    [video] = show_quarantine(ws, "videos")
    assert video["problems"] == [
        {"field": "duration", "reason": "is not a column of videos: did you mean 'duration_seconds'?"}
    ]


def test_a_row_that_is_spoiled_as_a_whole_passes_only_once_it_was_edited(
    case: CaseStudy, ws: Workspace
) -> None:
    """What is wrong with its line is in no column, so nothing else would keep it out."""
    (videos,) = (batch for batch in tiny_batches() if batch.table == "videos")
    why = pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("the line has more fields than the header"))
    ingest(
        case,
        ws,
        [replace(videos, rows=videos.rows.with_columns(why.alias(SPOILED)))],
        source="x",
        as_of=AS_OF,
    )
    [shown] = show_quarantine(ws)
    assert shown["problems"] == [{"field": "(line)", "reason": "the line has more fields than the header"}]
    assert SPOILED not in shown["row"]
    assert replay_quarantine(case, ws, AS_OF).total == Rows(read=1, quarantined=1)
    assert show_quarantine(ws) == [shown]
    correct(ws, "videos", json.dumps(shown["row"]["title"]), '"mended"')
    assert replay_quarantine(case, ws, AS_OF).total == Rows(read=1, kept=1)
    assert show_quarantine(ws) == []


def test_a_line_that_is_no_json_is_named(case: CaseStudy, ws: Workspace, bad: None) -> None:
    digest = Lake(ws.lake, case.tables).digest()
    correct(ws, "videos", "{", "")
    with pytest.raises(DataError, match=r"videos/.*\.jsonl, line 1 is not a quarantined row"):
        replay_quarantine(case, ws, AS_OF)
    assert Lake(ws.lake, case.tables).digest() == digest


def test_replay_keeps_the_zone_that_the_source_declared(case: CaseStudy, ws: Workspace) -> None:
    rows = tiny_tables()["actions"].with_columns(
        action_time=pl.col("action_time").dt.replace_time_zone(None), action=pl.lit("look")
    )
    batch = Batch("actions", rows, "actions.csv")
    assert ingest(case, ws, [batch], source="tiny", as_of=AS_OF, zone="Asia/Tokyo").total.quarantined == 12
    correct(ws, "actions", '"action":"look"', '"action":"click"')
    assert replay_quarantine(case, ws, AS_OF).total == Rows(read=12, kept=12)
    first = Lake(ws.lake, case.tables).scan("actions").collect()["action_time"].min()
    assert first == datetime(2025, 12, 31, 18, 1, tzinfo=UTC)


def test_many_rows_with_one_fault_stay_and_hold_up_no_others(case: CaseStudy, ws: Workspace) -> None:
    """In quarantine the bad rows of a file are all that is left of it: that says nothing of the file."""
    rows, row = tiny_tables(requests_a_day=40)["impressions"], pl.int_range(pl.len())
    text = pl.when(row < 25).then(pl.lit("top")).otherwise(pl.col("position").cast(pl.String))
    spoilt = rows.with_columns(position=text)
    ingest(case, ws, [Batch("impressions", spoilt, "impressions.csv")], source="tiny", as_of=AS_OF)
    correct(ws, "impressions", f'"{rows["impression_id"][3]}"', '"corrected"')
    first = next((ws.quarantine / "impressions").glob("*.jsonl"))
    lines = first.read_text().splitlines()
    fixed = [line.replace('"top"', "1") if "corrected" in line else line for line in lines]
    first.write_text("\n".join(fixed) + "\n")
    assert replay_quarantine(case, ws, AS_OF).total == Rows(read=25, kept=1, quarantined=24)


def test_rows_from_the_future_stay(case: CaseStudy, ws: Workspace, bad: None) -> None:
    correct(ws, "videos", "-1.0", "5.0")
    assert replay_quarantine(case, ws, datetime(2025, 12, 1, tzinfo=UTC), "videos").total.quarantined == 1
    [video] = show_quarantine(ws, "videos")
    assert video["problems"][0]["field"] == "arrived_at"
