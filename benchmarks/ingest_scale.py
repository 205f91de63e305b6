"""Measure ingest and features at 1×, 10× and 100× the events: seconds and peak memory, a process each.

    python benchmarks/ingest_scale.py [--events 20000] [--full]

Events are impressions and watches of 30 days; users and videos grow with them. Both times leave out the
making of the events; that of the processor does not depend on what else the machine does. `times` is an
event's beside that of an event of ten times fewer: about 1 where time grows linearly.
`--full` begins with 200,000 events and ends with 20 million.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from pipelines import catalog
from pipelines.case_study import Batch
from pipelines.steps.features import build_features
from pipelines.steps.ingest import ingest
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

CASE = catalog.case("video_recommendation")
START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), 30
BATCH = 50_000
WATCHED = 5  # every fifth impression


def batches(events: int) -> Iterator[Batch]:
    """Make a day's impressions, ten in a row a user, and the watches that follow them."""
    shown = events * WATCHED // (WATCHED + 1)
    a_day = shown // DAYS
    users, videos = max(shown // 50, 1), max(shown // 1000, 1)
    for day in range(DAYS):
        for first in range(0, a_day, BATCH):
            rng = np.random.default_rng([day, first])
            number = np.arange(first, min(first + BATCH, a_day))
            user = (number // 10 * 2_654_435_761 + day * 97) % users
            video = (videos * rng.random(len(number)) ** 2).astype(int)
            moment = day * 86_400_000_000 + number * (86_400_000_000 // a_day)
            rows = pl.DataFrame({"number": number, "user": user, "video": video, "moment": moment})
            rows = rows.select(
                impression_id=pl.format("i{}-{}", pl.lit(day), "number"),
                impression_time=pl.col("moment").cast(pl.Duration("us")) + START,
                user_id=pl.format("u{}", "user"),
                video_id=pl.format("v{}", "video"),
                request_id=pl.format("r{}-{}", pl.lit(day), pl.col("number") // 10),
                position=pl.col("number") % 10 + 1,
                propensity=pl.lit(0.1),
                explored=pl.lit(value=False),
            )
            yield _batch("impressions", rows.with_columns(arrived_at="impression_time"), day, first)
            watched = rows.gather_every(WATCHED).select(
                "impression_id",
                "user_id",
                "video_id",
                action_id="impression_id",
                action=pl.lit("watch"),
                value=pl.lit(0.9),
                action_time=pl.col("impression_time") + timedelta(minutes=3),
                arrived_at=pl.col("impression_time") + timedelta(hours=2),
            )
            yield _batch("actions", watched, day, first)


def _batch(table: str, rows: pl.DataFrame, day: int, first: int) -> Batch:
    schema = polars_schema(CASE.table(table).schema)
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in rows.columns]
    rows = rows.with_columns(absent).select(schema.names()).cast(schema)
    return Batch(table, rows, f"day {day}", first_row=first + 1)


def clocks() -> np.ndarray:
    """Read the time and this process's own, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def run_ingest(ws: Workspace, events: int) -> np.ndarray:
    """Ingest; return what it took, without what making the rows took."""
    making = np.zeros(2)

    def made() -> Iterator[Batch]:
        source = batches(events)
        while True:
            started = clocks()
            batch = next(source, None)
            making[:] += clocks() - started
            if batch is None:
                return
            yield batch

    started = clocks()
    rows = ingest(CASE, ws, made(), source="many", as_of=START + (DAYS + 2) * timedelta(days=1)).total
    assert rows.kept == rows.read > 0, rows
    return clocks() - started - making


def run_features(ws: Workspace, events: int) -> np.ndarray:
    """Build the features; return what it took."""
    started = clocks()
    build_features(CASE, ws, START + (DAYS + 1) * timedelta(days=1))
    return clocks() - started


STEPS = {"ingest": run_ingest, "features": run_features}


def peak_gigabytes() -> float:
    """Read this process's own high-water mark: `ru_maxrss` would keep that of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 2**20


def child(step: str, folder: Path, events: int) -> list[float]:
    """Run a step in a process of its own; return its seconds, processor seconds and peak GiB."""
    command = [sys.executable, __file__, "--child", step, str(folder), str(events)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return [float(each) for each in found]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="1×")
    parser.add_argument("--full", action="store_true", help="1× is 200,000 events")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.child:
        step, folder, events = asked.child
        seconds = STEPS[step](Workspace(Path(folder)), int(events))
        sys.stdout.write(f"{seconds[0]} {seconds[1]} {peak_gigabytes()}\n")
        return
    base = 200_000 if asked.full else asked.events
    sys.stdout.write(
        f"{'step':10} {'events':>12} {'seconds':>8} {'processor':>9} {'µs/event':>9} {'times':>6} {'peak GiB':>9}\n"
    )
    before: dict[str, float] = {}
    for scale in (1, 10, 100):
        with TemporaryDirectory(prefix="loop-bench-") as scratch:
            for step in STEPS:
                events = base * scale
                seconds, processor, peak = child(step, Path(scratch) / "live" / CASE.name, events)
                each = processor / events * 1e6
                times = f"{each / before[step]:6.2f}" if step in before else f"{'':6}"
                before[step] = each
                line = f"{step:10} {events:12,} {seconds:8.1f} {processor:9.1f} {each:9.1f} {times}"
                sys.stdout.write(f"{line} {peak:9.2f}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
