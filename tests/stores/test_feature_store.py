"""Feast answers with what stood at the row's own time: every row, in order, and the same online."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from features_help import DAY, START, Event, append, frame, video_case

from pipelines.cases.video_recommendation.tables import TABLES
from pipelines.errors import DataError
from pipelines.settings import Platform
from pipelines.steps.features import build_features, materialize
from pipelines.stores import declarations, feature_store, online_features
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

CASE = video_case()
PLATFORM = Platform()
PROJECT = Path(__file__).parents[2]
AS_OF = START + 20 * DAY
KINDS = ["impression", "watch", "like", "click", "rate"]
EVENTS = [
    Event(KINDS[n % 5], f"u{n % 7}", f"v{n % 11}", START + n * timedelta(hours=3), n % 4 * DAY, 0.7)
    for n in range(120)
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with 15 days of events and the features of 20."""
    ws = Workspace(tmp_path_factory.mktemp("features") / "runs" / "video_recommendation")
    append(ws, EVENTS)
    videos = [
        {
            "video_id": f"v{n}",
            "arrived_at": START + n * DAY,
            "published_at": START + n * DAY,
            "genres": ["Drama"],
        }
        for n in range(0, 11, 2)
    ]
    Lake(ws.lake, TABLES).append("videos", frame("videos", videos))
    build_features(CASE, ws, AS_OF)
    return ws


@pytest.fixture(scope="module")
def store(built: Workspace) -> Any:
    return feature_store.open_store(CASE, built, PLATFORM)


@pytest.fixture
def copy(built: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of the workspace that a test may change."""
    ws = Workspace(tmp_path / "live" / "video_recommendation")
    shutil.copytree(built.lake, ws.lake)
    shutil.copytree(built.features, ws.features)
    yield ws


def training_rows() -> pl.DataFrame:
    """Rows in no order, two of them equal, for entities known and unknown, at and around midnights."""
    times = [START + n * timedelta(hours=5) for n in range(90)]
    rows = pl.DataFrame(
        {
            "row": range(90),
            "user_id": [None if n == 13 else f"u{n % 9}" for n in range(90)],
            "video_id": [f"v{n * 7 % 13}" for n in range(90)],
            "time": times,
            "other_y": ["kept"] * 90,
        },
        schema_overrides={"time": pl.Datetime("us", "UTC")},
    ).sample(fraction=1, shuffle=True, seed=3)
    return pl.concat([rows, rows.head(2)])


def standing(ws: Workspace, view: str, key: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Join a view's snapshots as of each row's time, without Feast."""
    snapshots = pl.read_parquet(str(ws.features / view / "*" / "*.parquet"), hive_partitioning=False)
    snapshots = snapshots.drop("created_timestamp").sort("event_timestamp")
    asked = rows.with_row_index("n").sort("time")
    found = asked.join_asof(
        snapshots, left_on="time", right_on="event_timestamp", by=key, strategy="backward"
    )
    return found.sort("n").select(
        column for column in snapshots.columns if column not in (key, "event_timestamp")
    )


def test_every_row_keeps_its_place_and_gets_what_stood_at_its_time(built: Workspace, store: Any) -> None:
    rows = training_rows()
    found = feature_store.historical(store, CASE.service, rows, "time")
    assert found.select(rows.columns).equals(rows)
    assert found.columns == rows.columns + feature_store.feature_columns(store, CASE.service)
    keys = {"user_activity": "user_id", "user_history": "user_id"}
    for view in (table.name for table in CASE.features):
        wanted = standing(built, view, keys.get(view, "video_id"), rows)
        assert found.select(wanted.columns).equals(wanted), view
        assert 0 < wanted[wanted.columns[0]].null_count() < rows.height, view


def test_no_rows_and_rows_before_all_features_are_answered(store: Any) -> None:
    rows = training_rows()
    nothing = feature_store.historical(store, CASE.service, rows.clear(), "time")
    assert nothing.height == 0 and nothing.schema["recent_videos"] == pl.List(pl.String)
    early = rows.with_columns(time=pl.col("time") - 100 * DAY)
    found = feature_store.historical(store, CASE.service, early, "time")
    assert found.height == rows.height
    assert all(found[name].null_count() == rows.height for name in found.columns[rows.width :])


def test_later_and_late_rows_never_change_a_training_row(copy: Workspace) -> None:
    rows = training_rows()

    def train() -> pl.DataFrame:
        store = feature_store.open_store(CASE, copy, PLATFORM)
        return feature_store.historical(store, CASE.service, rows, "time")

    before = train()
    late = [Event("watch", f"u{n % 7}", "v1", START + n * DAY, AS_OF - START, 0.9) for n in range(15)]
    append(copy, late, 10_000)
    build_features(CASE, copy, AS_OF + 20 * DAY)
    assert train().equals(before)
    later = rows.with_columns(time=pl.col("time") + 20 * DAY)
    store = feature_store.open_store(CASE, copy, PLATFORM)
    after = feature_store.historical(store, CASE.service, later, "time")
    assert not after.select("user_watches_28d").equals(before.select("user_watches_28d"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop("video_id"), "video_id"),
        (lambda rows: rows.with_columns(time=pl.col("time").dt.replace_time_zone(None)), "time zone"),
        (lambda rows: rows.with_columns(time=pl.lit(None, rows.schema["time"])), "nulls"),
        (lambda rows: rows.with_columns(genres=pl.lit(1)), "genres"),
    ],
)
def test_rows_that_cannot_be_joined_are_refused(store: Any, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        feature_store.historical(store, CASE.service, change(training_rows()), "time")


def test_online_equals_offline_and_never_goes_back(copy: Workspace) -> None:
    store = feature_store.open_store(CASE, copy, PLATFORM)

    def online(at: datetime) -> None:
        data = open_dataset(CASE, copy, START, at, 0, PLATFORM)
        for view, kind in [
            ("user_activity", "user"),
            ("user_history", "user"),
            ("video_popularity", "video"),
        ]:
            offline = data.latest(view)
            keys = [
                {"user_id": "u0", "video_id": "v0"} | {f"{kind}_id": key} for key in offline[f"{kind}_id"]
            ]
            rows = online_features.online_rows(store, CASE.service, keys)
            names = [name for name in offline.columns if name not in (f"{kind}_id", "event_timestamp")]
            assert [{name: row[name] for name in names} for row in rows] == offline.select(names).to_dicts()

    middle = START + 9 * DAY
    assert set(materialize(CASE, copy, middle, PLATFORM).values()) == {middle}
    online(middle)
    materialize(CASE, copy, AS_OF, PLATFORM)
    online(AS_OF)
    assert set(materialize(CASE, copy, middle, PLATFORM).values()) == {AS_OF}
    online(AS_OF)
    late = [Event("watch", f"u{n % 7}", "v1", START + n * DAY, DAY, 0.9) for n in range(15)]
    append(copy, late, 20_000)
    build_features(CASE, copy, AS_OF)
    materialize(CASE, copy, AS_OF, PLATFORM)
    online(AS_OF)


def test_an_unknown_entity_is_null_online(copy: Workspace) -> None:
    materialize(CASE, copy, AS_OF, PLATFORM)
    store = feature_store.open_store(CASE, copy, PLATFORM)
    row = online_features.online_row(store, CASE.service, {"user_id": "nobody", "video_id": "v0"})
    assert list(row) == feature_store.feature_columns(store, CASE.service)
    assert row["user_watches_7d"] is None and row["recent_videos"] is None
    assert row["video_watches_365d"] is not None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '        Field(name="user_likes_28d", dtype=Int64),\n',
            "",
            "'user_likes_28d': computed, but not",
        ),
        ('name="genres"', 'name="genre"', "'video_profile', column 'genre': declared"),
        (
            '"recent_times", dtype=Array(Int64)',
            '"recent_times", dtype=Int64',
            "'recent_times': declared as Int64",
        ),
        ("features=[user_activity, ", "features=[", None),
        ('name="video_recommendation_v1"', 'name="v2"', "video_recommendation_v1"),
        ('name="video_profile"', 'name="profile"', "view 'profile'"),
    ],
)
def test_what_is_computed_is_held_against_what_is_declared(
    copy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str | None
) -> None:
    repository = tmp_path / "feature_repo"
    shutil.copytree(PROJECT / "feature_repo", repository)
    file = repository / "video_recommendation.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    monkeypatch.setattr(declarations, "REPOSITORY", repository)
    if message is None:
        feature_store.open_store(CASE, copy, PLATFORM)
        return
    with pytest.raises(DataError, match=message):
        feature_store.open_store(CASE, copy, PLATFORM)


