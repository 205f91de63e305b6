"""The rows that are watched: as the model saw them, or would have, with predictions and mature labels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from pipelines.case_study import CaseStudy, Dataset, Model
from pipelines.errors import DataError
from pipelines.settings import Platform
from pipelines.steps.monitor_plan import day_number, midnight
from pipelines.stores.dataset import open_dataset
from pipelines.stores.models import read_examples
from pipelines.stores.workspace import Workspace

PREDICTION, LABEL = "prediction", "label"
_SERVED = {"policy", "model_version", "propensity"}  # how a row was served, not what the model sees


@dataclass(frozen=True)
class Watch:
    """Reads the rows of days as the model would have seen them, with predictions and mature labels."""

    case: CaseStudy
    ws: Workspace
    as_of: datetime
    platform: Platform
    model: Model
    columns: tuple[str, ...] | None

    @property
    def mature(self) -> int:
        """Name the first day whose labels are not all known yet."""
        if not self.case.label.matures:
            return day_number(self.as_of)
        return day_number(self.as_of - self.case.framing.attribution)

    def rows(self, start: int, end: int) -> pl.DataFrame | None:
        """Read the watched columns of [start, end), day numbers; None where there are no rows."""
        if start >= end:
            return None
        dataset = open_dataset(self.case, self.ws, midnight(start), self.as_of, 0, self.platform)
        rows = self.case.predictions(dataset)
        time = self.case.label.time
        if time not in rows.columns:
            raise DataError(f"{self.case.name}: predictions have no column '{time}', the time of the label")
        rows = rows.filter((pl.col(time) >= midnight(start)) & (pl.col(time) < midnight(end)))
        if rows.is_empty():
            return None
        rows = self._labelled(rows, dataset)
        rows = rows.with_columns(pl.Series(PREDICTION, self.model.predict(rows)).cast(pl.Float64))
        keys = [name for name in self.case.label.keys if name in rows.columns]
        kept = [name for name in rows.columns if self._is_watched(name)]
        return rows.sort(time, *keys).select(time, *kept)

    def _labelled(self, rows: pl.DataFrame, dataset: Dataset) -> pl.DataFrame:
        """Join the labels of the days whose labels are all known; null for the others."""
        rows = rows.drop(LABEL, PREDICTION, strict=False)
        labels = dataset.labels().filter(pl.col(self.case.label.time) < midnight(self.mature))
        keys = list(self.case.label.keys)
        if not set(keys) <= set(rows.columns):  # rows that were not logged one by one: whose, of what, when
            shared = identifiers(self.case) & set(rows.columns) & set(labels.columns)
            keys = [*sorted(shared), self.case.label.time]
        return rows.join(labels.select(*keys, LABEL).unique(keys), on=keys, how="left", maintain_order="left")

    def _is_watched(self, name: str) -> bool:
        if name in (PREDICTION, LABEL):
            return True
        if self.columns is not None:
            return name in self.columns
        return name not in identifiers(self.case) | _SERVED | {self.case.label.time}


def learned_columns(case: CaseStudy, folder: Path) -> tuple[str, ...] | None:
    """Name the columns that the model learned from; None (all but identifiers) where it kept none."""
    names = read_examples(folder).columns
    left_out = identifiers(case) | _SERVED | {case.label.time, PREDICTION, LABEL}
    return tuple(name for name in names if name not in left_out) or None


def identifiers(case: CaseStudy) -> set[str]:
    """Name the columns that tell whose a row is, and mean nothing by themselves."""
    keys = [table.key for table in case.tables] + [view.keys for view in case.features] + [case.label.keys]
    return {name for names in keys for name in names}
