"""What may be seen of a workspace at one moment: rows, labels and features, never the future."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ibis
import ibis.expr.types as ir
import polars as pl

from pipelines.case_study import CaseStudy, Dataset
from pipelines.errors import DataError, UsageError, nearest
from pipelines.settings import Platform
from pipelines.stores.engine import by_date, connect, read_parquet, scan, to_polars
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Actions, Impressions, Requests
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from feast import FeatureStore

_EVENT, _CREATED = "event_timestamp", "created_timestamp"


def open_dataset(
    case: CaseStudy,
    ws: Workspace,
    start: datetime,
    end: datetime,
    seed: int,
    platform: Platform,
    *,
    timeless: bool = False,
    provisional: bool = False,
) -> Dataset:
    """Open [start, end) of a workspace; raises UsageError for naive or reversed times.

    `provisional`: labels are there from when they are told (`Label.told_after`), be they final or not.
    """
    if start.tzinfo is None or end.tzinfo is None or start > end:
        raise UsageError(f"a data set needs a start before its end, both with a time zone: {start} to {end}")
    return WorkspaceDataset(case, ws, start, end, seed, platform, timeless, provisional)


@dataclass
class WorkspaceDataset:
    """A data set over a workspace's lake and feature store. Feast is opened on first use.

    A `timeless` one also holds the rows whose source told no time: their labels count as mature, and they
    see the features as they stand at `end`. Data sets with an order of time leave such rows out.
    """

    case: CaseStudy
    ws: Workspace
    start: datetime
    end: datetime
    seed: int
    platform: Platform
    timeless: bool = False
    provisional: bool = False

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.ws.lake, self.case.tables)

    @cached_property
    def store(self) -> FeatureStore:
        from pipelines.stores.feature_store import open_store

        return open_store(self.case, self.ws, self.platform)

    def table(self, name: str) -> pl.LazyFrame:
        """Scan a table's rows whose time lies in [start, end) and that had arrived by `end`."""
        rows = self.lake.scan(name, None if self.timeless else self.start, self.end, arrived_before=self.end)
        if not self.timeless:
            return rows
        time = pl.col(self.case.table(name).time)
        return rows.filter(time.is_null() | (time >= self.start))

    def entities(self, name: str) -> pl.LazyFrame:
        """Scan a table's rows before `end` whatever their age: catalogues, profiles."""
        return self.lake.scan(name, None, self.end, arrived_before=self.end)

    def labels(self) -> pl.DataFrame:
        """Return the labels; they are folded once."""
        return self._labels

    @cached_property
    def _labels(self) -> pl.DataFrame:
        """Fold the mature labels of examples in [start, end) whose label is known by `end`.

        Sorted by time and keys. The fold sees requests, impressions and actions from one attribution
        window and a day before `start`, and all of any other table.
        """
        label = self.case.label
        with connect() as backend:
            tables = {name: self._known(backend, name) for name in label.reads}
            folded = to_polars(label.fold(tables, self.end), backend)
        missing = {*label.keys, label.time, "label"} - set(folded.columns)
        if missing:
            raise DataError(f"the label of {self.case.name} folds to no column {sorted(missing)}")
        time = pl.col(label.time)
        inside = (time >= self.start) & (time < self.end)
        if label.matures:
            wait = self.case.told_after if self.provisional else self.case.framing.attribution
            inside &= time + wait <= self.end
        inside = pl.when(time.is_null()).then(pl.lit(self.timeless)).otherwise(inside)
        return folded.filter(inside).sort(label.time, *label.keys)

    def historical(self, rows: pl.DataFrame, time: str) -> pl.DataFrame:
        """Join the service's features to each row as they stood at the row's own time."""
        from pipelines.stores.feature_store import historical

        if not self.timeless:
            return historical(self.store, self.case.service, rows, time)
        dated = rows.with_columns(pl.col(time).fill_null(pl.lit(self.end)))
        return historical(self.store, self.case.service, dated, time).with_columns(rows[time])

    def latest(self, view: str) -> pl.DataFrame:
        """Read one view's newest row of each entity as of `end`, sorted by entity."""
        features = {feature.name: feature for feature in self.case.features}
        if view not in features:
            raise UsageError(f"{self.case.name} has no view '{view}': {nearest(view, features)}")
        files = by_date((self.ws.features / view).glob("date=*/*.parquet"))
        known = [path for day in files if day <= self.end.date() for path in files[day]]
        if not known:
            raise DataError(f"view '{view}' has no snapshots in {self.ws.features}: build the features first")
        keys = list(features[view].keys)
        kinds = ibis.Schema.from_polars(pl.read_parquet_schema(known[0]))
        with connect() as backend:
            rows = read_parquet(backend, view, known, kinds)
            newest = rows.group_by(keys).aggregate(**{_EVENT: rows[_EVENT].max()})
            found = to_polars(rows.semi_join(newest, [*keys, _EVENT]), backend)
        return found.drop(_CREATED).sort(keys)

    def _known(self, backend: Any, name: str) -> ir.Table:
        """Read the rows of a table that had happened and arrived by `end`."""
        table = self.case.table(name)
        start = None
        if issubclass(table.schema, Requests | Impressions | Actions):
            start = self.start - self.case.framing.attribution - timedelta(days=1)
        files = self.lake.files(name, None if self.timeless else start, self.end)
        return scan(backend, table, files, until=self.end)
