"""What is counted of a request: itself, its labels, and the actions that came of it in time."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import polars as pl

from pipelines.case_study import DECISION, CaseStudy, Table
from pipelines.errors import DataError
from pipelines.settings import Platform
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Actions, Impressions, Requests
from pipelines.stores.workspace import Workspace

UNITS, REQUESTS, LABELS, EXAMPLES = _PLAIN = "units", "requests", "labels", "examples"


def countable(case: CaseStudy) -> set[str]:
    """Name what can be counted of a unit."""
    return {*_PLAIN, *_words(case)}


def _words(case: CaseStudy) -> tuple[str, ...]:
    """List the decisions and the actions of a case; none while it is not served."""
    return () if case.serving is None else (*case.serving.decisions, *case.serving.actions)


def read_requests(
    case: CaseStudy, ws: Workspace, start: datetime, now: datetime, *more: str | pl.Expr
) -> pl.DataFrame:
    """Read request_id and time of the requests of [start, now) that had arrived by `now` (UTC), and `more`."""
    (table,) = case.shaped(Requests)
    rows = _scan(case, ws, table, start, now)
    return rows.select("request_id", *more, time=pl.col(table.time)).collect()


def count_requests(
    case: CaseStudy,
    ws: Workspace,
    asked: pl.DataFrame,
    start: datetime,
    now: datetime,
    wanted: Collection[str | None],
    platform: Platform,
) -> pl.DataFrame:
    """Add to each request what is `wanted` of it; 0 where nothing came."""
    words = sorted(set(_words(case)) & set(wanted))
    counts = asked.with_columns(pl.lit(1.0).alias(REQUESTS))
    if {LABELS, EXAMPLES} & set(wanted):
        counts = counts.join(_labels(case, ws, start, now, platform), on="request_id", how="left")
    if words:
        counts = counts.join(_told(case, ws, asked, words, start, now), on="request_id", how="left")
    return counts.with_columns(pl.col(*counted(counts)).fill_null(0.0))


def counted(counts: pl.DataFrame) -> list[str]:
    """Name the columns that count something: all numbers do."""
    return [name for name, kind in counts.schema.items() if kind == pl.Float64]


def _labels(
    case: CaseStudy, ws: Workspace, start: datetime, now: datetime, platform: Platform
) -> pl.DataFrame:
    """Sum a request's mature labels, by the case's own fold, which has to tell the request; else DataError."""
    folded = open_dataset(case, ws, start, now, 0, platform).labels()
    if "request_id" not in folded.columns:
        raise DataError(
            f"the label of {case.name} folds to no column 'request_id', by which a served case's labels are counted: "
            "add it to the fold, null where no request made the example"
        )
    rows = folded.select("request_id", label=pl.col("label").cast(pl.Float64)).drop_nulls("request_id")
    return rows.group_by("request_id").agg(
        pl.col("label").sum().alias(LABELS), pl.len().cast(pl.Float64).alias(EXAMPLES)
    )


def _told(
    case: CaseStudy, ws: Workspace, asked: pl.DataFrame, words: list[str], start: datetime, now: datetime
) -> pl.DataFrame:
    """Count a request's decisions, and its actions of each word within the attribution window."""
    (shown,), (done,) = case.shaped(Impressions), case.shaped(Actions)
    acted = _scan(case, ws, done, start, now).filter(pl.col("action").is_in(words))
    places = _scan(case, ws, shown, start, now)
    each = (
        acted.select("impression_id", word="action", acted=pl.col(done.time))
        .join(places.select("impression_id", "request_id"), on="impression_id")
        .join(asked.lazy().select("request_id", "time"), on="request_id")
        .filter(pl.col("acted") < pl.col("time") + case.framing.attribution)
        .select("request_id", "word")
    )
    if case.serving is not None and case.serving.decisions:
        each = pl.concat([each, places.select("request_id", word=DECISION)])
    found = each.group_by("request_id").agg(
        (pl.col("word") == word).sum().cast(pl.Float64).alias(word) for word in words
    )
    return found.collect()


def _scan(case: CaseStudy, ws: Workspace, table: Table, start: datetime, now: datetime) -> pl.LazyFrame:
    return Lake(ws.lake, case.tables).scan(table.name, start, now, arrived_before=now)
