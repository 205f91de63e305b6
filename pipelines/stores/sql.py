"""DuckDB as the stores use it: in memory, in UTC, spilling to a folder rather than growing."""

from __future__ import annotations

from pathlib import Path

import duckdb


def connect(spill: Path, memory: str = "512MB") -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB that speaks UTC and spills to `spill` rather than grow."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute(f"SET temp_directory = {quoted(str(spill))}")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute("SET enable_progress_bar = false")
    return connection


def quoted(text: str) -> str:
    """Write an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def parquet(files: list[Path], filename: bool = False, places: bool = False, by_name: bool = False) -> str:
    """Write an SQL table function over Parquet files.

    `filename` adds the column of that name, `places` also each row's `file_row_number`, from 0. `by_name`
    reads files of which some lack a column.
    """
    names = ", ".join(quoted(str(file)) for file in files)
    options = {
        "hive_partitioning": False,
        "filename": filename or places,
        "file_row_number": places,
        "union_by_name": by_name,
    }
    return (
        f"read_parquet([{names}], {', '.join(f'{name} = {str(on).lower()}' for name, on in options.items())})"
    )


def identifier(name: str) -> str:
    """Write an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
