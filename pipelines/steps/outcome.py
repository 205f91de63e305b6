"""Outcome: what came of the champion's answers, day by day: the experiment's metric, without an experiment.

A metric of predictions cannot see all: where tastes turn, a model's chosen slates fail from one day to the next, while
slates drawn at random, by which it is measured, please as many people as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipelines.case_study import CaseStudy
from pipelines.experiments.counts import count_requests, countable, read_requests
from pipelines.settings import Measure, Platform
from pipelines.stores.registry import CHAMPION
from pipelines.stores.workspace import Workspace

BASELINE, FEWEST = 14, 7
"""Days that the newest is compared with, at most and at least."""
GAP = 3
"""Days between: a fall that began with them must not count among what is usual."""
FEWEST_REQUESTS = 100
_DAY, _INSTANT = timedelta(days=1), timedelta(microseconds=1)


@dataclass(frozen=True)
class Outcome:
    """The metric on the newest 24 hours whose labels are mature, which end at `until`, and what is usual (`then`).

    `half` is half the width of the 95 % interval of one more such day, after Student: it knows how days differ.
    """

    metric: str
    until: datetime
    now: float
    then: float
    half: float
    days: int
    lower_is_better: bool = False

    def fell(self, drop: float) -> bool:
        """Say whether it got worse by more than the share `drop`, for all that days differ."""
        worse = self.now - self.then if self.lower_is_better else self.then - self.now
        return worse - self.half > drop * abs(self.then)


def measure_outcome(
    case: CaseStudy, ws: Workspace, as_of: datetime, measure: Measure, platform: Platform
) -> Outcome | None:
    """Measure the champion's newest mature day beside two weeks that ended three days before it.

    Return None where nothing is served, or a champion has answered in less than one of these weeks.
    """
    wanted = {measure.numerator, measure.denominator}
    if case.serving is None or not wanted <= countable(case):
        return None
    until = as_of - case.framing.attribution
    start = until - (1 + GAP + BASELINE) * _DAY
    asked = read_requests(case, ws, start, as_of, "policy")
    asked = asked.filter((pl.col("policy") == CHAMPION) & (pl.col("time") < until)).drop("policy")
    if asked.is_empty():
        return None
    counts = count_requests(case, ws, asked, start, as_of, wanted, platform)
    days = (
        counts.group_by(ago=(pl.lit(until - _INSTANT) - pl.col("time")).dt.total_days())
        .agg(pl.col(measure.numerator, measure.denominator).sum(), asked=pl.len())
        .filter((pl.col("asked") >= FEWEST_REQUESTS) & (pl.col(measure.denominator) > 0))
        .sort("ago")
    )
    usual = days.filter(pl.col("ago") > GAP)
    if usual.height < FEWEST or days["ago"][0] != 0:
        return None
    rate = pl.col(measure.numerator) / pl.col(measure.denominator)
    now, rates = days.select(rate).item(0, 0), usual.select(rate).to_series().to_numpy()
    return Outcome(
        measure.name,
        until,
        float(now),
        float(rates.mean()),
        _half(rates),
        len(rates),
        measure.lower_is_better,
    )


def _half(rates: np.ndarray) -> float:
    """Return half the width of the 95 % prediction interval of one more day."""
    from scipy.stats import t

    n = len(rates)
    return float(t.ppf(0.975, n - 1) * rates.std(ddof=1) * np.sqrt(1 + 1 / n))
