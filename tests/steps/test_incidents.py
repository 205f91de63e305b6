"""Columns that break upstream: found, named with figure and day, and released; worlds that only drift have none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import stub_case
from stub_case import AS_OF, DAY

from pipelines import catalog
from pipelines.steps.incidents import Incident, find_incidents, watched_columns, watched_tables
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace
from pipelines.world.scenarios import SCENARIOS

START = datetime(2026, 1, 1, tzinfo=UTC)
LEARNED, BROKEN, END = (START + timedelta(days=days) for days in (14, 17, 25))
SMALL = {
    "video_recommendation": {"users": 300, "videos": 400, "burn_in_days": 1},
    "ad_click": {"users": 300, "ads": 200, "burn_in_days": 1},
    "harmful_content": {"authors": 200},
}
STRUCK = {
    ("video_recommendation", "broken_units"): "videos.duration_seconds",
    ("video_recommendation", "broken_nulls"): "requests.device",
    ("ad_click", "broken_units"): "ads.bid",
    ("ad_click", "broken_nulls"): "requests.device",
    ("harmful_content", "broken_units"): "requests.audience",
    ("harmful_content", "broken_nulls"): "requests.client",
}
ELSEWHERE = ("season", "covariate", "flood", "broken_units", "broken_nulls", "bots")
WORLDS = [
    *(("video_recommendation", each) for each in SCENARIOS),
    *((name, each) for name in ("ad_click", "harmful_content") for each in ELSEWHERE),
]


def stub_incidents(ws: Workspace, until: datetime = AS_OF) -> tuple[Incident, ...]:
    return find_incidents(stub_case.CASE, ws, AS_OF - 27 * DAY, AS_OF - 10 * DAY, until)


def readings(root: Path, first: int, last: int) -> Workspace:
    """Fill a lake with readings, 1000 times as hot on the days [first, last) before AS_OF."""
    ws = Workspace(root / "runs" / "breakdown")
    day = (pl.lit(AS_OF) - pl.col("read_at")).dt.total_days()
    hot = day.is_between(last, first, closed="right")
    heat = pl.when(hot).then(pl.col("heat") * 1000).otherwise(pl.col("heat"))
    Lake(ws.lake, stub_case.CASE.tables).append("readings", stub_case.readings().with_columns(heat=heat))
    return ws


def test_an_open_incident_names_column_figure_day_and_rows(tmp_path: Path) -> None:
    (found,) = stub_incidents(readings(tmp_path, 3, -1))
    assert (found.since, found.until) == (date(2026, 2, 25), None)
    assert found.rows == pytest.approx(4 * 60, rel=0.05)
    assert "readings.heat is broken upstream since 2026-02-25: " in found.words
    assert f"% of the values came × 1,000, as in another unit ({found.rows} rows struck)" in found.words
    assert found.as_json()["since"] == "2026-02-25"


def test_it_is_released_when_the_column_has_been_well_for_two_days(tmp_path: Path) -> None:
    ws = readings(tmp_path, 5, 2)
    assert stub_incidents(ws, AS_OF - 3 * DAY)[0].until is None
    assert stub_incidents(ws, AS_OF - 2 * DAY)[0].until is None
    (found,) = stub_incidents(ws, AS_OF)
    assert (found.since, found.until) == (date(2026, 2, 23), date(2026, 2, 26))
    assert "was broken upstream from 2026-02-23 until 2026-02-26" in found.words


def thinned(root: Path, kept: pl.Expr, broken: pl.Expr) -> Workspace:
    """Fill a lake with the readings that are `kept`, by the days before AS_OF, 1000 times as hot where `broken`."""
    ws = Workspace(root / "runs" / "breakdown")
    day = pl.lit(AS_OF.date()) - pl.col("read_at").dt.date()
    rows = stub_case.readings().with_columns(ago=day.dt.total_days())
    heat = pl.when(broken).then(pl.col("heat") * 1000).otherwise(pl.col("heat"))
    rows = rows.with_columns(heat=heat).filter(kept).drop("ago")
    Lake(ws.lake, stub_case.CASE.tables).append("readings", rows)
    return ws


def judged(ws: Workspace, ago: int) -> Incident:
    learned = AS_OF - 21 * DAY
    (found,) = find_incidents(stub_case.CASE, ws, AS_OF - 28 * DAY, learned, AS_OF - ago * DAY)
    return found


def test_a_feed_that_stops_is_held_for_two_weeks_and_not_for_good(tmp_path: Path) -> None:
    """Two broken days, then seven rows in all: nobody can tell whether the column is well."""
    few = (pl.col("ago") == 17) & (pl.int_range(pl.len()).over("ago") < 7)
    ws = thinned(tmp_path, (pl.col("ago") > 18) | few, pl.col("ago").is_in([19, 20]))
    for ago, missing in ((18, 20), (16, 13), (5, 13)):
        found = judged(ws, ago)
        assert (found.until, found.missing) == (None, missing), f"{ago} days before the end"
    assert found.words.endswith("rows struck), until well rows release it: 13 more, of 2 days at least")
    found = judged(ws, 4)
    assert (found.since, found.until) == (date(2026, 2, 9), date(2026, 2, 11))
    assert "was broken upstream from 2026-02-09 until 2026-02-11: " in found.words
    assert found.words.endswith("rows struck), unknown since 2026-02-11: too few rows to tell, by 13")


def test_one_well_day_is_half_of_what_releases_it(tmp_path: Path) -> None:
    ws = thinned(tmp_path, pl.col("ago") > 17, pl.col("ago").is_in([19, 20]))
    found = judged(ws, 17)
    assert (found.until, found.missing) == (None, 10)
    assert found.words.endswith("until well rows release it: 10 more, of a day at least")
    assert judged(ws, 4).until == date(2026, 2, 11)


def test_a_thin_feed_that_stays_broken_is_held(tmp_path: Path) -> None:
    """Three rows a day take four days to tell: the last that told anything are the newest."""
    thin = (pl.col("ago") > 20) | (pl.int_range(pl.len()).over("ago") < 3)
    ws = thinned(tmp_path, thin, pl.col("ago") <= 20)
    found = judged(ws, 0)
    assert (found.since, found.until) == (date(2026, 2, 9), None)


def test_days_that_the_model_learned_from_are_told_as_well(tmp_path: Path) -> None:
    (found,) = stub_incidents(readings(tmp_path, 15, 12))
    assert (found.since, found.until) == (date(2026, 2, 13), date(2026, 2, 16))


def test_without_days_to_compare_with_there_is_no_incident(tmp_path: Path) -> None:
    ws = readings(tmp_path, 3, -1)
    assert find_incidents(stub_case.CASE, ws, AS_OF - 12 * DAY, AS_OF - 10 * DAY, AS_OF) == ()
    assert find_incidents(stub_case.CASE, Workspace(tmp_path / "empty"), AS_OF - 9 * DAY, AS_OF, AS_OF) == ()


@pytest.mark.parametrize(("name", "scenario"), WORLDS)
def test_worlds_have_incidents_where_something_broke_and_else_none(
    name: str, scenario: str, tmp_path: Path
) -> None:
    case, world = catalog.case(name), catalog.world(name)
    day = (BROKEN - START).days
    params = world.params.model_validate({**SMALL[name], "scenario": {"name": scenario, "day": day}})
    tables = {table.name for table in watched_tables(case)}
    rows: dict[str, list[pl.DataFrame]] = {each: [] for each in tables}
    for batch in world.rows(params, 2, START, (END - START).days, tmp_path / "world"):
        if batch.table in tables:
            rows[batch.table].append(batch.rows)
    ws = Workspace(tmp_path / "runs" / name)
    lake = Lake(ws.lake, case.tables)
    for table, parts in rows.items():
        schema = polars_schema(case.table(table).schema)
        known = pl.concat(parts).filter(pl.col(case.table(table).time) >= START)  # few dates, few files
        empty = [
            pl.lit(None, kind).alias(column) for column, kind in schema.items() if column not in known.columns
        ]
        lake.append(table, known.with_columns(empty).select(*schema))
    found = find_incidents(case, ws, START, LEARNED, END)
    struck = STRUCK.get((name, scenario))
    assert [f"{each.table}.{each.column}" for each in found] == ([struck] if struck else [])
    for each in found:
        assert each.until is None
        assert abs((each.since - BROKEN.date()).days) <= 3  # few ads appear each day
        assert each.words.count(str(each.since)) == 1


def test_what_is_watched_comes_from_upstream_and_means_something() -> None:
    case = catalog.case("video_recommendation")
    watched = {table.name: watched_columns(case, table) for table in watched_tables(case)}
    assert watched == {
        "users": ["country", "language"],
        "videos": ["title", "creator_id", "genres", "language", "duration_seconds"],
        "requests": ["device"],
    }
