"""Recency: after a fall, learn from what came since it alone, where that tells the newest rows better.

A window of weeks still holds the days before the world changed, and for long they outnumber those since. Which to learn
from is found out on people whom neither model has seen: the window is the one with the least error on the newest
examples (Klinkenberg and Joachims, "Detecting concept drift with support vector machines", ICML 2000).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, Dataset, Measured
from pipelines.errors import DataError
from pipelines.settings import CaseParams, Platform, parse
from pipelines.steps.split import by_days, find_protocol, training_data
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)

SINCE = "since"
"""In a model's record: the choice, where it learned from what came since a fall."""
MOST_FALLS = 3
HELD_OUT = 3
"""One in so many people."""
FEWEST_UNITS = 50
_WHOLE = "whole"
_DAY, _NEVER = timedelta(days=1), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Choice:
    """Since when to learn, and the selection metric on unseen people's newest rows: so, and from the whole window."""

    start: datetime
    metric: str
    alone: float
    whole: float
    units: int

    def as_record(self) -> dict[str, Any]:
        """Return what a model's record tells of it."""
        found = {"start": self.start.isoformat(), "metric": self.metric, "units": self.units}
        return {SINCE: {**found, "alone": self.alone, "whole": self.whole}}


def choose_since(
    case: CaseStudy,
    ws: Workspace,
    whole: Dataset,
    falls: Sequence[datetime],
    params: CaseParams,
    platform: Platform,
    protocol: str,
    tell: Callable[[str], None] = lambda words: None,
) -> Choice | None:
    """Choose one of the newest falls within a window, to learn from what came since it; None: from the whole window.

    Windows that are not divided by days, or too small to tell, stay whole. `tell` hears of those that could not be
    tried for another reason than too few rows.
    """
    starts = _apart(fall for fall in falls if whole.start < fall < whole.end)[-MOST_FALLS:]
    if not starts or not by_days(find_protocol(case, protocol)):
        return None

    def windowed(start: datetime) -> Dataset:
        return training_data(case, ws, start, whole.end, params, platform)

    windows = {_WHOLE: whole, **{start.isoformat(): windowed(start) for start in starts}}
    tests = (windows[start.isoformat()] for start in reversed(starts))
    test = next((each for each in tests if _held(case, each) >= FEWEST_UNITS), None)
    return None if test is None else _best(case, _measure_all(case, windows, test, params, protocol, tell))


def _held(case: CaseStudy, dataset: Dataset) -> int:
    """Count what is told of the people held out."""
    return People(dataset, person(case, dataset), True).labels()[case.label.keys[0]].n_unique()


def _measure_all(
    case: CaseStudy,
    windows: Mapping[str, Dataset],
    newest: Dataset,
    params: CaseParams,
    protocol: str,
    tell: Callable[[str], None],
) -> dict[str, Measured]:
    """Learn from each window without the people held out, and measure on their newest rows, where there are enough."""
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    who, measure = person(case, newest), find_protocol(case, protocol).measure
    others, test = People(windows[_WHOLE], who, False), People(newest, who, True)
    reached = {}
    for name, window in windows.items():
        try:
            model = case.fit(People(window, who, False), settings).model
            reached[name] = measure(model, others, test, None)
        except DataError as error:  # too few rows: that window is none to choose
            _log.info("%s: %s", _named(name), error)
        except Exception as error:  # a fault of the case's: a retrain goes on without it, and tells it
            words = f"{_named(name)} could not be tried ({type(error).__name__}: {error})"
            _log.warning("%s: %s", case.name, words, exc_info=True)
            tell(words)
    return reached


def _named(window: str) -> str:
    return "the whole window" if window == _WHOLE else f"what came since {window[:10]} alone"


def _best(case: CaseStudy, reached: Mapping[str, Measured]) -> Choice | None:
    """Name the best window, if it is not the whole one."""
    metric, sign = case.framing.selects, case.framing.sign(case.framing.selects)
    known = {name: each.statistics[metric] for name, each in reached.items() if metric in each.statistics}
    if _WHOLE not in known or len(known[_WHOLE].units) < FEWEST_UNITS:
        return None
    values = {name: float(each.estimate()) for name, each in known.items()}
    told = [name for name in values if math.isfinite(values[name])]
    best = max(told, key=lambda name: sign * values[name], default=_WHOLE)
    if best == _WHOLE:
        return None
    return Choice(
        datetime.fromisoformat(best), metric, values[best], values[_WHOLE], len(known[_WHOLE].units)
    )


def _apart(falls: Iterable[datetime]) -> list[datetime]:
    """Sort falls, and of those that began within a day keep the last: it is the one that knew it best."""
    later = pairwise([*sorted(set(falls)), _NEVER])
    return [each for each, following in later if following - each >= _DAY]


def person(case: CaseStudy, dataset: Dataset) -> str:
    """Name the column of the labels that tells people apart; where none does, that of the examples."""
    acting = case.contributions.actor if case.contributions is not None else ()
    asking = () if case.serving is None else (case.serving.asker,)
    told = set(dataset.labels().columns)
    return next((name for name in (*acting, *asking) if name in told), case.label.keys[0])


class People:
    """A data set of the people held out, or of all others, by a hash of a column that its tables and labels share."""

    def __init__(self, seen: Dataset, person: str, held: bool) -> None:
        self._seen, self._person, self._held = seen, person, held

    def table(self, name: str) -> pl.LazyFrame:
        rows = self._seen.table(name)
        return rows.filter(self._mine) if self._person in rows.collect_schema() else rows

    def labels(self) -> pl.DataFrame:
        return self._labels

    @cached_property
    def _labels(self) -> pl.DataFrame:
        return self._seen.labels().filter(self._mine)

    @property
    def _mine(self) -> pl.Expr:
        who = pl.col(self._person)
        # Another seed than a case's own folds may use: else these people would be one of its folds.
        held = who.is_not_null() & (who.hash(seed=self._seen.seed + 1) % HELD_OUT == 0)
        return held if self._held else ~held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._seen, name)
