"""The lower layer of features: daily partial aggregates, one file a day, refreshed where the lake changed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import polars as pl

from pipelines.case_study import CaseStudy, FeatureTable, Table
from pipelines.errors import DataError
from pipelines.stores.engine import by_date, dated, scan, to_polars
from pipelines.stores.files import read_json, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

LAKE_BYTES_A_QUERY = 256 * 2**20


@dataclass(frozen=True)
class Plan:
    """The columns that a feature table computes, and a hash of how: another hash starts from scratch."""

    partials: ibis.Schema
    due: ibis.Schema
    snapshot: ibis.Schema
    definition: str


@cache
def plan(feature: FeatureTable, tables: tuple[Table, ...]) -> Plan:
    """Write a feature table's SQL without running it; DataError where it lacks the columns it needs."""
    declared = {table.name: table for table in tables}
    schemas = {name: ibis.Schema.from_polars(polars_schema(declared[name].schema)) for name in feature.reads}
    rows = {name: ibis.table(schema, name=name) for name, schema in schemas.items()}
    partials = feature.daily({name: dated(each, declared[name].time) for name, each in rows.items()})
    _check_columns(feature, "daily", partials, (*feature.keys, "day", "known"))
    keys = {key: partials[key].type() for key in feature.keys}
    due = ibis.table(keys | {"at": "date"}, name="due")
    snapshot = feature.roll(due, ibis.table(partials.schema(), name="partials"))
    _check_columns(feature, "roll", snapshot, (*feature.keys, "at"))
    texts = [str(ibis.to_sql(each, dialect="duckdb")) for each in (partials, snapshot)]
    digest = hashlib.sha256("\n".join([*texts, str(feature.windows)]).encode()).hexdigest()
    return Plan(partials.schema(), due.schema(), snapshot.schema(), digest)


@dataclass
class State:
    """What a table's folders hold: the lake's files that each day was made from, and the last snapshot.

    `rewinds` lists the midnights from which built snapshots were thrown away, one each time, so that the
    online store reads again from there; from the epoch, where an entity may have lost its rows.
    """

    definition: str
    days: dict[str, str] = field(default_factory=dict)
    until: date | None = None
    rewinds: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> State | None:
        """Read the state; None where nothing was built yet, or by an older version of this program."""
        content = read_json(path) if path.exists() else {}
        if content.keys() != {each.name for each in fields(cls)}:
            return None
        until = content.pop("until")
        return cls(**content, until=date.fromisoformat(until) if until else None)

    def save(self, path: Path) -> None:
        """Make the state durable, and before it all the files it speaks of: one sync, not one a file."""
        os.sync()
        write_json(path, asdict(self))


class Partials:
    """The daily partials of one feature table: `<folder>/date=D/part.parquet`."""

    def __init__(self, case: CaseStudy, ws: Workspace, feature: FeatureTable, backend: Any) -> None:
        self.case, self.feature, self.backend = case, feature, backend
        self.lake = Lake(ws.lake, case.tables)
        self.folder = ws.features / "_daily" / feature.name
        self.schema = plan(feature, tuple(case.tables)).partials

    def files(self) -> dict[date, list[Path]]:
        """List the partials' files by day."""
        return by_date(self.folder.glob("date=*/*.parquet"))

    def refresh(self, state: State, until: date, before_change: Callable[[date, bool], None]) -> int:
        """Recompute the days before `until` whose files in the lake changed; return their number.

        `before_change(midnight, lost)` is told, before anything is overwritten, from which midnight on
        snapshots will differ: a build that is killed in between then starts there. `lost` says that an
        entity has no row any more where it had one.
        """
        sources = {name: by_date(self.lake.files(name)) for name in self.feature.reads}
        days = sorted({day for files in sources.values() for day in files if day < until})
        marks = {day: _mark({name: files.get(day, []) for name, files in sources.items()}) for day in days}
        gone = [day for day in map(date.fromisoformat, state.days) if day < until and day not in marks]
        touched = sorted([*gone, *(day for day in days if state.days.get(day.isoformat()) != marks[day])])
        for chunk in _chunks(touched, sources):
            rows = self._aggregate(chunk, sources)
            changed = [each for day in chunk for each in self._changed(day, rows[day])]
            if changed:
                before_change(min(known for known, _ in changed), any(lost for _, lost in changed))
            for day in chunk:
                write_parquet(self._file(day), rows[day])
        state.days |= {day.isoformat(): mark for day, mark in marks.items()}
        for day in gone:
            shutil.rmtree(self._file(day).parent)
            del state.days[day.isoformat()]
        return len(touched)

    def _aggregate(
        self, days: Sequence[date], sources: Mapping[str, Mapping[date, Sequence[Path]]]
    ) -> dict[date, pl.DataFrame]:
        tables = {}
        for name, files in sources.items():
            chosen = [path for day in days for path in files.get(day, [])]
            table = self.case.table(name)
            tables[name] = dated(scan(self.backend, table, chosen), table.time)
        partials = to_polars(self.feature.daily(tables), self.backend)
        found = partials.sort("day", "known", *self.feature.keys).partition_by("day", as_dict=True)
        return {day: found.get((day,), partials.clear()) for day in days}

    def _changed(self, day: date, new: pl.DataFrame) -> list[tuple[date, bool]]:
        """List the midnights (`known`) whose rows differ from those that stand; do they lack an entity?"""
        old = _read(self._file(day), new.clear())
        before, after = (each.partition_by("known", as_dict=True) for each in (old, new))
        both = before.keys() & after.keys()
        same = {key for key in both if before[key].equals(after[key])}
        keys = list(self.feature.keys)
        lost = {
            key
            for key, rows in before.items()
            if key not in same
            and rows.join(after.get(key, new.clear()), on=keys, how="anti", nulls_equal=True).height
        }
        return [(key[0], key in lost) for key in (before.keys() | after.keys()) - same]

    def _file(self, day: date) -> Path:
        return self.folder / f"date={day}" / "part.parquet"


def write_parquet(path: Path, rows: pl.DataFrame) -> None:
    """Write rows so that a reader sees all of them or none; durable once the state is saved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp")
    rows.rechunk().write_parquet(aside, compression="zstd", statistics=True)
    aside.replace(path)


def _read(path: Path, otherwise: pl.DataFrame) -> pl.DataFrame:
    """Read a day's rows; a file torn by a power cut counts as none."""
    try:
        return pl.read_parquet(path)
    except (FileNotFoundError, pl.exceptions.ComputeError):
        return otherwise


def _check_columns(feature: FeatureTable, part: str, rows: ir.Table, needed: Sequence[str]) -> None:
    missing = [column for column in needed if column not in rows.columns]
    if missing:
        raise DataError(f"feature table '{feature.name}': `{part}` computes no column '{missing[0]}'")


def _mark(files: Mapping[str, Sequence[Path]]) -> str:
    """Name the state of a day's files: the lake names each by its content."""
    lines = [f"{name}/{path.name}" for name in sorted(files) for path in files[name]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _chunks(
    days: Sequence[date], sources: Mapping[str, Mapping[date, Sequence[Path]]]
) -> Iterator[list[date]]:
    """Group days so that no query reads much more than LAKE_BYTES_A_QUERY (compressed)."""
    chunk: list[date] = []
    size = 0
    for day in days:
        size += sum(path.stat().st_size for files in sources.values() for path in files.get(day, []))
        chunk.append(day)
        if size >= LAKE_BYTES_A_QUERY:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
