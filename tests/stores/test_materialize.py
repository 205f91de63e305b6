"""Materialization writes what was built since the last time, and nothing else, whatever the online store is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from features_help import DAY, START, Event, append, video_case
from production_help import environment, redis_keys, redis_platform

from pipelines.settings import Platform
from pipelines.steps.features import build_features, materialize
from pipelines.stores import feature_store, online_features
from pipelines.stores.dataset import open_dataset
from pipelines.stores.workspace import Workspace

CASE = video_case()
PLATFORM = Platform()
"""The embedded profile's, or with Redis online: see `store`."""
USERS, VIEW = 40, "user_activity"


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace in which everybody watched on the first day."""
    ws = Workspace(tmp_path / "live" / "video_recommendation")
    append(
        ws,
        [
            Event("watch", f"u{n}", f"v{n}", START + n * timedelta(minutes=9), 0 * DAY, 0.9)
            for n in range(USERS)
        ],
    )
    return ws


@pytest.fixture(params=["sqlite", "redis"], autouse=True)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """Work with each of the profiles' online stores."""
    if request.param == "sqlite":
        from pipelines.stores.packed_online_store import PackedSqliteOnlineStore

        yield PackedSqliteOnlineStore
        return
    from feast.infra.online_stores.redis import RedisOnlineStore

    with environment(), redis_keys(tmp_path):
        monkeypatch.setattr(sys.modules[__name__], "PLATFORM", redis_platform())
        yield RedisOnlineStore


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, store: Any) -> Iterator[dict[str, list[str]]]:
    """Note whose rows the online store is given, by view."""
    given: dict[str, list[str]] = {}
    write = store.online_write_batch

    def note(self: Any, config: Any, table: Any, data: Any, progress: Any) -> None:
        given.setdefault(table.name, []).extend(key.entity_values[0].string_val for key, *_ in data)
        write(self, config, table, data, progress)

    monkeypatch.setattr(store, "online_write_batch", note)
    yield given


def watch(user: int, day: int, late: timedelta = 0 * DAY) -> Event:
    return Event("watch", f"u{user}", f"v{user}", START + day * DAY + DAY / 2, late, 0.9)


def bring_up(ws: Workspace, day: float, written: dict[str, list[str]]) -> list[str]:
    """Build and materialize up to a moment; return whose activity was written."""
    written.clear()
    build_features(CASE, ws, START + day * DAY)
    materialize(CASE, ws, START + day * DAY, PLATFORM)
    return sorted(written.get(VIEW, []))


def assert_online(ws: Workspace, at: datetime) -> None:
    """Hold every user's online row to the newest snapshot."""
    latest = open_dataset(CASE, ws, START, at, 0, PLATFORM).latest(VIEW)
    store = feature_store.open_store(CASE, ws, PLATFORM)
    keys = [{"user_id": user, "video_id": "v0"} for user in latest["user_id"]]
    names = [name for name in latest.columns if name not in ("user_id", "event_timestamp")]
    online = online_features.online_rows(store, CASE.service, keys)
    assert [{name: row[name] for name in names} for row in online] == latest.select(names).to_dicts()


def test_a_day_writes_those_who_acted(ws: Workspace, written: dict[str, list[str]]) -> None:
    assert len(bring_up(ws, 1, written)) == USERS
    assert len(bring_up(ws, 30, written)) == USERS  # the day left its windows
    append(ws, [watch(3, 30), watch(7, 30)], 1000)
    assert bring_up(ws, 31, written) == ["u3", "u7"]
    assert bring_up(ws, 31, written) == []
    assert bring_up(ws, 31.5, written) == []
    assert_online(ws, START + 31 * DAY)


def test_rows_that_were_read_after_their_midnight_are_written(
    ws: Workspace, written: dict[str, list[str]]
) -> None:
    bring_up(ws, 30, written)
    append(ws, [watch(3, 30)], 1000)
    assert bring_up(ws, 32.5, written) == ["u3"]
    append(ws, [watch(9, 31)], 2000)  # the midnight of day 32 had passed without it
    assert "u9" in bring_up(ws, 32.5, written)
    assert "u5" not in written[VIEW]
    assert_online(ws, START + 32.5 * DAY)


