"""Feed: rows of a file enter a live system, such as what a catalogue has gained, or what another system collected."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import polars as pl

from pipelines.case_study import Batch
from pipelines.errors import DataError
from pipelines.flows import clock
from pipelines.flows.edge import timed
from pipelines.flows.live import bind_live, turn
from pipelines.settings import Project
from pipelines.steps.ingest import Manifest, ingest
from pipelines.stores.csv_text import scan_csv
from pipelines.stores.location import reading

FEED = "feed"
_BATCH_ROWS = 100_000
_ARRIVED = "arrived_at"


def feed(project: Project, case: str, table: str, file: Path, zone: str | None = None) -> Manifest:
    """Take the rows of a CSV or Parquet file, whose columns are the table's, into a live workspace.

    They are known to the platform from now on, whatever a column `arrived_at` of theirs says; one that stands there
    already is a duplicate. `zone` is that of times that name none. Raises UsageError where the case is not live,
    DataError on wrong columns.
    """
    with turn(bind_live(project, case).workspace):
        run = bind_live(project, case)
        now = clock.read(run.workspace).now()
        with run.workspace.lock(), timed(run.workspace, "ingest"):
            batches = _batches(table, file, now)
            return ingest(
                run.case, run.workspace, batches, source=FEED, as_of=now, zone=zone, limits=run.limits
            )


def _batches(table: str, file: Path, now: datetime) -> Iterator[Batch]:
    if not file.is_file():
        raise DataError(
            f"there is no file {file}: name a .csv or .parquet file with the columns of '{table}'"
        )
    plain = file.suffix.lower() == ".parquet"
    with reading(file):
        rows = pl.scan_parquet(file) if plain else scan_csv(file)
        arrived = pl.lit(now, dtype=pl.Datetime("us", "UTC")).alias(_ARRIVED)
        first = 1 if plain else 2  # below the header
        for part in rows.with_columns(arrived).collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
            yield Batch(table, part, file.name, first)
            first += part.height
