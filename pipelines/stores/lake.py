"""The lake: append-only Parquet by event date (UTC), where each key stands once.

`<root>/<table>/date=YYYY-MM-DD/<rows>-<content hash>.parquet`; rows without a time in `date=undated`.
A file's name is made of its rows alone, so a digest needs no reading, and does not depend on how the
rows were batched, ordered or spread over files.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb
import polars as pl

from pipelines.case_study import Table
from pipelines.errors import UsageError, nearest
from pipelines.stores.content import Content, content_of_files
from pipelines.stores.fold import Fold
from pipelines.stores.schemas import polars_schema
from pipelines.stores.sql import connect
from pipelines.stores.transaction import Transaction, settle, transaction

UNDATED = "undated"
_PREFIX = "date="
_STAGE_ROWS = 100_000

Contents = Mapping[str, Mapping[str, Content]]


@dataclass(frozen=True)
class Appended:
    """What became of appended rows: kept, or folded away because their key already stood."""

    kept: int = 0
    duplicate: int = 0


class Lake:
    """The rows of a case's tables. Safe to read while one process writes."""

    def __init__(self, root: Path, tables: Sequence[Table]) -> None:
        self.root = root
        self.tables = {table.name: table for table in tables}

    def append(self, table: str, rows: pl.DataFrame) -> Appended:
        """Add valid rows to a table at once: all of them become visible, or none."""
        with self.writing() as writer:
            writer.add(table, rows)
            appended = writer.fold()[table]
            writer.commit()
        return appended

    @contextmanager
    def writing(self) -> Iterator[LakeWriter]:
        """Open the lake for one writer; LoopError where another process writes."""
        with transaction(self.root.parent, self.root.name) as opened:
            yield LakeWriter(self, opened)

    def scan(
        self,
        table: str,
        start: datetime | None = None,
        end: datetime | None = None,
        arrived_before: datetime | None = None,
    ) -> pl.LazyFrame:
        """Scan rows with time in [start, end) that arrived before a moment.

        Rows without a time belong to every range that has no start. Typed even when empty.
        """
        declared = self._table(table)
        schema = polars_schema(declared.schema)
        files = self.files(table, start, end)
        if not files:
            return pl.LazyFrame(schema=schema)
        # A file from before a column was declared holds nulls there.
        rows = pl.scan_parquet(files, schema=schema, missing_columns="insert", hive_partitioning=False)
        moment = pl.col(declared.time)
        if start is not None:
            rows = rows.filter(moment >= start)
        if end is not None:
            inside = moment < end
            rows = rows.filter(inside if start is not None else inside | moment.is_null())
        if arrived_before is not None:
            rows = rows.filter(pl.col("arrived_at") < arrived_before)
        return rows

    def files(self, table: str, start: datetime | None = None, end: datetime | None = None) -> list[Path]:
        """List the files of the dates that [start, end) touches, sorted; the undated ones without a start."""
        settle(self.root.parent, self.root.name)
        folders = sorted((self.root / self._table(table).name).glob(f"{_PREFIX}*"))
        touched = (folder for folder in folders if _touches(_date_of(folder), start, end))
        return [file for folder in touched for file in sorted(folder.glob("*.parquet"))]

    def dates(self, table: str) -> list[date]:
        """List the dates that hold rows of a table."""
        found = {_date_of(file.parent) for file in self.files(table)}
        return sorted(each for each in found if each is not None)

    def rows(self, table: str) -> int:
        """Count a table's rows, without reading them."""
        return sum(Content.of_name(file.stem).rows for file in self.files(table))

    def digest(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        arrived_before: datetime | None = None,
        tables: Sequence[str] | None = None,
    ) -> str:
        """Hash the rows that `scan` would yield (SHA-256, hex), whatever files they stand in."""
        return contents_digest(self.contents(start, end, arrived_before, tables))

    def contents(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        arrived_before: datetime | None = None,
        tables: Sequence[str] | None = None,
    ) -> Contents:
        """Tell by table and folder (`date=…`) how many rows `scan` would yield, and the sum of their hashes."""
        contents = {}
        for name in sorted(self.tables if tables is None else tables):
            files = self.files(name, start, end)
            cut = {each for each in files if arrived_before or not _inside(_date_of(each.parent), start, end)}
            parts = content_of_files(sorted(cut), self._table(name), start, end, arrived_before)
            by_date: dict[str, Content] = defaultdict(Content)
            for file in files:
                whole = file not in cut
                by_date[file.parent.name] += (
                    Content.of_name(file.stem) if whole else parts.get(file, Content())
                )
            contents[name] = {where: content for where, content in by_date.items() if content.rows}
        return contents

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise UsageError(f"the lake has no table '{name}': {nearest(name, self.tables)}")
        return self.tables[name]