def test_features_that_were_never_built_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="build the features first"):
        feature_store.open_store(CASE, Workspace(tmp_path / "runs" / "x"), PLATFORM)


def test_views_without_a_row_answer_nulls(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    build_features(CASE, ws, AS_OF)
    found = open_dataset(CASE, ws, START, AS_OF, 0, PLATFORM).historical(training_rows(), "time")
    assert found.height == 92 and found["recent_videos"].null_count() == 92
    materialize(CASE, ws, AS_OF, PLATFORM)


@pytest.mark.slow
def test_columns_do_not_depend_on_the_hash_seed(copy: Workspace) -> None:
    materialize(CASE, copy, AS_OF, PLATFORM)
    program = (
        "import json, sys; from pathlib import Path; from features_help import video_case;"
        "from pipelines.settings import Platform; from pipelines.stores import feature_store, online_features;"
        "from pipelines.stores.workspace import Workspace;"
        "s = feature_store.open_store(video_case(), Workspace(Path(sys.argv[1])), Platform());"
        "row = online_features.online_row(s, 'video_recommendation_v1', {'user_id': 'u1', 'video_id': 'v2'});"
        "print(json.dumps(row))"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", program, str(copy.root)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(set(answers)) == 1
    assert json.loads(answers[0])["user_watches_28d"] is not None


@pytest.mark.slow
def test_the_repository_is_ordinary_feast(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "feature_repo", tmp_path / "feature_repo")
    feast = Path(sys.executable).parent / "feast"

    def run(*arguments: str) -> str:
        command = [str(feast), "-c", "feature_repo", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    run("apply")
    listed = run("feature-views", "list")
    assert all(table.name in listed for table in CASE.features)
    assert CASE.service in run("feature-services", "list")
