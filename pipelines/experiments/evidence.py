"""What an experiment has seen so far, read from the lake: who was exposed, and what came of it."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipelines.case_study import CaseStudy, Table
from pipelines.experiments.running import BEFORE, Running
from pipelines.experiments.verdict import Evidence, gather
from pipelines.settings import Platform
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Actions, Impressions, Requests
from pipelines.stores.workspace import Workspace

UNITS, REQUESTS, LABELS, EXAMPLES = _PLAIN = "units", "requests", "labels", "examples"


def read_evidence(
    case: CaseStudy, ws: Workspace, running: Running, now: datetime, platform: Platform
) -> Evidence:
    """Read everything that had arrived by `now` (UTC).

    A unit's arm is that of its first request; its outcome is the sum over its requests within `outcome` of
    that, once the attribution window of the last of them is over.
    """
    asked = _requests(case, ws, running, now)
    taking = asked.filter((pl.col("time") >= running.started) & pl.col("arm").is_not_null())
    exposed = (
        taking.sort("time", "request_id")
        .group_by("unit", maintain_order=True)
        .agg(pl.col("arm", "time").first())
        .rename({"time": "first"})
    )
    last = pl.col("first") + running.canary.outcome
    whole = exposed.filter(last + case.framing.attribution <= now)
    counts = _counts(case, ws, running, asked, now, platform)
    seen = counts.join(whole, on="unit")
    during = _sum(seen.filter((pl.col("time") >= pl.col("first")) & (pl.col("time") < last)))
    before = _sum(counts.filter(pl.col("time") < running.started)).rename(lambda name: BEFORE + name)
    outcomes = whole.join(during, on="unit").join(
        before, left_on="unit", right_on=BEFORE + "unit", how="left"
    )
    return gather(running.declaration, exposed, outcomes.sort("unit"))


def countable(case: CaseStudy) -> set[str]:
    """Name what can be counted of a unit."""
    words = case.serving.actions if case.serving is not None else ()
    return {*_PLAIN, *words}


def _requests(case: CaseStudy, ws: Workspace, running: Running, now: datetime) -> pl.DataFrame:
    """Read unit, request_id, time and arm of all requests from a while before the start until now."""
    (table,) = case.shaped(Requests)
    return (
        _scan(case, ws, table, running, now)
        .select(
            "request_id", "arm", unit=pl.col(running.unit).cast(pl.String), time=pl.col(table.time)
        )
        .drop_nulls("unit")
        .collect()
    )  # fmt: skip


def _counts(
    case: CaseStudy, ws: Workspace, running: Running, asked: pl.DataFrame, now: datetime, platform: Platform
) -> pl.DataFrame:
    """Add to each request what the metrics count of it; 0 where nothing came."""
    wanted = {name for each in running.declaration.metrics for name in (each.numerator, each.denominator)}
    words = sorted((countable(case) & wanted).difference(_PLAIN))
    counts = asked.with_columns(pl.lit(1.0).alias(REQUESTS))
    if wanted & {LABELS, EXAMPLES}:
        counts = counts.join(_labels(case, ws, running, now, platform), on="request_id", how="left")
    if words:
        counts = counts.join(_acted(case, ws, running, asked, words, now), on="request_id", how="left")
    return counts.with_columns(pl.col(*_names(counts)).fill_null(0.0))


def _labels(
    case: CaseStudy, ws: Workspace, running: Running, now: datetime, platform: Platform
) -> pl.DataFrame:
    """Sum a request's mature labels, by the case's own fold, which has to tell the request."""
    start = running.started - running.canary.before
    folded = open_dataset(case, ws, start, now, 0, platform).labels()
    rows = folded.select("request_id", label=pl.col("label").cast(pl.Float64)).drop_nulls("request_id")
    return rows.group_by("request_id").agg(
        pl.col("label").sum().alias(LABELS), pl.len().cast(pl.Float64).alias(EXAMPLES)
    )


def _acted(
    case: CaseStudy, ws: Workspace, running: Running, asked: pl.DataFrame, words: list[str], now: datetime
) -> pl.DataFrame:
    """Count a request's actions of each word, within the attribution window."""
    (shown,), (done,) = case.shaped(Impressions), case.shaped(Actions)
    acted = _scan(case, ws, done, running, now).filter(pl.col("action").is_in(words))
    places = _scan(case, ws, shown, running, now).select("impression_id", "request_id")
    each = (
        acted.select("impression_id", "action", acted=pl.col(done.time))
        .join(places, on="impression_id")
        .join(asked.lazy().select("request_id", "time"), on="request_id")
        .filter(pl.col("acted") < pl.col("time") + case.framing.attribution)
    )
    counted = each.group_by("request_id").agg(
        (pl.col("action") == word).sum().cast(pl.Float64).alias(word) for word in words
    )
    return counted.collect()


def _scan(case: CaseStudy, ws: Workspace, table: Table, running: Running, now: datetime) -> pl.LazyFrame:
    start = running.started - running.canary.before
    return Lake(ws.lake, case.tables).scan(table.name, start, now, arrived_before=now)


def _sum(counts: pl.DataFrame) -> pl.DataFrame:
    """Sum the counts of each unit, which itself counts once."""
    return counts.group_by("unit").agg(pl.col(*_names(counts)).sum(), pl.lit(1.0).alias(UNITS))


def _names(counts: pl.DataFrame) -> list[str]:
    """Name the columns that count something: all numbers do."""
    return [name for name, kind in counts.schema.items() if kind == pl.Float64]
