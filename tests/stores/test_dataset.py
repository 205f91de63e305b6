"""A data set shows what was known at its end, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from features_help import DAY, START, Event, append, frame, video_case
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.cases.video_recommendation.tables import TABLES
from pipelines.errors import DataError, UsageError
from pipelines.settings import Platform
from pipelines.steps.features import build_features
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

CASE = video_case()
PLATFORM = Platform()
HOUR = timedelta(hours=1)


def shown(impressions: list[int]) -> pl.DataFrame:
    """Make impressions at hours after START, which arrived at once."""
    return frame("impressions", [
        {"impression_id": f"i{n}", "request_id": "r", "impression_time": START + hour * HOUR, "position": 1,
         "user_id": "u", "video_id": "v", "arrived_at": START + hour * HOUR}
        for n, hour in enumerate(impressions)
    ])  # fmt: skip


def watched(after: list[tuple[int, int, int]]) -> pl.DataFrame:
    """Make watches of impression n, at an hour, that arrived at a later hour."""
    return frame("actions", [
        {"action_id": f"a{i}", "impression_id": f"i{n}", "action": "watch", "value": 1.0, "user_id": "u",
         "video_id": "v", "action_time": START + hour * HOUR, "arrived_at": START + arrived * HOUR}
        for i, (n, hour, arrived) in enumerate(after)
    ])  # fmt: skip


def test_labels_are_mature_and_known(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    lake = Lake(ws.lake, TABLES)
    lake.append("impressions", shown([0, 1, 24, 25, 47, 48, 49]))
    lake.append(
        "actions", watched([(1, 2, 2), (2, 26, 100), (3, 27, 27), (4, 48, 48), (0, 71, 71), (5, 72, 72)])
    )
    data = open_dataset(CASE, ws, START + HOUR, START + 72 * HOUR, 0, PLATFORM)
    found = data.labels()
    # i0 lies before the start; i2's watch arrived after the end; i6 matures an hour after it
    assert found.select("impression_id", "label").rows() == [
        ("i1", 1), ("i2", 0), ("i3", 1), ("i4", 1), ("i5", 0)
    ]  # fmt: skip
    assert found["impression_time"].is_sorted()


def test_what_teaches_need_not_be_final(tmp_path: Path) -> None:
    """A label that is told early teaches then; what is judged waits for the attribution window."""
    ws = Workspace(tmp_path / "runs" / "x")
    lake = Lake(ws.lake, TABLES)
    lake.append("impressions", shown([20, 60, 61, 70]))
    lake.append("actions", watched([(1, 62, 62), (2, 71, 71), (3, 71, 71)]))
    early = replace(CASE, label=replace(CASE.label, told_after=11 * HOUR))
    found = {
        (case is early, provisional): open_dataset(
            case, ws, START, START + 72 * HOUR, 0, PLATFORM, provisional=provisional
        ).labels()["impression_id"].to_list()
        for case in (CASE, early)
        for provisional in (False, True)
    }  # fmt: skip
    waits = ["i0"]
    assert found == {
        (False, False): waits, (False, True): waits, (True, False): waits, (True, True): [*waits, "i1", "i2"]
    }  # fmt: skip


@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(st.integers(0, 80), min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 90), st.integers(0, 40)), max_size=10),
    st.integers(0, 30),
    st.integers(40, 100),
)
def test_labels_equal_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory,
    impressions: list[int],
    actions: list[tuple[int, int, int]],
    start: int,
    end: int,
) -> None:
    ws = Workspace(tmp_path_factory.mktemp("labels") / "x")
    lake = Lake(ws.lake, TABLES)
    lake.append("impressions", shown(impressions))
    lake.append("actions", watched([(n, hour, hour + late) for n, hour, late in actions]))
    known = {f"i{n}" for n, hour, late in actions if hour < end and hour + late < end}
    wanted = {
        f"i{n}": int(f"i{n}" in known)
        for n, hour in enumerate(impressions)
        if start <= hour < end and hour + 24 <= end
    }
    data = open_dataset(CASE, ws, START + start * HOUR, START + end * HOUR, 0, PLATFORM)
    assert dict(data.labels().select("impression_id", "label").rows()) == wanted


def test_tables_entities_and_views_stop_at_the_end(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    append(ws, [Event("watch", "u", "v", START + n * DAY, n % 2 * 2 * DAY, 1.0) for n in range(10)])
    Lake(ws.lake, TABLES).append("videos", frame("videos", [
        {"video_id": "old", "arrived_at": START - 9 * DAY, "published_at": None},
        {"video_id": "early", "arrived_at": START - 9 * DAY, "published_at": START - 9 * DAY},
        {"video_id": "new", "arrived_at": START + 9 * DAY, "published_at": START + 9 * DAY},
    ]))  # fmt: skip
    build_features(CASE, ws, START + 10 * DAY)
    data = open_dataset(CASE, ws, START + 2 * DAY, START + 6 * DAY, 0, PLATFORM)
    rows = data.table("actions").collect()
    assert sorted(rows["action_time"]) == [START + 2 * DAY, START + 3 * DAY, START + 4 * DAY]
    assert sorted(data.entities("videos").collect()["video_id"]) == ["early", "old"]
    latest = data.latest("user_history")
    assert latest["event_timestamp"].to_list() == [START + 6 * DAY]
    assert len(latest["recent_videos"][0]) == 5
    assert data.latest("video_profile")["video_id"].to_list() == ["early", "old"]


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "runs" / "x")
    data = open_dataset(CASE, ws, START, START + DAY, 0, PLATFORM)
    with pytest.raises(UsageError, match="did you mean 'user_history'"):
        data.latest("user_histori")
    with pytest.raises(DataError, match="build the features first"):
        data.latest("user_history")
    with pytest.raises(UsageError, match="time zone"):
        open_dataset(CASE, ws, START.replace(tzinfo=None), START, 0, PLATFORM)
