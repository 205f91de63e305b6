"""Incidents: columns of requests and catalogues that are broken upstream, each since a day, in words.

Impressions and actions are the platform's own rows, so they are not looked at; nor are identifiers and times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, Table
from pipelines.learning.broken import LEAST_ROWS, Breach, Usual, find_breach
from pipelines.steps.monitor_rows import identifiers
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Actions, Impressions, Requests, polars_schema
from pipelines.stores.workspace import Workspace

LEAST_DAYS = 4  # days that show how a column usually is, at least
WELL = 2  # days on end without a breach: a small part of few rows does not show every day
PATIENCE = timedelta(weeks=WELL)  # a feed that comes once a week would have shown it by then


@dataclass(frozen=True)
class Incident:
    """A broken column: since which day (UTC), how many rows are struck, and what was seen on its last broken day.

    `until` is the first day on which the column was well again; None while the incident is open. `missing` counts the
    rows that must still come and be well to tell that. Where too few come for PATIENCE after the last broken row, the
    incident ends with that row's day, untold: a feed that was stopped must not hold training for good.
    """

    table: str
    column: str
    kind: str
    what: str
    since: date
    until: date | None
    rows: int
    missing: int = 0

    @property
    def words(self) -> str:
        """Say it all: column, figure, day, rows, and what is missing for its release."""
        lasted = f"since {self.since}" if self.until is None else f"from {self.since} until {self.until}"
        verb = "is" if self.until is None else "was"
        told = f"{self.table}.{self.column} {verb} broken upstream {lasted}: {self.what} ({self.rows:,} rows struck)"
        if not self.missing:
            return told
        if self.until is not None:
            return f"{told}, unknown since {self.until}: too few rows to tell, by {self.missing}"
        days = math.ceil(self.missing / LEAST_ROWS)
        spread = "a day" if days == 1 else f"{days} days"
        return f"{told}, until well rows release it: {self.missing} more, of {spread} at least"

    def as_json(self) -> dict[str, Any]:
        """Return what a JSON file holds: the fields, and the words."""
        return {
            name: str(each) if isinstance(each, date) else each for name, each in asdict(self).items()
        } | {"words": self.words}


def find_incidents(
    case: CaseStudy, ws: Workspace, start: datetime, learned: datetime, as_of: datetime
) -> tuple[Incident, ...]:
    """Judge each day of [start, as_of) by how the days before `learned` were; open incidents come first.

    The days that a model learned from are judged as well: it may have learned from broken ones.
    """
    lake = Lake(ws.lake, case.tables)
    found: list[Incident] = []
    for table in watched_tables(case):
        columns = watched_columns(case, table)
        rows = (
            lake.scan(table.name, start, as_of, as_of).select(table.time, *columns).sort(table.time).collect()
        )
        groups = list(_groups(rows, table.time))
        left = rows.height - sum(each.height for _, each in groups)
        usual = [each for day, each in groups if day < learned.date()]
        if len(usual) >= LEAST_DAYS:
            for name in columns:
                known = Usual.of([each[name] for each in usual])
                found += _incidents(table, name, known, groups, left, as_of)
    return tuple(
        sorted(found, key=lambda each: (each.until is not None, each.since, each.table, each.column))
    )


def watched_tables(case: CaseStudy) -> list[Table]:
    """List the tables that come from upstream."""
    return [table for table in case.tables if not issubclass(table.schema, Impressions | Actions)]


def watched_columns(case: CaseStudy, table: Table) -> list[str]:
    """List the columns that mean something: no keys, no times, and not how a request was served."""
    left_out = identifiers(case) | set(polars_schema(Requests))
    schema = polars_schema(table.schema)
    return [name for name, kind in schema.items() if name not in left_out and not kind.is_temporal()]


def _groups(rows: pl.DataFrame, time: str) -> Iterator[tuple[date, pl.DataFrame]]:
    """Yield (first day, rows) of days on end that together have rows enough."""
    days: list[date] = []
    held: list[pl.DataFrame] = []
    for _, part in rows.group_by(pl.col(time).dt.date(), maintain_order=True):
        days.append(part[time][0].date())
        held.append(part)
        if sum(each.height for each in held) >= LEAST_ROWS:
            yield days[0], pl.concat(held)
            days, held = [], []


def _incidents(
    table: Table,
    column: str,
    usual: Usual,
    groups: list[tuple[date, pl.DataFrame]],
    left: int,
    as_of: datetime,
) -> Iterator[Incident]:
    """Join broken days to incidents; one ends when the column has been well for WELL days on end.

    `left` counts the newest rows, which are too few to be judged yet.
    """
    last = as_of  # the last broken row
    broken: list[tuple[date, Breach, int]] = []
    well: list[date] = []
    for day, rows in groups:
        breach = find_breach(usual, rows[column])
        if breach is not None:
            broken.append((day, breach, rows.height))
            well, last = [], rows[table.time][-1]
        elif broken:
            well.append(day)
        if len(well) == WELL:
            yield _incident(table.name, column, broken, well[0])
            broken, well = [], []
    if broken:
        until = last.date() + timedelta(days=1) if as_of - last >= PATIENCE else None
        missing = (WELL - len(well)) * LEAST_ROWS - left
        yield _incident(table.name, column, broken, until, missing)


def _incident(
    table: str, column: str, broken: list[tuple[date, Breach, int]], until: date | None, missing: int = 0
) -> Incident:
    last, rows = broken[-1][1], sum(round(breach.share * rows) for _, breach, rows in broken)
    return Incident(table, column, last.kind, last.words, broken[0][0], until, rows, missing)
