"""Outcome: what the champion answered, and what came of it, day by day: an experiment's metrics, without an experiment.

A metric of predictions cannot see all: where tastes turn, a model's chosen slates fail from one day to the next, while
slates drawn at random, by which it is measured, please as many people as ever. Nor can it see soon, where labels take
days: a classifier that no longer finds what it used to remove says so at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from pipelines.case_study import CaseStudy
from pipelines.errors import UsageError, nearest
from pipelines.experiments.counts import REQUESTS, UNITS, count_requests, countable, read_requests
from pipelines.settings import Measure, Platform
from pipelines.stores.registry import CHAMPION
from pipelines.stores.workspace import Workspace

BASELINE, FEWEST = 14, 7
"""Days that the newest is compared with, at most and at least."""
GAP = 3
"""Days between: a fall that began with them must not count among what is usual, until it has been learned from."""
FEWEST_REQUESTS = 100
WEEK = 7
"""Newest days that are held together to the fortnight before them."""
_DAY, _INSTANT = timedelta(days=1), timedelta(microseconds=1)


@dataclass(frozen=True)
class Week:
    """The mean of the newest seven days, and of up to a fortnight before (`then`, of `days`).

    `half` is half the width of the 95 % interval of one more such week, of days that do not depend on each other.
    It may lose the share `drop`.
    """

    now: float
    then: float
    half: float
    days: int
    drop: float


@dataclass(frozen=True)
class Outcome:
    """A metric on the newest 24 hours that it is known of, which end at `until`, and what is usual (`then`).

    `half` is half the width of the 95 % interval of one more such day, after Student: it knows how days differ.
    `days` counts those that are usual, `newest` holds the metric of the last days, the newest first, and `hours` what
    was counted in each of their hours and of a day more, (numerator, denominator), the newest first. Labels teach `lag`
    after what they are of.
    """

    metric: str
    until: datetime
    then: float
    half: float
    days: int
    newest: tuple[float, ...]
    lag: timedelta = timedelta(0)
    lower_is_better: bool = False
    hours: tuple[tuple[float, float], ...] = ()
    week: Week | None = None

    @property
    def now(self) -> float:
        """Return the metric on the newest day."""
        return self.newest[0]

    def fell(self, drop: float) -> bool:
        """Say whether the day or the week got worse by more than the share `drop`, for all that days differ."""
        return self._worse(self.now, drop) or self.slid(drop)

    def slid(self, drop: float) -> bool:
        """Say whether the week got worse by more than its own share, where the day did not by more than `drop`.

        Of a change that takes a fortnight no day is far below those before it, which it has begun to spoil.
        """
        week = self.week
        if week is None or self._worse(self.now, drop):
            return False
        return self._beyond(week.now, week.then, week.half, week.drop)

    def start(self, drop: float) -> datetime:
        """Return when the day began that is worse by so much, or the week."""
        return self.until - (WEEK if self.slid(drop) else 1) * _DAY

    def since(self, drop: float) -> datetime:
        """Find when the days began that are all worse by so much, up to the newest; or the week, where that slid."""
        return self.start(drop) if self.slid(drop) else self.until - self._run(drop) * _DAY

    def began(self, drop: float) -> datetime:
        """Estimate when it fell: of the hours of the first worse day, the one that parts two rates best.

        What slid did so in no hour: the week's beginning is returned.

        Of few hours of the world before, which pleased more, more is learned than of many since. By least squares
        (Bai, "Estimation of a change point in multiple regression models", 1997), weighted by the denominator, between
        the day before and the last, each hour beside what is usual at its time of day.
        """
        run, first = self._run(drop), self.since(drop)
        every = np.array(self.hours).reshape(-1, 2)
        if self.slid(drop) or len(every) < 24 * (run + 1):
            return first
        counted = every[: 24 * (run + 1)].copy()
        counted[:, 0] /= np.tile(_rhythm(every[24 * run :]), run + 1)
        counted = counted[::-1]
        before, after = counted.cumsum(axis=0)[23:47], counted[::-1].cumsum(axis=0)[::-1][24:48]
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.stack([before, after])[..., 0] / np.stack([before, after])[..., 1]
        parted = (np.stack([before, after])[..., 0] * rates).sum(axis=0)
        worse = rates[1] > rates[0] if self.lower_is_better else rates[1] < rates[0]
        known = worse & np.isfinite(parted)
        if not known.any():
            return first
        return first + int(np.argmax(np.where(known, parted, -np.inf))) * timedelta(hours=1)

    def taught(self, drop: float) -> datetime:
        """Return when a day's labels of what it fell on will have come: before that there is nothing to learn of it."""
        return self.since(drop) + self.lag + _DAY

    def words(self, *, slid: bool = False) -> str:
        """Tell the newest day, or the week, beside what is usual."""
        span, of = ("week", self.week) if slid and self.week is not None else ("day", self)
        return (
            f"{of.now:.4f} in the {span} until {self.until:%Y-%m-%d %H:%M}, and {of.then:.4f} ± {of.half:.4f} is "
            f"usual, after {of.days} earlier days"
        )

    def _run(self, drop: float) -> int:
        """Count the days on end, up to the newest, that are all worse by so much; one at least."""
        newest = enumerate(self.newest)
        run = next((ago for ago, each in newest if not self._worse(each, drop)), len(self.newest))
        return max(run, 1)

    def _worse(self, value: float, drop: float) -> bool:
        return self._beyond(value, self.then, self.half, drop)

    def _beyond(self, value: float, then: float, half: float, drop: float) -> bool:
        worse = value - then if self.lower_is_better else then - value
        return worse - half > drop * abs(then)