def test_rows_that_arrived_late_are_written_at_the_next_midnight(
    ws: Workspace, written: dict[str, list[str]]
) -> None:
    bring_up(ws, 30, written)
    append(ws, [watch(4, 20, late=10 * DAY)], 1000)
    assert bring_up(ws, 31, written) == ["u4"]
    assert_online(ws, START + 31 * DAY)


def test_a_snapshot_that_is_built_after_its_moment_went_online_is_not_missed(
    ws: Workspace, written: dict[str, list[str]]
) -> None:
    bring_up(ws, 30, written)
    append(ws, [watch(3, 30)], 1000)
    materialize(CASE, ws, START + 31.5 * DAY, PLATFORM)  # midnight 31 is not built yet
    assert bring_up(ws, 31.7, written) == ["u3"]
    assert_online(ws, START + 31.7 * DAY)


def test_going_back_with_the_features_keeps_the_newer_rows_online(
    ws: Workspace, written: dict[str, list[str]]
) -> None:
    bring_up(ws, 30, written)
    append(ws, [watch(3, 30)], 1000)
    bring_up(ws, 31, written)
    assert bring_up(ws, 30, written) == []
    assert bring_up(ws, 31, written) == ["u3"]
    assert_online(ws, START + 31 * DAY)


def test_where_an_entity_loses_its_newest_row_the_one_before_stands_again(
    ws: Workspace, written: dict[str, list[str]]
) -> None:
    bring_up(ws, 30, written)
    append(ws, [watch(3, 30)], 1000)
    bring_up(ws, 31, written)
    shutil.rmtree(ws.lake / "actions" / f"date={(START + 30 * DAY).date()}")
    assert "u3" in bring_up(ws, 31, written)
    assert_online(ws, START + 31 * DAY)


def test_a_write_that_was_not_noted_is_done_again(ws: Workspace, written: dict[str, list[str]]) -> None:
    bring_up(ws, 1, written)  # and killed before it could note that
    next(ws.online.glob(f"materialized-{CASE.name}*.json")).unlink()
    assert len(bring_up(ws, 1, written)) == USERS


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_a_store_that_was_emptied_is_filled_again(
    ws: Workspace, written: dict[str, list[str]], store: type
) -> None:
    bring_up(ws, 30, written)
    with redis_keys(ws.root):
        pass  # which deletes them
    feast = feature_store.open_store(CASE, ws, PLATFORM)
    assert not online_features.stands_online(CASE, ws, feast)
    assert len(bring_up(ws, 31, written)) == USERS
    assert online_features.stands_online(CASE, ws, feast)
    assert_online(ws, START + 31 * DAY)


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_another_online_store_is_filled_as_the_first_one_was(ws: Workspace) -> None:
    """A workspace that moves to another profile starts there anew."""
    build_features(CASE, ws, START + DAY)
    found = []
    for platform in (Platform(), PLATFORM):
        assert online_features.materialized(CASE, ws, platform) is None
        materialize(CASE, ws, START + DAY, platform)
        assert online_features.materialized(CASE, ws, platform) == START + DAY
        opened = feature_store.open_store(CASE, ws, platform)
        found.append(online_features.online_row(opened, CASE.service, {"user_id": "u3", "video_id": "v3"}))
    assert found[0] == found[1]


@pytest.mark.parametrize("store", ["redis"], indirect=True)
def test_two_checkouts_in_one_store_do_not_meet(ws: Workspace, tmp_path: Path) -> None:
    other = Workspace(tmp_path / "other" / "live" / ws.name)
    for number, each in enumerate((ws, other)):
        if each is other:
            append(other, [Event("watch", "u3", "v3", START, 0 * DAY, 0.1)])
        build_features(CASE, each, START + (1 + number) * DAY)
        materialize(CASE, each, START + (1 + number) * DAY, PLATFORM)
    assert_online(ws, START + DAY)
    assert_online(other, START + 2 * DAY)
