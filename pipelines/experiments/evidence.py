"""What an experiment has seen so far, read from the lake: who was exposed, and what came of it."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipelines.case_study import CaseStudy
from pipelines.experiments.counts import UNITS, count_requests, counted, read_requests
from pipelines.experiments.running import BEFORE, Running
from pipelines.experiments.verdict import Evidence, gather
from pipelines.settings import Platform
from pipelines.stores.workspace import Workspace


def read_evidence(
    case: CaseStudy, ws: Workspace, running: Running, now: datetime, platform: Platform
) -> Evidence:
    """Read everything that had arrived by `now` (UTC).

    A unit's arm is that of its first request; its outcome is the sum over its requests within `outcome` of
    that, once the attribution window of the last of them is over.
    """
    start = running.started - running.canary.before
    unit = pl.col(running.unit).cast(pl.String).alias("unit")
    asked = read_requests(case, ws, start, now, "arm", unit).drop_nulls("unit")
    taking = asked.filter((pl.col("time") >= running.started) & pl.col("arm").is_not_null())
    exposed = (
        taking.sort("time", "request_id")
        .group_by("unit", maintain_order=True)
        .agg(pl.col("arm", "time").first())
        .rename({"time": "first"})
    )
    last = pl.col("first") + running.canary.outcome
    whole = exposed.filter(last + case.framing.attribution <= now)
    wanted = {name for each in running.declaration.metrics for name in (each.numerator, each.denominator)}
    counts = count_requests(case, ws, asked, start, now, wanted, platform)
    seen = counts.join(whole, on="unit")
    during = _sum(seen.filter((pl.col("time") >= pl.col("first")) & (pl.col("time") < last)))
    before = _sum(counts.filter(pl.col("time") < running.started)).rename(lambda name: BEFORE + name)
    outcomes = whole.join(during, on="unit").join(
        before, left_on="unit", right_on=BEFORE + "unit", how="left"
    )
    return gather(running.declaration, exposed, outcomes.sort("unit"))


def _sum(counts: pl.DataFrame) -> pl.DataFrame:
    """Sum the counts of each unit, which itself counts once."""
    return counts.group_by("unit").agg(pl.col(*counted(counts)).sum(), pl.lit(1.0).alias(UNITS))
