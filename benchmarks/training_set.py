"""Measure a training set: 1M rows × 26 features from 3 views, through Feast, beside raw Polars joins.

    python benchmarks/training_set.py [--rows 1000000] [--repeats 3]

Prints seconds (least of the repeats) and the ratio to the raw joins over the same files, and holds every
answer to theirs, value by value. Feast's DuckDB store runs once, for comparison.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from pipelines.stores.feast_import import import_feast

START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 28
USERS, ITEMS, TOPICS = 100_000, 20_000, 20
VIEWS: dict[str, tuple[tuple[str, ...], int]] = {
    "user_view": (("user_id",), 10),
    "item_view": (("item_id",), 10),
    "taste_view": (("user_id", "topic_id"), 6),
}
STORES = {
    "as-of store": "pipelines.stores.asof_store.AsofOfflineStore",
    "Feast's DuckDB": "duckdb",
}


def names(view: str) -> list[str]:
    """Name a view's features."""
    return [f"{view.removesuffix('_view')}_{number}" for number in range(VIEWS[view][1])]


def write_snapshots(root: Path, rng: np.random.Generator) -> None:
    """Write 28 dated snapshots a view: each holds some 20,000 entities that had a row due that day."""
    for view, (keys, _) in VIEWS.items():
        for day in range(DAYS):
            at = pl.lit(START + timedelta(days=day), pl.Datetime("us", "UTC"))
            rows = ids(20_000, rng).select(keys).unique(maintain_order=True)
            rows = rows.with_columns(pl.Series(name, rng.random(rows.height)) for name in names(view))
            folder = root / view / f"date={START.date() + timedelta(days=day)}"
            folder.mkdir(parents=True)
            rows.with_columns(event_timestamp=at, created_timestamp=at).write_parquet(folder / "part.parquet")


def ids(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Draw entity keys."""
    drawn = {"user_id": USERS, "item_id": ITEMS, "topic_id": TOPICS}
    return pl.DataFrame(
        {name: pl.Series(rng.integers(count, size=rows)).cast(pl.String) for name, count in drawn.items()}
    )


def entity_rows(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Draw the rows of a training set, a moment each, in no order."""
    moment = pl.Series(rng.integers(DAYS * 86_400_000_000, size=rows)).cast(pl.Duration("us")) + START
    return ids(rows, rng).with_columns(event_timestamp=moment, row=pl.int_range(rows, dtype=pl.Int64))


def raw_joins(root: Path, entities: pl.DataFrame) -> pl.DataFrame:
    """Join the views by hand: what any tool has to do, and nothing else."""
    joined = entities.lazy().sort("event_timestamp")
    for view, (keys, _) in VIEWS.items():
        rows = pl.scan_parquet(root / view / "*" / "*.parquet", hive_partitioning=False)
        rows = rows.drop("created_timestamp").sort("event_timestamp")
        joined = joined.join_asof(rows, on="event_timestamp", by=keys, check_sortedness=False)
    return joined.collect()


def open_store(root: Path, offline: str) -> Any:
    """Open an ordinary Feast store over the snapshots."""
    from feast import (
        Entity,
        FeatureService,
        FeatureStore,
        FeatureView,
        Field,
        FileSource,
        RepoConfig,
        ValueType,
    )
    from feast.types import Float64

    folder = root / f"feast-{offline}"
    entities = {
        key: Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=ValueType.STRING)
        for key in ("user_id", "item_id", "topic_id")
    }
    views = [
        FeatureView(
            name=view,
            entities=[entities[key] for key in keys],
            ttl=timedelta(0),
            schema=[Field(name=name, dtype=Float64) for name in names(view)],
            source=FileSource(
                name=view,
                path=str(root / view / "*" / "*.parquet"),
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
        )
        for view, (keys, _) in VIEWS.items()
    ]
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry={"registry_type": "file", "path": str(folder / "registry.db")},
            offline_store={"type": offline},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    with redirect_stdout(StringIO()):
        store.apply([*entities.values(), *views, FeatureService(name="service", features=views)])
    return store


def through_feast(store: Any, entities: pd.DataFrame) -> pl.DataFrame:
    """Ask Feast for the service's features."""
    service = store.get_feature_service("service")
    job = store.get_historical_features(entities.copy(), service, filter_by_created_timestamp=True)
    found = pl.from_arrow(job.to_arrow())
    assert isinstance(found, pl.DataFrame)
    return found


def timed(run: Callable[[], pl.DataFrame], repeats: int) -> tuple[float, pl.DataFrame]:
    """Run several times; return the least seconds and the last answer."""
    least = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        found = run()
        least = min(least, time.perf_counter() - started)
    return least, found


def ordered(found: pl.DataFrame) -> pl.DataFrame:
    """Bring an answer into one order of rows and columns."""
    return found.sort("row").select("row", *(name for view in VIEWS for name in names(view)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args(arguments)
    import_feast()
    logging.disable(logging.WARNING)
    with TemporaryDirectory(prefix="loop-bench-") as scratch:
        root, rng = Path(scratch), np.random.default_rng(7)
        write_snapshots(root, rng)
        entities = entity_rows(asked.rows, rng)
        frame = entities.to_pandas()
        raw, wanted = timed(lambda: raw_joins(root, entities), asked.repeats)
        wanted = ordered(wanted)
        sys.stdout.write(f"{asked.rows:,} rows × 26 features from 3 views of {DAYS} snapshots\n")
        sys.stdout.write(f"{'':16} {'seconds':>8} {'ratio':>6}  equal\n")
        sys.stdout.write(f"{'raw Polars':16} {raw:8.2f} {1:6.2f}\n")
        for name, offline in STORES.items():
            ask = partial(through_feast, open_store(root, offline), frame)
            seconds, found = timed(ask, 1 if offline == "duckdb" else asked.repeats)
            same = ordered(found).equals(wanted)
            sys.stdout.write(f"{name:16} {seconds:8.2f} {seconds / raw:6.2f}  {'yes' if same else 'NO'}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
