"""The analytical engine: the lake's Parquet as Ibis tables over DuckDB, out of core and in UTC.

Expressions stand over named tables, and files behind the names, as views of a connection: so the expression of
today is that of yesterday, and its SQL is known. To compile it anew took longer than to run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ibis
import ibis.expr.types as ir
import polars as pl
from ibis.backends.sql.datatypes import DuckDBType

from pipelines.case_study import Table
from pipelines.stores.lake import UNDATED
from pipelines.stores.schemas import may_be_absent, polars_schema
from pipelines.stores.sql import identifier, parquet

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


def scan(backend: Any, table: Table, files: Sequence[Path], until: datetime | None = None) -> ir.Table:
    """Read a table's files as the Ibis table of its name; typed, and without rows, where there are none.

    With `until`, of rows that had happened (or tell no time) and arrived before it.
    """
    kinds = ibis.Schema.from_polars(polars_schema(table.schema))
    if not files:
        return nothing(backend, table.name, kinds)
    absent = may_be_absent(table.schema)
    if absent:
        absent -= {name for name, *_ in backend.con.execute(f"DESCRIBE FROM {_files(files)}").fetchall()}
    columns = ", ".join(
        f"NULL::{DuckDBType.to_string(kinds[name])} AS {identifier(name)}"
        if name in absent
        else identifier(name)
        for name in kinds.names
    )
    known = "true"
    if until is not None:
        time, moment = identifier(table.time), f"TIMESTAMPTZ '{until.isoformat()}'"
        known = f"({time} IS NULL OR {time} < {moment}) AND arrived_at < {moment}"
    return view(backend, table.name, f"SELECT {columns} FROM {_files(files)} WHERE {known}", kinds)


def read_parquet(backend: Any, name: str, files: Sequence[Path], kinds: ibis.Schema) -> ir.Table:
    """Read Parquet files as the Ibis table of a name; without rows where there are none."""
    return view(backend, name, f"FROM {_files(files)}", kinds) if files else nothing(backend, name, kinds)


def view(backend: Any, name: str, rows: str, kinds: ibis.Schema) -> ir.Table:
    """Put a query (SQL) behind a name, in the place of what stood there."""
    backend.con.execute(f"CREATE OR REPLACE TEMP VIEW {identifier(name)} AS {rows}")
    return ibis.table(kinds, name=name)


def nothing(backend: Any, name: str, kinds: ibis.Schema) -> ir.Table:
    """Put no rows behind a name."""
    columns = ", ".join(f"NULL::{DuckDBType.to_string(kinds[each])} AS {identifier(each)}" for each in kinds)
    return view(backend, name, f"SELECT {columns} WHERE false", kinds)


def _files(files: Sequence[Path]) -> str:
    """Write the SQL of Parquet files as one relation, without columns made up from folder names."""
    return parquet(list(files), by_name=True)


def dated(rows: ir.Table, time: str) -> ir.Table:
    """Add `day`, the row's date, and `known`, the first midnight before which it happened and arrived."""
    happened = ibis.coalesce(rows[time], ibis.literal(datetime(1970, 1, 1, tzinfo=UTC)))
    latest = ibis.greatest(happened, rows["arrived_at"])
    return rows.mutate(day=happened.date(), known=(latest.date() + ibis.interval(days=1)).cast("date"))


def to_polars(expression: ir.Table, backend: Any) -> pl.DataFrame:
    """Run an expression and return its rows, with UTC time stamps in microseconds."""
    frame = pl.from_arrow(backend.con.sql(compiled(expression)).to_arrow_table())
    assert isinstance(frame, pl.DataFrame)
    return frame.cast(dict(expression.schema().to_polars()))


def compiled(expression: ir.Table) -> str:
    """Write an expression's SQL; one that is equal was written before."""
    return _sql(expression.op())


@lru_cache(maxsize=256)
def _sql(operation: Any) -> str:
    return str(ibis.to_sql(operation.to_expr(), dialect="duckdb", pretty=False))
