"""Divide what is known at a moment into what a model may learn from and what it is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from pipelines.case_study import CaseStudy, Dataset, EvaluationProtocol
from pipelines.errors import DataError, UsageError, nearest
from pipelines.settings import CaseParams, Platform
from pipelines.steps.hold_out import hold_out, known_tables
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Split:
    """The two data sets of one protocol."""

    train: Dataset
    test: Dataset


def find_protocol(case: CaseStudy, name: str) -> EvaluationProtocol:
    """Find a protocol of the case; an unknown name's error names the nearest."""
    if name not in case.protocols:
        raise UsageError(f"{case.name} has no protocol '{name}': {nearest(name, case.protocols)}")
    return case.protocols[name]


def by_days(protocol: EvaluationProtocol) -> bool:
    """Say whether a protocol divides rows by days alone: the newest `evaluate_days` are the test set."""
    return protocol.split is None and protocol.hold_out is None


def split(
    case: CaseStudy, ws: Workspace, as_of: datetime, params: CaseParams, platform: Platform, protocol: str
) -> Split:
    """Open the training and the test data set of a protocol: by days, by its own moment, or held out."""
    found = find_protocol(case, protocol)
    if found.hold_out is not None:
        start = first_moment(case, ws, as_of) if has_times(case, ws) else _EPOCH
        train, test = hold_out(case, ws, start, as_of, params.seed, platform, found)
        return Split(train, test)
    if found.split is not None:
        start = first_moment(case, ws, as_of)
        cut = found.split(known_tables(case, ws, as_of))
        if not start < cut < as_of:
            raise DataError(
                f"protocol '{protocol}' splits at {cut.isoformat()}, which leaves one side empty: rows "
                "begin at "
                f"{start.isoformat()} and are known until {as_of.isoformat()}"
            )
    else:
        cut = as_of - timedelta(days=params.window.evaluate_days)
        start = cut - timedelta(days=params.window.train_days)
    return Split(
        training_data(case, ws, start, cut, params, platform),
        open_dataset(case, ws, cut, as_of, params.seed, platform),
    )


def newest(
    case: CaseStudy, ws: Workspace, as_of: datetime, params: CaseParams, platform: Platform
) -> Dataset:
    """Open the `train_days` until `as_of`: a window with nothing held back to be judged on."""
    start = as_of - timedelta(days=params.window.train_days)
    return training_data(case, ws, start, as_of, params, platform)


def training_data(
    case: CaseStudy, ws: Workspace, start: datetime, end: datetime, params: CaseParams, platform: Platform
) -> Dataset:
    """Open [start, end) to learn from, with labels as they are told: the days that the gate and the watch judge wait.

    So does a protocol that holds rows out.
    """
    return open_dataset(case, ws, start, end, params.seed, platform, provisional=True)


def has_times(case: CaseStudy, ws: Workspace) -> bool:
    """Say whether any row of the tables that labels are folded from tells when it happened."""
    return bool(_first_times(case, ws))


def first_moment(case: CaseStudy, ws: Workspace, as_of: datetime | None = None) -> datetime:
    """Find the midnight before the first row of the tables that labels are folded from, of those known `as_of`."""
    known = _first_times(case, ws, as_of)
    if not known:
        raise DataError(f"{ws.lake} holds no dated rows of {', '.join(case.label.reads)}: ingest some first")
    return min(known).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _first_times(case: CaseStudy, ws: Workspace, as_of: datetime | None = None) -> list[datetime]:
    lake = Lake(ws.lake, case.tables)
    rows = {name: lake.scan(name, None, as_of, arrived_before=as_of) for name in case.label.reads}
    times = [_first(each, case.table(name).time) for name, each in rows.items()]
    return [time for time in times if time is not None]


def _first(rows: pl.LazyFrame, time: str) -> datetime | None:
    first: datetime | None = rows.select(pl.col(time).min()).collect().item()
    return first
