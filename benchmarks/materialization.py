"""Measure materialization: what a day costs online, beside writing everything that exists.

    python benchmarks/materialization.py [--users 20000] [--full]

A world of users and as many videos: all act once, then, weeks later, 5 % of them a day. Rows are what Feast
was given to write, seconds the least of three. Every state is read back through Feast and held to the
newest snapshots offline.
`--full` takes 100,000 users.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from pipelines import catalog
from pipelines.case_study import CaseStudy
from pipelines.settings import Platform
from pipelines.steps.features import build_features, materialize
from pipelines.stores.dataset import open_dataset
from pipelines.stores.feast_import import import_feast
from pipelines.stores.feature_store import open_store
from pipelines.stores.lake import Lake
from pipelines.stores.online_features import online_rows
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

CASE = "video_recommendation"
START, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
VIEWS = {"user_activity": "user_id", "user_history": "user_id", "video_popularity": "video_id"}


class World:
    """A lake that grows by days of watches: user n watches video n."""

    def __init__(self, case: CaseStudy, ws: Workspace) -> None:
        self.case, self.ws, self.events = case, ws, 0

    def act(self, people: np.ndarray, day: int, arrived: float = 0.5) -> None:
        """Let people watch, each a video, on a day; the rows arrive so many days after its midnight."""
        schema = polars_schema(self.case.table("actions").schema)
        rows = pl.DataFrame(
            {
                "action_id": [f"a{self.events + n}" for n in range(len(people))],
                "action": "watch",
                "value": 1.0,
                "action_time": START + day * DAY + DAY / 4,
                "arrived_at": START + (day + arrived) * DAY,
                "user_id": [f"u{person}" for person in people],
                "video_id": [f"v{person}" for person in people],
            }
        )
        missing = [
            pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in rows.columns
        ]
        self.events += len(people)
        lake = Lake(self.ws.lake, self.case.tables)
        lake.append("actions", rows.with_columns(missing).select(schema.names()).cast(schema))


def read_back(case: CaseStudy, ws: Workspace, at: datetime, people: np.ndarray) -> bool:
    """Hold the online features of some people and videos to the newest snapshots."""
    store, data = open_store(case, ws, Platform()), open_dataset(case, ws, START, at, 0, Platform())
    asked = [{"user_id": f"u{person}", "video_id": f"v{person}"} for person in people]
    online = online_rows(store, case.service, asked)
    for view, key in VIEWS.items():
        latest = {row[key]: row for row in data.latest(view).to_dicts()}
        for row, keys in zip(online, asked, strict=True):
            wanted = latest[keys[key]]
            if any(row[name] != wanted[name] for name in wanted if name not in (key, "event_timestamp")):
                return False
    return True


def written(store: Any) -> list[int]:
    """Count, from now on, the rows that the online store is given."""
    kind = type(store._get_provider().online_store)
    counted, write = [0], kind.online_write_batch

    def count(self: Any, config: Any, table: Any, data: Any, progress: Any) -> None:
        counted[0] += len(data)
        write(self, config, table, data, progress)

    kind.online_write_batch = count
    return counted


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--full", action="store_true", help="100,000 users")
    asked = parser.parse_args(arguments)
    users = 100_000 if asked.full else asked.users
    import_feast()
    logging.disable(logging.WARNING)
    case, rng = catalog.case(CASE), np.random.default_rng(7)
    everybody, share = np.arange(users), users // 20
    with TemporaryDirectory(prefix="loop-bench-") as scratch:
        ws, kept = Workspace(Path(scratch) / "live" / case.name), Path(scratch) / "kept"
        world, steady = World(case, ws), np.array_split(rng.permutation(users), 20)
        world.act(everybody, 0)
        build_features(case, ws, START + DAY)
        counted = written(open_store(case, ws, Platform()))
        whole, runs = 0.0, 3
        sys.stdout.write(f"{users:,} users and videos, {len(VIEWS)} views of them\n")
        sys.stdout.write(f"{'':44} {'rows':>8} {'seconds':>8} {'of all':>7}  equal\n")

        def report(name: str, day: int) -> None:
            nonlocal whole
            at, seconds = START + day * DAY, float("inf")
            build_features(case, ws, at)
            shutil.copytree(ws.online, kept)
            for run in range(runs):
                if run:  # from the same state again
                    shutil.rmtree(ws.online)
                    shutil.copytree(kept, ws.online)
                counted[0], started = 0, time.perf_counter()
                materialize(case, ws, at, Platform())
                seconds = min(seconds, time.perf_counter() - started)
            shutil.rmtree(kept)
            whole = whole or seconds
            some = rng.choice(everybody, size=200, replace=False)
            same = "yes" if read_back(case, ws, at, some) else "NO"
            sys.stdout.write(f"{name:44} {counted[0]:8,} {seconds:8.2f} {seconds / whole:7.1%}  {same}\n")
            sys.stdout.flush()

        report("all", 1)
        build_features(case, ws, START + 40 * DAY)
        materialize(case, ws, START + 40 * DAY, Platform())
        world.act(rng.choice(everybody, share, replace=False), 40)
        report("5 % acted", 41)
        report("nothing new", 41)
        world.act(rng.choice(everybody, share, replace=False), 20, arrived=41.5 - 20)
        report("5 % of three weeks ago arrived late", 42)
        world.act(rng.choice(everybody, share, replace=False), 41)
        report("5 % were read after their midnight", 42)
        for day in range(42, 80):
            world.act(steady[day % 20], day)
        build_features(case, ws, START + 79 * DAY)
        materialize(case, ws, START + 79 * DAY, Platform())
        report("5 % act every day, and leave three windows", 80)


if __name__ == "__main__":
    main()
