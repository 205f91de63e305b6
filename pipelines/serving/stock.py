"""What a system answers from, in process: the newest rows of whole views and tables, read as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from pipelines.case_study import CaseStudy, Serving
from pipelines.errors import UsageError, nearest
from pipelines.settings import Platform
from pipelines.stores.dataset import open_dataset
from pipelines.stores.workspace import Workspace


@dataclass(frozen=True)
class Shelf:
    """A stock read at one moment; it never changes, the next one takes its place."""

    moment: datetime
    views: Mapping[str, pl.DataFrame]
    tables: Mapping[str, pl.DataFrame]

    def view(self, name: str) -> pl.DataFrame:
        """Return a view's newest row of each entity, sorted by entity."""
        return _find(self.views, name, "view")

    def table(self, name: str) -> pl.DataFrame:
        """Return a table's rows that were known at the moment."""
        return _find(self.tables, name, "table")


def read_stock(
    case: CaseStudy, serving: Serving, ws: Workspace, platform: Platform, moment: datetime
) -> Shelf:
    """Read the views and tables that the case holds in process, as of `moment` (UTC).

    The views come from the same snapshots that were materialized, so both see the same values.
    """
    dataset = open_dataset(case, ws, moment, moment, 0, platform)
    views = {name: dataset.latest(name).drop("event_timestamp") for name in serving.views}
    tables = {name: dataset.entities(name).collect() for name in serving.tables}
    return Shelf(moment, views, tables)


def _find(held: Mapping[str, pl.DataFrame], name: str, kind: str) -> pl.DataFrame:
    if name not in held:
        raise UsageError(f"the stock holds no {kind} '{name}': {nearest(name, held)}")
    return held[name]
