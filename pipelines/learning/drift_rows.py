"""Rows in Parquet, read by DuckDB with a bound on its memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl

from pipelines.errors import DataError, UsageError, nearest

_ADDED = ("_day", "_now", "file_row_number")

Rows = pl.DataFrame | pl.LazyFrame | Path | Sequence[Path]


@contextmanager
def open_rows(rows: Rows, time: str, memory: str = "1GB") -> Iterator[Any]:
    """Open rows as a DuckDB view `rows`, with `_day`; frames are first sunk to a temporary Parquet file."""
    with TemporaryDirectory(prefix="loop-drift-") as scratch:
        paths = _paths(rows, Path(scratch))
        # Parquet's statistics leave NaN out, and DuckDB 2.0 concludes from them that isnan() is false.
        settings = {"disabled_optimizers": "statistics_propagation"}
        with duckdb.connect(
            config={"memory_limit": memory, "temp_directory": scratch, **settings}
        ) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            connection.execute("SET preserve_insertion_order = false")
            listed = ", ".join(text_sql(str(path)) for path in paths)
            source = (
                f"read_parquet([{listed}], hive_partitioning=false, union_by_name=true, file_row_number=true)"
            )
            names = types_of(connection, source)
            if time not in names:
                raise UsageError(f"the rows have no time column '{time}': {nearest(time, names)}")
            at = quoted(time)
            day = f"CAST(floor(epoch_us({at}) / 86400000000) AS BIGINT)"  # asks no calendar, as dates do
            connection.execute(
                f"CREATE VIEW rows AS SELECT *, {day} AS _day, epoch({at}) AS _now FROM {source} "
                f"WHERE {at} IS NOT NULL"
            )
            yield connection


def types_of(connection: Any, source: str = "rows") -> dict[str, str]:
    """Name the columns of a relation and their DuckDB types, without those added here."""
    found = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return {name: kind for name, kind, *_ in found if name not in _ADDED}


def kind_of(sql_type: str) -> str:
    """Say how a column of this DuckDB type is watched; a list by its length, a moment by its age."""
    if sql_type.endswith("]"):
        return "numeric"
    word = sql_type.partition("(")[0]
    if word == "BOOLEAN":
        return "boolean"
    if word in ("VARCHAR", "ENUM"):
        return "categorical"
    numeric = "INT" in word or word in ("DOUBLE", "FLOAT", "DECIMAL") or is_moment(sql_type)
    return "numeric" if numeric else "ignored"


def is_moment(sql_type: str) -> bool:
    """Say whether a column holds dates or time stamps."""
    return sql_type == "DATE" or sql_type.startswith("TIMESTAMP")


def sample(connection: Any, size: int, values: Mapping[str, str]) -> pl.DataFrame:
    """Draw rows, the same ones from the same files whatever the threads: those of the least hashes.

    `values` are SQL expressions by name.
    """
    listed = ", ".join(f"{value} AS {quoted(name)}" for name, value in values.items())
    query = f"SELECT {listed} FROM rows ORDER BY hash(file_row_number, _now), file_row_number LIMIT {size}"
    drawn = pl.from_arrow(connection.sql(query).to_arrow_table())
    assert isinstance(drawn, pl.DataFrame)
    return drawn


def _paths(rows: Rows, scratch: Path) -> list[Path]:
    if isinstance(rows, Path):
        paths = sorted(rows.rglob("*.parquet")) if rows.is_dir() else [rows]
    elif isinstance(rows, pl.DataFrame | pl.LazyFrame):
        paths = [scratch / "rows.parquet"]
        rows.lazy().sink_parquet(paths[0])
    else:
        paths = list(rows)
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise DataError(f"no Parquet rows at {missing[0] if missing else rows}: nothing to compare")
    return paths


def number_sql(name: str, sql_type: str, clock: float = 0.0) -> str:
    """Write a column as a number, NaN as null: a list's length, a moment's age in days.

    `clock` is the seconds in a unit of a column that counts time since 1970; 0 for any other.
    """
    value = f"len({quoted(name)})" if sql_type.endswith("]") else quoted(name)
    if is_moment(sql_type):
        return f"(_now - epoch({value})) / 86400"
    number = f"TRY_CAST({value} AS DOUBLE)"
    if clock:
        number = f"(_now - {number} * {double_sql(clock)}) / 86400"
    return f"CASE WHEN NOT isnan({number}) THEN {number} END"


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def double_sql(number: float) -> str:
    """Write a DOUBLE literal; without an exponent DuckDB would read a DECIMAL."""
    text = repr(number)
    return text if "e" in text else f"{text}e0"


def text_sql(text: str) -> str:
    """Write a string literal."""
    return "'" + text.replace("'", "''") + "'"
