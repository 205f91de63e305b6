"""A process that ingests many events and prints its peak memory in MB; run by test_memory.py.

Usage: ingest_many.py WORKSPACE EVENTS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import START, tiny_case

from pipelines.case_study import Batch
from pipelines.steps.ingest import ingest
from pipelines.stores.workspace import Workspace

BATCH = 50_000
DAY = 100_000


def batches(events: int) -> Iterator[Batch]:
    """Make impressions of days with 100,000 events each; every hundredth is a duplicate of the day before."""
    start = int(START.timestamp() * 1_000_000)
    for first in range(0, events, BATCH):
        rng = np.random.default_rng(first)
        number = np.arange(first, min(first + BATCH, events))
        number = np.where((number % 100 == 0) & (number >= DAY), number - DAY + 1, number)
        shown = pl.Series(start + number * (86_400_000_000 // DAY)).cast(pl.Datetime("us", "UTC"))
        size = len(number)
        rows = pl.DataFrame(
            {
                "arrived_at": shown,
                "impression_id": [f"{each:032x}" for each in (number * 2_654_435_761 % 2**40).tolist()],
                "request_id": [f"r{each // 20}" for each in number.tolist()],
                "impression_time": shown,
                "position": pl.Series(number % 20 + 1, dtype=pl.Int32),
                "propensity": rng.uniform(0.01, 1, size),
                "user_id": [f"u{each}" for each in rng.integers(0, 50_000, size).tolist()],
                "video_id": [f"v{each}" for each in rng.integers(0, 5_000, size).tolist()],
                "explored": rng.random(size) < 0.1,
            }
        )
        yield Batch("impressions", rows, "many", first_row=first + 1)


def peak_megabytes() -> float:
    """Read this program's own high-water mark: `ru_maxrss` would keep that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def main() -> None:
    ws, events = Workspace(Path(sys.argv[1])), int(sys.argv[2])
    started = time.process_time()
    rows = ingest(tiny_case(), ws, batches(events), source="many", as_of=START.replace(year=2100)).total
    duplicates = len(range(DAY, events, 100))
    assert (rows.read, rows.kept, rows.duplicate) == (events, events - duplicates, duplicates), rows
    print(peak_megabytes(), time.process_time() - started)


if __name__ == "__main__":
    main()
