"""Feature tables as dated snapshots: out of core, incremental, the same bytes however they came about.

Two layers stand under the workspace's features/:

- `_daily/<table>/date=D/`: partial aggregates of the rows of day D, one row an entity and `known`, the
  first midnight that may see the rows (they happened and had arrived before it). Only days whose files
  in the lake changed are computed anew.
- `<table>/date=A/`: a snapshot, the features at midnight A of the entities that were due then. It sees
  only what was known by A, so no later row ever changes it: created_timestamp equals event_timestamp.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import polars as pl

from pipelines.case_study import CaseStudy, FeatureTable
from pipelines.settings import Platform
from pipelines.steps.partials import Partials, State, plan, write_parquet
from pipelines.stores.engine import EPOCH, by_date, compiled, connect, read_parquet, to_polars, view
from pipelines.stores.files import folder_digest
from pipelines.stores.workspace import Workspace

DUE_ROWS_A_QUERY = 200_000
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class BuiltFeatures:
    """What a build did: days refreshed and snapshot rows written, by table, and the features' digest."""

    as_of: datetime
    refreshed: Mapping[str, int]
    rows: Mapping[str, int]
    digest: str

    def summary(self) -> str:
        """Say in a line what was built."""
        return ", ".join(f"{name} {rows:,} rows" for name, rows in self.rows.items())


def build_features(case: CaseStudy, ws: Workspace, as_of: datetime) -> BuiltFeatures:
    """Bring every feature table's snapshots up to the last midnight at or before `as_of`."""
    until = as_of.astimezone(UTC).date()
    refreshed: dict[str, int] = {}
    rows: dict[str, int] = {}
    with connect() as backend:
        for feature in case.features:
            refreshed[feature.name], rows[feature.name] = _Builder(case, ws, feature, backend).build(until)
    return BuiltFeatures(as_of, refreshed, rows, snapshot_digest(case, ws))


def materialize(case: CaseStudy, ws: Workspace, as_of: datetime, platform: Platform) -> dict[str, datetime]:
    """Bring the online store up to the snapshots at or before `as_of`; return each view's reach."""
    from pipelines.stores import online_features
    from pipelines.stores.feature_store import open_store

    return online_features.materialize(case, ws, open_store(case, ws, platform), as_of)


def snapshot_digest(case: CaseStudy, ws: Workspace) -> str:
    """Hash the bytes of all snapshots of a case (SHA-256, hex)."""
    digests = [f"{each.name}:{folder_digest(ws.features / each.name)}" for each in case.features]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


