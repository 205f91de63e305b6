"""Real rows: a folder of CSV files, one a table. Replace: with the files that your publisher really gives."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipelines.case_study import Batch, Location, Observed, Source, Table
from pipelines.case_template.tables import TABLES
from pipelines.stores.csv_text import scan_csv
from pipelines.stores.location import reading

BATCH_ROWS = 100_000
FIRST_ROW = 2  # the line of the first row of data, below the header


def read_csv(location: Location) -> Iterator[Batch]:
    """Read `<table>.csv` for each table; its header names the table's columns.

    A row without `arrived_at` counts as known at its own time. Ingest refuses a file that lacks a column, and puts a
    line with a field too many, or with bytes that are no UTF-8, into quarantine.
    """
    for table in TABLES:
        yield from _read(table, location)


def _read(table: Table, location: Location) -> Iterator[Batch]:
    path, row = location.fetch(f"{table.name}.csv"), FIRST_ROW
    with reading(path):
        rows = scan_csv(path)
        if "arrived_at" not in rows.collect_schema():
            rows = rows.with_columns(arrived_at=pl.col(table.time))
        for part in rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            yield Batch(table.name, part, path.name, row)
            row += part.height


CSV = Source(
    name="csv",
    describe="a folder with items.csv, requests.csv, impressions.csv and actions.csv, columns as in tables.py",
    observed=Observed(),
    protocols=("logged",),
    read=read_csv,
    zone="UTC",
)
"""`zone` is that of times that name none, such as 2026-01-31 12:00:00."""
