"""The content of a set of rows as a number: the same for every order, batching and file layout.

Each row is hashed by MD5 over its columns' text (stable across library versions, unlike the engines'
own hashes); the two halves are summed modulo 2^64. It guards against accidents, not against forgers.
A column that may be absent adds nothing where it is null, so that one declared later changes no hash.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from pipelines.case_study import Table
from pipelines.stores.schemas import may_be_absent, polars_schema
from pipelines.stores.sql import connect, parquet

_HALF = 2**64
_NULL = "chr(30)"
_BETWEEN = "chr(31)"


@dataclass(frozen=True)
class Content:
    """How many rows, and the sums of their hashes."""

    rows: int = 0
    high: int = 0
    low: int = 0

    def __add__(self, other: Content) -> Content:
        return Content(
            self.rows + other.rows, (self.high + other.high) % _HALF, (self.low + other.low) % _HALF
        )

    @property
    def name(self) -> str:
        """Write it as a file's name."""
        return f"{self.rows:08d}-{self.high:016x}{self.low:016x}"

    @classmethod
    def of_name(cls, name: str) -> Content:
        """Read it back from a file's name."""
        rows, _, sums = name.partition("-")
        return cls(int(rows), int(sums[:16], 16), int(sums[16:], 16))

    @classmethod
    def of_hashes(cls, high: np.ndarray, low: np.ndarray) -> Content:
        """Add up row hashes (uint64, shape (n,))."""
        return cls(len(high), int(high.sum(dtype=np.uint64)), int(low.sum(dtype=np.uint64)))


def hash_columns(table: Table, absent: Collection[str] = ()) -> str:
    """Write the SQL that hashes a row to two unsigned 64-bit columns, `_high` and `_low`.

    `absent` names columns that the rows lack.
    """
    return (
        f"md5_number({_row_text(table, absent)}) AS _hash, (_hash >> 64)::UBIGINT AS _high,"
        f" (_hash & {_HALF - 1}::UHUGEINT)::UBIGINT AS _low"
    )


def content_of_files(
    files: list[Path],
    table: Table,
    start: datetime | None,
    end: datetime | None,
    arrived_before: datetime | None,
) -> dict[Path, Content]:
    """Hash, file by file, those rows that lie in [start, end) and arrived before a moment."""
    if not files:
        return {}
    kept, values = ["true"], []
    moment = f'"{table.time}"'
    for condition, value in (
        (f"{moment} >= ?::TIMESTAMPTZ", start),
        (f"({moment} IS NULL OR {moment} < ?::TIMESTAMPTZ)", end),
        ("arrived_at < ?::TIMESTAMPTZ", arrived_before),
    ):
        if value is not None:
            kept.append(condition)
            values.append(value.isoformat())
    rows = parquet(files, filename=True, by_name=True)
    with TemporaryDirectory() as spill, connect(Path(spill)) as connection:
        present = {name for name, *_ in connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()}
        hashed = hash_columns(table, may_be_absent(table.schema) - present)
        sql = (
            f"SELECT filename, count(*), sum(_high), sum(_low) FROM (SELECT filename, {hashed} FROM {rows}"
            f" WHERE {' AND '.join(kept)}) GROUP BY filename"
        )
        found = connection.execute(sql, values).fetchall()
    return {
        Path(name): Content(int(rows), int(high) % _HALF, int(low) % _HALF) for name, rows, high, low in found
    }


def _row_text(table: Table, absent: Collection[str]) -> str:
    """Join the columns' texts; `concat_ws` passes over nulls, so those of columns that must exist are marked."""
    optional = may_be_absent(table.schema)
    texts = (
        f"'{name}=' || {_text(name, dtype)}"
        if name in optional
        else f"coalesce({_text(name, dtype)}, {_NULL})"
        for name, dtype in polars_schema(table.schema).items()
        if name not in absent
    )
    return f"concat_ws({_BETWEEN}, {', '.join(texts)})"


def _text(name: str, dtype: pl.DataType) -> str:
    column = f'"{name}"'
    if isinstance(dtype, pl.Datetime):
        return f"epoch_us({column})::VARCHAR"
    if dtype.is_nested():
        return f"to_json({column})::VARCHAR"
    if dtype == pl.Binary:
        return f"hex({column})"
    return f"{column}::VARCHAR"