class _Builder:
    """Builds the snapshots of one feature table of one workspace."""

    def __init__(self, case: CaseStudy, ws: Workspace, feature: FeatureTable, backend: Any) -> None:
        self.feature, self.backend = feature, backend
        self.partials = Partials(case, ws, feature, backend)
        self.folder = ws.features / feature.name
        self.plan = plan(feature, tuple(case.tables))
        self.state_file = self.partials.folder / "state.json"
        self.state = self._load()

    def build(self, until: date) -> tuple[int, int]:
        """Refresh the days before `until` and write the snapshots up to it; return (days, rows)."""
        state = self.state
        self._rewind(until + _DAY)
        refreshed = self.partials.refresh(state, until, before_change=self._rewind)
        first = state.until + _DAY if state.until is not None else EPOCH
        self._drop(first)  # given up, or left behind by a build that was killed
        write_parquet(self.folder / f"date={EPOCH}" / "empty.parquet", _stamped(_no_rows(self.plan.snapshot)))
        rows = self._snapshot(first, until)
        if refreshed or state.until != until:
            state.until = until
            state.save(self.state_file)
        return refreshed, rows

    def _load(self) -> State:
        state = State.load(self.state_file)
        if state is not None and state.definition == self.plan.definition:
            return state
        shutil.rmtree(self.partials.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        before = [*state.rewinds, EPOCH.isoformat()] if state is not None else []
        return State(self.plan.definition, rewinds=before)

    def _rewind(self, first: date, lost: bool = False) -> None:
        """Give up the snapshots from a midnight on: the state says so before anything is overwritten.

        Where an entity `lost` rows, an older snapshot may be its newest again, from whatever midnight.
        """
        if self.state.until is None or self.state.until < first:
            return
        self.state.until = first - _DAY
        self.state.rewinds.append((EPOCH if lost else first).isoformat())
        self.state.save(self.state_file)

    def _drop(self, first: date) -> None:
        for day, paths in by_date(self.folder.glob("date=*/*.parquet")).items():
            if day >= first:
                shutil.rmtree(paths[0].parent)

    def _snapshot(self, first: date, last: date) -> int:
        """Write the snapshots of all midnights in [first, last]; return the number of rows."""
        files = {day: paths for day, paths in self.partials.files().items() if day < last}
        if not files or first > last:
            return 0
        every = [path for day in sorted(files) for path in files[day]]
        partials = read_parquet(self.backend, "partials", every, self.plan.partials)
        dates = f'SELECT * REPLACE ("at"::DATE AS "at") FROM ({compiled(self._due(partials))})'
        span = f"\"at\" BETWEEN DATE '{first}' AND DATE '{last}'"
        self.backend.con.execute(f"CREATE OR REPLACE TEMP TABLE all_due AS FROM ({dates}) WHERE {span}")
        due = view(self.backend, "due", "FROM all_due", self.plan.due)
        written = 0
        counts = to_polars(due.group_by("at").aggregate(rows=due.count()), self.backend)
        for start, end in _spans(counts.sort("at")):
            rows = self._roll(files, start, end)
            for (at,), snapshot in rows.partition_by("at", as_dict=True, maintain_order=True).items():
                write_parquet(self.folder / f"date={at}" / "part.parquet", _stamped(snapshot))
            written += rows.height
        return written

    def _due(self, partials: ir.Table) -> ir.Table:
        """Find who is due when: at the first midnight that sees a row, and when its day leaves a window."""
        keys = list(self.feature.keys)
        seen = partials.select(*keys, "day", "known")
        due = seen.select(*keys, at=seen["known"])
        for window in self.feature.windows:
            left = seen.mutate(at=(seen["day"] + ibis.interval(days=window + 1)).cast("date"))
            due = due.union(left.filter(left["at"] > left["known"]).select(*keys, "at"))
        return due.distinct()

    def _roll(self, files: Mapping[date, list[Path]], start: date, end: date) -> pl.DataFrame:
        """Compute the features of the due rows of [start, end] from the days that their windows reach."""
        reach = timedelta(days=max(self.feature.windows)) if self.feature.windows else start - EPOCH
        oldest = start - min(reach, start - EPOCH)
        chosen = [path for day in sorted(files) if oldest <= day < end for path in files[day]]
        span = f"FROM all_due WHERE \"at\" BETWEEN DATE '{start}' AND DATE '{end}'"
        due = view(self.backend, "due", span, self.plan.due)
        partials = read_parquet(self.backend, "partials", chosen, self.plan.partials)
        return to_polars(self.feature.roll(due, partials), self.backend).sort("at", *self.feature.keys)


def _no_rows(schema: ibis.Schema) -> pl.DataFrame:
    return pl.DataFrame(schema=schema.to_polars())


def _stamped(rows: pl.DataFrame) -> pl.DataFrame:
    """Put Feast's time stamps in place of `at`."""
    midnight = pl.col("at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return rows.with_columns(event_timestamp=midnight, created_timestamp=midnight).drop("at")


def _spans(counts: pl.DataFrame) -> Iterator[tuple[date, date]]:
    """Group midnights (columns `at`, `rows`) so that no query yields much more than DUE_ROWS_A_QUERY."""
    start: date | None = None
    size = 0
    for at, rows in counts.iter_rows():
        start = start or at
        size += rows
        if size >= DUE_ROWS_A_QUERY or at == counts["at"][-1]:
            yield start, at
            start, size = None, 0
