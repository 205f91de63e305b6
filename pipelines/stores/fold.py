"""The fold of duplicates, out of core: DuckDB joins and sorts, and spills; only pieces come to memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import TracebackType

import duckdb
import polars as pl

from pipelines.case_study import Table
from pipelines.errors import LoopError
from pipelines.stores.content import Content, hash_columns
from pipelines.stores.schemas import polars_schema
from pipelines.stores.sql import parquet

_BATCH_ROWS = 50_000
_FILE_ROWS = 500_000
_GROUP_ROWS = 1_000_000


class Fold:
    """New rows of one table, each key once, without those that `standing` files already hold.

    Only keys are compared across all rows, which is cheap; whole rows are fetched a group of dates at a
    time. Of rows with one key the first to arrive stays; equal arrivals are decided by the rows' hashes.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: Table, staged: list[Path], standing: list[Path]
    ) -> None:
        self.table = table
        self.read = 0
        self._staged = staged
        self._standing = standing
        self._schema = polars_schema(table.schema)
        self._keys = ", ".join(f'"{key}"' for key in table.key)
        self._day = f"CAST(\"{table.time}\" AT TIME ZONE 'UTC' AS DATE)"
        self._connection = connection

    def __enter__(self) -> Fold:
        new = parquet(self._staged)
        standing = parquet(self._standing) if self._standing else f"(SELECT {self._keys} FROM {new} LIMIT 0)"
        self._connection.execute(
            f"CREATE TEMP TABLE taken AS SELECT {self._keys} FROM {standing} AS standing"
            f" SEMI JOIN {new} AS new USING ({self._keys})"
        )
        self._connection.execute(
            f"CREATE TEMP TABLE suspects AS SELECT hash({self._keys}) AS suspect FROM {new}"
            " GROUP BY suspect HAVING count(*) > 1"
        )
        self._connection.execute(
            f"CREATE TEMP TABLE doubles AS SELECT {self._keys}, min((arrived_at, _hash)) AS first"
            f" FROM (SELECT *, {hash_columns(self.table)} FROM {new}"
            f" WHERE hash({self._keys}) IN (SELECT suspect FROM suspects))"
            f" GROUP BY {self._keys} HAVING count(*) > 1"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in ("taken", "suspects", "doubles"):
            self._connection.execute(f"DROP TABLE IF EXISTS {name}")

    def pieces(self) -> Iterator[tuple[date | None, pl.DataFrame, Content]]:
        """Yield (date, rows sorted by key, content): a date's rows in pieces of bounded size."""
        for dates in self._groups():
            yield from self._group_pieces(dates)

    def _groups(self) -> Iterator[str]:
        """Yield conditions that take the dates in runs of about so many rows as fit in memory."""
        counted = self._connection.execute(
            f"SELECT {self._day} AS day, count(*) FROM {parquet(self._staged)} GROUP BY day ORDER BY day"
        ).fetchall()
        self.read = sum(rows for _, rows in counted)
        if any(day is None for day, _ in counted):
            yield f'"{self.table.time}" IS NULL'
        run: list[date] = []
        size = 0
        for day, rows in counted:
            if day is None:
                continue
            if run and size + rows > _GROUP_ROWS:
                yield self._between(run)
                run, size = [], 0
            run.append(day)
            size += rows
        if run:
            yield self._between(run)

    def _between(self, days: list[date]) -> str:
        moment = f'"{self.table.time}"'
        return (
            f"{moment} >= TIMESTAMPTZ '{days[0]} 00:00:00+00'"
            f" AND {moment} < TIMESTAMPTZ '{days[-1]} 00:00:00+00' + INTERVAL 1 DAY"
        )

    def _group_pieces(self, dates: str) -> Iterator[tuple[date | None, pl.DataFrame, Content]]:
        waiting: list[pl.DataFrame] = []
        day: date | None = None
        for batch in self._batches(dates):
            for rows in batch.partition_by("_date", maintain_order=True):
                if waiting and (rows["_date"][0] != day or sum(map(len, waiting)) >= _FILE_ROWS):
                    yield self._piece(day, waiting)
                    waiting = []
                if day is not None and rows["_date"][0] < day:
                    raise LoopError(
                        f"the rows of {self.table.name} came unsorted from DuckDB: nothing was kept"
                    )
                day = rows["_date"][0]
                waiting.append(rows)
        if waiting:
            yield self._piece(day, waiting)

    def _batches(self, dates: str) -> Iterator[pl.DataFrame]:
        for batch in self._connection.sql(self._sql(dates)).to_arrow_reader(_BATCH_ROWS):
            rows = pl.from_arrow(batch)
            assert isinstance(rows, pl.DataFrame)
            if rows.height:
                yield rows

    def _piece(
        self, day: date | None, waiting: list[pl.DataFrame]
    ) -> tuple[date | None, pl.DataFrame, Content]:
        rows = pl.concat(waiting)
        content = Content.of_hashes(rows["_high"].to_numpy(), rows["_low"].to_numpy())
        return day, rows.select(self._schema.names()).cast(self._schema), content

    def _sql(self, dates: str) -> str:
        columns = ", ".join(f'"{name}"' for name in self._schema)
        hashed = f"SELECT *, {hash_columns(self.table)} FROM {parquet(self._staged)} WHERE {dates}"
        rows = f"SELECT * FROM ({hashed}) ANTI JOIN taken USING ({self._keys})"
        if self._connection.execute("SELECT count(*) FROM doubles").fetchall()[0][0]:
            # Rows that are equal in everything have one hash, one date, and so stand in one group.
            rows = (
                f"SELECT * FROM ({rows}) LEFT JOIN doubles USING ({self._keys})"
                " WHERE first IS NULL OR first = (arrived_at, _hash)"
                f" QUALIFY first IS NULL OR row_number() OVER (PARTITION BY {self._keys}) = 1"
            )
        return (
            f"SELECT {columns}, _high, _low, {self._day} AS _date FROM ({rows})"
            f" ORDER BY _date NULLS FIRST, {self._keys}"
        )
