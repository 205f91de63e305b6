"""Feast's registry in PostgreSQL: applied again where it was made anew, never shared by two workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from features_help import DAY, START, Event, append, video_case
from log_help import SERVER
from production_help import HERE, databases, environment

from pipelines.errors import LoopError
from pipelines.settings import Platform, Project
from pipelines.steps.features import build_features
from pipelines.stores.feature_store import feature_columns, open_store
from pipelines.stores.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("production")]

CASE = video_case()


@pytest.fixture
def database() -> Iterator[str]:
    with databases() as name, environment(LOOP_DATABASE=name):
        yield name


@pytest.fixture
def platform(database: str) -> Platform:
    return Project(HERE, "production").platform


def workspace(root: Path) -> Workspace:
    ws = Workspace(root / "live" / "video_recommendation")
    append(ws, [Event("watch", "u1", "v1", START, 0 * DAY, 0.9)])
    build_features(CASE, ws, START + DAY)
    return ws


def test_a_registry_that_was_made_anew_is_applied_again(
    database: str, platform: Platform, tmp_path: Path
) -> None:
    ws = workspace(tmp_path)
    columns = feature_columns(open_store(CASE, ws, platform), CASE.service)
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {database}_feast WITH (FORCE)")
        with pytest.raises(LoopError, match=f"createdb .*{database}_feast$"):
            open_store(CASE, ws, platform)
        admin.execute(f"CREATE DATABASE {database}_feast")
    assert feature_columns(open_store(CASE, ws, platform), CASE.service) == columns


def test_two_checkouts_keep_their_own_views(database: str, platform: Platform, tmp_path: Path) -> None:
    stores = [open_store(CASE, workspace(tmp_path / name), platform) for name in ("one", "other")]
    assert stores[0].project != stores[1].project
    for name, store in zip(("one", "other"), stores, strict=True):
        sources = {view.batch_source.path for view in store.list_feature_views()}
        assert sources and all(f"/{name}/" in source for source in sources)
    secret = "a-password"
    with environment(LOOP_DATABASE=database, REDIS_PASSWORD=secret):
        ws = workspace(tmp_path / "third")
        open_store(CASE, ws, Project(HERE, "production").platform)
    assert not [path for path in ws.online.rglob("*.json") if secret in path.read_text()], (
        "a password was written down"
    )
