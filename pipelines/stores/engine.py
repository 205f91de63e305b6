"""The analytical engine: the lake's Parquet as Ibis tables over DuckDB, out of core and in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import ibis.expr.types as ir
import polars as pl

from pipelines.case_study import Table
from pipelines.stores.lake import UNDATED
from pipelines.stores.schemas import may_be_absent, polars_schema

EPOCH = date(1970, 1, 1)


@contextmanager
def connect() -> Iterator[Any]:
    """Open a DuckDB of one's own, which spills to a temporary folder instead of failing."""
    with TemporaryDirectory(prefix="loop-duckdb-") as scratch:
        backend = ibis.duckdb.connect(temp_directory=scratch)
        backend.raw_sql("SET TimeZone = 'UTC'")
        backend.raw_sql("SET enable_progress_bar = false")
        try:
            yield backend
        finally:
            backend.disconnect()


def by_date(files: Iterable[Path]) -> dict[date, list[Path]]:
    """Group files by their folder's date; rows without a time count as 1970-01-01."""
    found: dict[date, list[Path]] = {}
    for path in sorted(files):
        text = path.parent.name.removeprefix("date=")
        found.setdefault(EPOCH if text == UNDATED else date.fromisoformat(text), []).append(path)
    return found


def scan(backend: Any, table: Table, files: Sequence[Path]) -> ir.Table:
    """Read a table's files as an Ibis table; typed, and without rows, where there are none."""
    types = polars_schema(table.schema)
    if not files:
        return ibis.memtable(types.to_frame().to_arrow())
    rows = read_parquet(backend, files)
    wanted = ibis.Schema.from_polars(types)
    absent = {
        name: ibis.null(wanted[name]) for name in may_be_absent(table.schema) if name not in rows.columns
    }
    return rows.mutate(**absent).select(types.names())


def read_parquet(backend: Any, files: Sequence[Path]) -> ir.Table:
    """Read Parquet files as one Ibis table, without columns made up from folder names."""
    names = [str(path) for path in files]
    rows: ir.Table = backend.read_parquet(names, hive_partitioning=False, union_by_name=True)
    return rows


def dated(rows: ir.Table, time: str) -> ir.Table:
    """Add `day`, the row's date, and `known`, the first midnight before which it happened and arrived."""
    happened = ibis.coalesce(rows[time], ibis.literal(datetime(1970, 1, 1, tzinfo=UTC)))
    latest = ibis.greatest(happened, rows["arrived_at"])
    return rows.mutate(day=happened.date(), known=(latest.date() + ibis.interval(days=1)).cast("date"))


def to_polars(expression: ir.Table, backend: Any) -> pl.DataFrame:
    """Run an expression and return its rows, with UTC time stamps in microseconds."""
    frame = pl.from_arrow(backend.to_pyarrow(expression))
    assert isinstance(frame, pl.DataFrame)
    return frame
