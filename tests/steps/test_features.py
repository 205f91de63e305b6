"""Snapshots hold what brute force finds, never the future, and the same bytes however they came about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from features_help import DAY, START, Event, append, expected, video_case
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.cases.video_recommendation.features import FEATURES
from pipelines.errors import DataError
from pipelines.steps import features, partials
from pipelines.steps.features import build_features, snapshot_digest
from pipelines.stores.workspace import Workspace

CASE = video_case(FEATURES[:3])
VIEWS = {"user_activity": "user", "user_history": "user", "video_popularity": "video"}
SLOW = settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@st.composite
def events(draw: st.DrawFn, most: int = 25) -> list[Event]:
    """Draw events of 12 days, some of which arrive days late, on or around midnights too."""
    one = st.builds(
        Event,
        kind=st.sampled_from(["impression", "click", "watch", "like", "rate"]),
        user=st.sampled_from(["ann", "bob"]),
        video=st.sampled_from(["v1", "v2", "v3"]),
        time=st.integers(0, 24 * 12).map(lambda hour: START + timedelta(hours=hour)),
        late=st.sampled_from([0, 0, 0, 1, 24, 30, 24 * 9]).map(lambda hours: timedelta(hours=hours)),
        value=st.sampled_from([0.2, 0.5, 0.9, None]),
    )
    drawn = draw(st.lists(one, min_size=1, max_size=most))
    return [replace(each, value=each.value or 0.3) if each.kind == "rate" else each for each in drawn]


@contextmanager
def workspace() -> Iterator[Workspace]:
    with TemporaryDirectory() as folder:
        yield Workspace(Path(folder) / "runs" / "tiny")


def snapshots(ws: Workspace, view: str) -> pl.DataFrame:
    return pl.read_parquet(str(ws.features / view / "*" / "*.parquet"), hive_partitioning=False)


def standing(rows: pl.DataFrame, key: str, entity: str, at: datetime) -> dict[str, Any] | None:
    """Return an entity's newest row at or before a moment."""
    known = rows.filter((pl.col(key) == entity) & (pl.col("event_timestamp") <= at)).sort("event_timestamp")
    if known.is_empty():
        return None
    return known.drop(key, "event_timestamp", "created_timestamp").row(-1, named=True)


@SLOW
@given(events())
def test_the_newest_row_of_an_entity_is_what_brute_force_finds(drawn: list[Event]) -> None:
    with workspace() as ws:
        append(ws, drawn)
        build_features(CASE, ws, START + 45 * DAY)
        for view, kind in VIEWS.items():
            rows = snapshots(ws, view)
            for entity in {getattr(event, kind) for event in drawn}:
                for days in range(46):
                    at = START + days * DAY
                    assert standing(rows, f"{kind}_id", entity, at) == expected(drawn, view, entity, at)


