"""What our engine and our SQLite store put online is what Feast's own put there, value by value."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.stores.feast_import import import_feast

START = datetime(2026, 3, 1, tzinfo=UTC)
OURS = {
    "batch_engine": "pipelines.stores.bulk_engine.BulkComputeEngine",
    "type": "pipelines.stores.packed_online_store.PackedSqliteOnlineStore",
}
FEASTS = {"batch_engine": "local", "type": "sqlite"}
ROWS = pl.DataFrame(
    {
        "k": ["a", "b", "c", "d", "é"],
        "j": [1, 2, 3, -4, 2**40],
        "whole": [1, None, 0, -(2**60), 5],
        "real": [0.1, float("nan"), None, -0.0, 1e300],
        "text": ["x", "", None, "ü", "y"],
        "flag": [True, False, None, True, False],
        "words": [["p", "q"], [], None, ["r"], ["s"]],
        "when": [START, START - timedelta(seconds=1), None, START, START],
        "event_timestamp": [START, START, START, START + timedelta(days=1), START],
    },
    schema_overrides={"j": pl.Int64},
)


def open_store(folder: Path, kind: dict[str, str]) -> Any:
    """Make a Feast store of one view, all of whose rows stand online."""
    import_feast()
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.types import Array, Bool, Float64, Int64, String, UnixTimestamp

    folder.mkdir()
    ROWS.write_parquet(folder / "rows.parquet")
    keys = [
        Entity(name="k", join_keys=["k"], value_type=ValueType.STRING),
        Entity(name="j", join_keys=["j"], value_type=ValueType.INT64),
    ]
    kinds = {"whole": Int64, "real": Float64, "text": String, "flag": Bool}
    kinds |= {"words": Array(String), "when": UnixTimestamp}
    view = FeatureView(
        name="view",
        entities=keys,
        ttl=timedelta(0),
        schema=[Field(name=name, dtype=each) for name, each in kinds.items()],
        source=FileSource(name="rows", path=str(folder / "rows.parquet"), timestamp_field="event_timestamp"),
    )
    store = FeatureStore(
        config=RepoConfig(
            project="packed",
            provider="local",
            repo_path=folder,
            registry={"registry_type": "file", "path": str(folder / "registry.db")},
            offline_store={"type": "pipelines.stores.asof_store.AsofOfflineStore"},
            online_store={"type": kind["type"], "path": str(folder / "online.db")},
            batch_engine=kind["batch_engine"],
            materialization={"pull_latest_features": True, "online_write_batch_size": 2},
            entity_key_serialization_version=3,
        )
    )
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        store.apply([*keys, view])
        store.materialize(START - timedelta(days=1), START + timedelta(days=2))
    return store


def read(store: Any, keys: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = [field.name for field in store.get_feature_view("view").features]
    found: dict[str, list[Any]] = store.get_online_features(
        [f"view:{name}" for name in names], keys
    ).to_dict()
    return found


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("stores")
    return open_store(folder / "ours", OURS), open_store(folder / "feasts", FEASTS)


def test_what_is_read_is_what_feasts_own_would_read(stores: tuple[Any, Any]) -> None:
    ours, feasts = stores
    keys = ROWS.select("k", "j").to_dicts()
    keys = [*keys, keys[0], {"k": "nobody", "j": 1}]  # one twice, and one who is not there
    found = read(ours, keys)
    assert found == read(feasts, keys)
    assert found["whole"] == [1, None, 0, -(2**60), 5, 1, None]
    assert found["real"] == [0.1, None, None, 0.0, 1e300, 0.1, None]


def test_a_view_that_is_gone_leaves_no_table(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", OURS)
    provider, view = store._get_provider(), store.get_feature_view("view")
    connection = provider.online_store._get_conn(store.config)
    tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table'"
    assert connection.execute(tables).fetchone() == (1,)
    provider.online_store.update(store.config, [view], [], [], [], False)
    assert connection.execute(tables).fetchone() == (0,)