class LakeWriter:
    """One commit in the making: rows are staged batch by batch, folded, then made visible at once."""

    def __init__(self, lake: Lake, opened: Transaction) -> None:
        self.lake = lake
        self.transaction = opened
        self._waiting: dict[str, list[pl.DataFrame]] = defaultdict(list)
        self._staged: dict[str, list[Path]] = defaultdict(list)
        self._put: dict[str, dict[str, Content]] = {}

    def add(self, table: str, rows: pl.DataFrame) -> None:
        """Stage rows that match the table's schema; memory holds a bounded number of them."""
        schema = polars_schema(self.lake._table(table).schema)
        waiting = self._waiting[table]
        waiting.append(rows.select(schema.names()).cast(schema))
        if sum(each.height for each in waiting) >= _STAGE_ROWS:
            self._flush(table)

    def staged(self, table: str) -> list[Path]:
        """Return the files (Parquet, in the transaction's folder) of the rows that were added to a table."""
        self._flush(table)
        return list(self._staged[table])

    def fold(self) -> dict[str, Appended]:
        """Fold duplicates away, within what was added and against the lake; call once, before `commit`.

        Of several new rows with one key the first to arrive stays; equal arrivals are decided by content.
        """
        appended = {}
        with connect(self.transaction.folder / "spill") as connection:
            for table in sorted(self._waiting):
                self._flush(table)
                appended[table] = self._fold(connection, table)
        return appended

    def digest(self) -> str:
        """Tell what the lake's digest will be after `commit`."""
        contents: dict[str, dict[str, Content]] = {}
        for name in self.lake.tables:
            by_date: dict[str, Content] = defaultdict(Content)
            for file in self.lake.files(name):
                by_date[file.parent.name] += Content.of_name(file.stem)
            for where, content in self._put.get(name, {}).items():
                by_date[where] += content
            contents[name] = by_date
        return contents_digest(contents)

    def commit(self) -> None:
        """Make the rows, and whatever else the transaction holds, durable and visible at once."""
        self.transaction.commit()

    def _flush(self, table: str) -> None:
        waiting = self._waiting[table]
        rows = pl.concat(waiting) if waiting else None
        waiting.clear()
        if rows is None or rows.is_empty():
            return
        folder = self.transaction.folder / "rows" / table
        folder.mkdir(parents=True, exist_ok=True)
        staged = self._staged[table]
        staged.append(folder / f"{len(staged):08d}.parquet")
        rows.write_parquet(staged[-1], compression="lz4")

    def _fold(self, connection: duckdb.DuckDBPyConnection, table: str) -> Appended:
        staged = self._staged[table]
        if not staged:
            return Appended()
        declared = self.lake._table(table)
        put: dict[str, Content] = defaultdict(Content)
        folder = self.transaction.folder
        with Fold(connection, declared, staged, self.lake.files(table)) as fold:
            for day, rows, content in fold.pieces():
                where = f"{_PREFIX}{day.isoformat() if day else UNDATED}"
                aside = folder / "out" / table / where / f"{content.name}.parquet"
                aside.parent.mkdir(parents=True, exist_ok=True)
                rows.write_parquet(aside, compression="zstd", compression_level=1)
                self.transaction.put(aside, self.lake.root / table / where / aside.name)
                put[where] += content
            read = fold.read
        for file in staged:
            file.unlink()
        self._put[table] = put
        kept = sum(content.rows for content in put.values())
        return Appended(kept=kept, duplicate=read - kept)


def contents_digest(contents: Contents) -> str:
    """Hash what `Lake.contents` tells (SHA-256, hex)."""
    digest = hashlib.sha256()
    for table in sorted(contents):
        for where in sorted(contents[table]):
            content = contents[table][where]
            if content.rows:
                digest.update(f"{table}\0{where}\0{content.name}\n".encode())
    return digest.hexdigest()


def _date_of(folder: Path) -> date | None:
    text = folder.name.removeprefix(_PREFIX)
    return None if text == UNDATED else date.fromisoformat(text)


def _touches(day: date | None, start: datetime | None, end: datetime | None) -> bool:
    if day is None:
        return start is None
    first = datetime.combine(day, time(), UTC)
    return (start is None or first + timedelta(days=1) > start) and (end is None or first < end)


def _inside(day: date | None, start: datetime | None, end: datetime | None) -> bool:
    if day is None:
        return True
    first = datetime.combine(day, time(), UTC)
    return (start is None or first >= start) and (end is None or first + timedelta(days=1) <= end)