@SLOW
@given(events(), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_an_incremental_build_gives_the_bytes_of_one_from_scratch(
    drawn: list[Event], stops: list[int], random: Any
) -> None:
    last = START + max(stops) * DAY
    with workspace() as ws, workspace() as other:
        told = 0
        ordered = sorted(drawn, key=lambda event: event.arrived)
        for stop in sorted(stops):
            moment = START + stop * DAY
            fresh = [event for event in ordered[told:] if event.arrived < moment]
            random.shuffle(fresh)
            append(ws, fresh, told)
            told += len(fresh)
            build_features(CASE, ws, moment)
        append(other, ordered[:told])
        build_features(CASE, other, last)
        assert snapshot_digest(CASE, ws) == snapshot_digest(CASE, other)


@SLOW
@given(events(), st.integers(1, 24))
def test_rows_that_arrive_later_never_change_an_earlier_snapshot(drawn: list[Event], cut: int) -> None:
    moment = START + cut * DAY
    with workspace() as ws, workspace() as other:
        append(ws, [event for event in drawn if event.arrived < moment])
        append(other, drawn)
        build_features(CASE, ws, moment)
        build_features(CASE, other, START + 30 * DAY)
        for view in VIEWS:
            earlier = snapshots(other, view).filter(pl.col("event_timestamp") <= moment)
            assert (
                snapshots(ws, view)
                .sort(pl.all().exclude(pl.List))
                .equals(earlier.sort(pl.all().exclude(pl.List)))
            )


def some_events() -> list[Event]:
    kinds = ["impression", "watch", "like", "click", "rate"]
    return [
        Event(kinds[n % 5], f"u{n % 7}", f"v{n % 11}", START + n * timedelta(hours=3), n % 4 * DAY, 0.7)
        for n in range(120)
    ]


def test_rows_ingested_after_their_snapshot_was_built_make_it_be_built_again(tmp_path: Path) -> None:
    ws, other = Workspace(tmp_path / "a" / "x"), Workspace(tmp_path / "b" / "x")
    drawn = some_events()
    append(ws, drawn[::2])
    build_features(CASE, ws, START + 20 * DAY)
    append(ws, drawn[1::2], len(drawn))
    append(other, drawn[::2])
    append(other, drawn[1::2], len(drawn))
    build_features(CASE, ws, START + 20 * DAY)
    build_features(CASE, other, START + 20 * DAY)
    assert snapshot_digest(CASE, ws) == snapshot_digest(CASE, other)


@pytest.mark.parametrize("writes", [0, 3, 9, 30])
def test_a_build_killed_at_any_write_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    ws, other = Workspace(tmp_path / "a" / "x"), Workspace(tmp_path / "b" / "x")
    case = video_case(FEATURES[:1])
    drawn = some_events()
    append(ws, drawn[::2])
    build_features(case, ws, START + 12 * DAY)
    append(ws, drawn[1::2], len(drawn))
    left, plain = writes, partials.write_parquet

    def write(path: Path, rows: pl.DataFrame) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        plain(path, rows)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(partials, "write_parquet", write)
        patch.setattr(features, "write_parquet", write)
        build_features(case, ws, START + 16 * DAY)
    shutil.copytree(ws.lake, other.lake)
    wanted = build_features(case, other, START + 16 * DAY).digest
    assert build_features(case, ws, START + 16 * DAY).digest == wanted


def test_a_day_costs_a_day(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    drawn = some_events()
    append(ws, [event for event in drawn if event.time < START + 9 * DAY])
    build_features(CASE, ws, START + 9 * DAY)
    old = {path: path.stat().st_mtime_ns for path in ws.features.rglob("part.parquet")}
    append(ws, [event for event in drawn if START + 9 * DAY <= event.time < START + 10 * DAY], 1000)
    built = build_features(CASE, ws, START + 10 * DAY)
    assert built.refreshed == {"user_activity": 1, "user_history": 1, "video_popularity": 1}
    assert all(path.stat().st_mtime_ns == time for path, time in old.items())
    again = build_features(CASE, ws, START + 10 * DAY)
    assert not any(again.refreshed.values()) and not any(again.rows.values())
    assert again.digest == built.digest


@pytest.mark.parametrize("threads", [1, 5])
def test_bytes_do_not_depend_on_threads_or_the_size_of_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    append(ws, some_events())
    digest = build_features(CASE, ws, START + 40 * DAY).digest
    shutil.rmtree(ws.features)
    plain = features.connect

    @contextmanager
    def connect() -> Iterator[Any]:
        with plain() as backend:
            backend.raw_sql(f"SET threads = {threads}")
            yield backend

    monkeypatch.setattr(features, "connect", connect)
    monkeypatch.setattr(features, "DUE_ROWS_A_QUERY", 60)
    monkeypatch.setattr(partials, "LAKE_BYTES_A_QUERY", 20_000)
    assert build_features(CASE, ws, START + 40 * DAY).digest == digest


def test_an_earlier_moment_takes_later_snapshots_back(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    append(ws, some_events())
    early = build_features(CASE, ws, START + 5 * DAY).digest
    late = build_features(CASE, ws, START + 15 * DAY).digest
    assert build_features(CASE, ws, START + 5 * DAY).digest == early != late
    assert build_features(CASE, ws, START + 15 * DAY).digest == late


def test_what_a_killed_build_left_behind_is_replaced(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    append(ws, some_events())
    whole = build_features(CASE, ws, START + 15 * DAY).digest
    shutil.rmtree(ws.features)
    build_features(CASE, ws, START + 5 * DAY)
    for view in VIEWS:
        torn = ws.features / view / f"date={(START + 9 * DAY).date()}" / "part.parquet"
        torn.parent.mkdir()
        torn.write_bytes(b"half")
    assert build_features(CASE, ws, START + 15 * DAY).digest == whole


def test_another_definition_starts_from_scratch(tmp_path: Path) -> None:
    ws, other = Workspace(tmp_path / "a" / "x"), Workspace(tmp_path / "b" / "x")
    first = FEATURES[0]
    changed = video_case([replace(first, windows=(1, 2, 7, 28)), *FEATURES[1:3]])
    for each in (ws, other):
        append(each, some_events())
    before = build_features(CASE, ws, START + 15 * DAY).digest
    after = build_features(changed, ws, START + 15 * DAY).digest
    assert after == build_features(changed, other, START + 15 * DAY).digest != before


def test_an_empty_lake_has_typed_snapshots_without_rows(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    built = build_features(video_case(), ws, START)
    assert set(built.rows.values()) == {0}
    for view in FEATURES:
        rows = snapshots(ws, view.name)
        assert rows.is_empty() and rows.schema["event_timestamp"] == pl.Datetime("us", "UTC")
    assert snapshots(ws, "user_history").schema["recent_videos"] == pl.List(pl.String)


def test_a_long_history_keeps_the_newest_fifty_though_some_came_late(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    drawn = [
        Event("rate", "ann", f"v{n}", START + n * timedelta(hours=7), (n % 9 == 0) * n * DAY / 20, 1.0)
        for n in range(200)
    ]
    append(ws, drawn)
    build_features(CASE, ws, START + 80 * DAY)
    rows = snapshots(ws, "user_history")
    for days in range(81):
        at = START + days * DAY
        assert standing(rows, "user_id", "ann", at) == expected(drawn, "user_history", "ann", at)


def test_an_undated_video_has_a_profile_since_it_arrived(tmp_path: Path) -> None:
    from features_help import frame

    from pipelines.cases.video_recommendation.tables import TABLES
    from pipelines.stores.lake import Lake

    ws = Workspace(tmp_path / "runs" / "x")
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    rows = [
        {"video_id": "old", "arrived_at": epoch, "genres": ["Drama"]},
        {"video_id": "new", "arrived_at": START, "published_at": START, "genres": ["Crime"]},
    ]
    Lake(ws.lake, TABLES).append("videos", frame("videos", rows))
    build_features(video_case(), ws, START + 3 * DAY)
    found = snapshots(ws, "video_profile").sort("event_timestamp")
    assert found["video_id"].to_list() == ["old", "new"]
    assert found["event_timestamp"].to_list() == [epoch + DAY, START + DAY]
    assert found["published_at"].to_list() == [None, int(START.timestamp())]


def test_a_table_that_lacks_its_keys_is_refused(tmp_path: Path) -> None:
    bad = replace(FEATURES[3], daily=lambda tables: tables["videos"].select("video_id", "day", "genres"))
    with pytest.raises(DataError, match="'video_profile': `daily` computes no column 'known'"):
        build_features(video_case([bad]), Workspace(tmp_path / "runs" / "x"), START)