def check_watched(case: CaseStudy, measure: Measure, where: str, *, at_once: bool = False) -> None:
    """Refuse a measure of what is not known of a request, or not `at_once`; the UsageError names the nearest."""
    known = _known(case, at_once)
    lacks = "is not known at once" if at_once else "a request has none of"
    for name in (measure.numerator, measure.denominator):
        if name not in known:
            raise UsageError(
                f"{where}: '{measure.name}' counts '{name}', which {lacks}: {nearest(name, known)}"
            )


def measure_outcome(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    measure: Measure,
    platform: Platform,
    *,
    at_once: bool = False,
    after: datetime | None = None,
    week_drop: float | None = None,
) -> Outcome | None:
    """Measure the champion's newest mature day beside two weeks that ended three days before it.

    With `week_drop` also the newest week beside the two before it, which may lose so much.

    What is known `at_once` need not mature, and the weeks end as much earlier as labels take. Only days that began
    `after` a moment count as usual. Return None where nothing is served, or a champion has answered in less than one
    of these weeks, or where the measure counts what is not known of a request (`check_watched`).
    """
    wanted = {measure.numerator, measure.denominator}
    if case.serving is None or not wanted <= _known(case, at_once):
        return None
    lag = case.told_after
    until, gap = (as_of, GAP + math.ceil(lag / _DAY)) if at_once else (as_of - case.framing.attribution, GAP)
    start = until - (max(1 + gap, WEEK) + BASELINE) * _DAY
    asked = read_requests(case, ws, start, as_of, "policy")
    asked = asked.filter((pl.col("policy") == CHAMPION) & (pl.col("time") < until)).drop("policy")
    if asked.is_empty():
        return None
    counts = count_requests(case, ws, asked, start, as_of, wanted, platform)
    days = (
        counts.group_by(ago=(pl.lit(until - _INSTANT) - pl.col("time")).dt.total_days())
        .agg(pl.col(measure.numerator, measure.denominator).sum(), asked=pl.len())
        .filter((pl.col("asked") >= FEWEST_REQUESTS) & (pl.col(measure.denominator) > 0))
        .select("ago", rate=pl.col(measure.numerator) / pl.col(measure.denominator))
        .sort("ago")
    )
    oldest = None if after is None else (until - after) // _DAY - 1
    usual = _before(days, gap + 1, oldest)
    if len(usual) < FEWEST or days["ago"][0] != 0:
        return None
    together = days.filter(pl.col("ago") == pl.int_range(pl.len()))["rate"].to_list()
    return Outcome(
        measure.name,
        until,
        float(usual.mean()),
        _half(usual),
        len(usual),
        tuple(map(float, together)),
        lag,
        measure.lower_is_better,
        _hours(counts, measure, until, (until - start) // timedelta(hours=1)),
        None if week_drop is None else _week(days, oldest, week_drop),
    )


def _before(days: pl.DataFrame, first: int, oldest: int | None) -> np.ndarray:
    """Take the rates of the fortnight that ended `first` days ago, none older than `oldest`."""
    last = first + BASELINE - 1 if oldest is None else min(first + BASELINE - 1, oldest)
    return days.filter(pl.col("ago").is_between(first, last))["rate"].to_numpy()


def _week(days: pl.DataFrame, oldest: int | None, drop: float) -> Week | None:
    """Hold the newest week to the days before it; None where one of its own is missing, or too many of those."""
    newest, usual = days.filter(pl.col("ago") < WEEK)["rate"].to_numpy(), _before(days, WEEK, oldest)
    if len(newest) < WEEK or len(usual) < FEWEST:
        return None
    return Week(float(newest.mean()), float(usual.mean()), _half(usual, WEEK), len(usual), drop)


def _hours(
    counts: pl.DataFrame, measure: Measure, until: datetime, most: int
) -> tuple[tuple[float, float], ...]:
    """Sum what is counted by the hour, (numerator, denominator), the newest first; none of an hour is 0."""
    ago = (pl.lit(until - _INSTANT) - pl.col("time")).dt.total_hours()
    found = counts.group_by(ago=ago).agg(pl.col(measure.numerator, measure.denominator).sum())
    every = pl.DataFrame({"ago": pl.int_range(most, eager=True)}).join(found, on="ago", how="left")
    rows = every.sort("ago").select(measure.numerator, measure.denominator).fill_null(0.0).rows()
    return tuple((float(num), float(den)) for num, den in rows)


def _rhythm(hours: np.ndarray) -> np.ndarray:
    """Return the rate of each hour of the day beside the mean, (24,), of hours (n, 2) the newest first.

    Ten events as expected are added to each, so that few tell no rhythm.
    """
    whole = hours[: len(hours) // 24 * 24].reshape(-1, 24, 2).sum(axis=0)
    rate = whole[:, 0].sum() / max(whole[:, 1].sum(), 1.0)
    found: np.ndarray = (whole[:, 0] + 10) / (whole[:, 1] * rate + 10)
    return found


def _known(case: CaseStudy, at_once: bool) -> set[str]:
    """Name what can be counted of a request; at once only that it was asked, and what was decided.

    Labels and actions come later: the newest day would have none of them, and look like a fall.
    """
    if not at_once:
        return countable(case) - {UNITS}
    return {REQUESTS, *(() if case.serving is None else case.serving.decisions)}


def _half(rates: np.ndarray, more: int = 1) -> float:
    """Return half the width of the 95 % prediction interval of the mean of so many more days."""
    from scipy.stats import t

    n = len(rates)
    return float(t.ppf(0.975, n - 1) * rates.std(ddof=1) * np.sqrt(1 / more + 1 / n))
