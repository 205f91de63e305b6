"""Recency: after a fall, learn from what came since it alone, where that tells the newest rows better.

A window of weeks still holds the days before the world changed, and for long they outnumber those since. Which to learn
from is found out on people whom neither model has seen: the window is the one with the least error on the newest
examples (Klinkenberg and Joachims, "Detecting concept drift with support vector machines", ICML 2000).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import polars as pl

from pipelines.case_study import CaseStudy, Dataset, Measured, Model
from pipelines.errors import DataError
from pipelines.settings import CaseParams, Platform, parse
from pipelines.steps.split import by_days, find_protocol, training_data
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)
S = TypeVar("S")
T = TypeVar("T")

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

    who = person(case, whole)
    windows = {_WHOLE: whole, **{start.isoformat(): windowed(start) for start in starts}}
    tests = [People(windows[start.isoformat()], who, True) for start in reversed(starts)]
    tests = [test for test in tests if test.labels()[case.label.keys[0]].n_unique() >= FEWEST_UNITS]
    if not tests:
        return None
    trial = _Trial(
        case, params, protocol, {name: People(each, who, False) for name, each in windows.items()}, tell
    )
    judged = (trial.measure(test) for test in tests)
    return next((_best(case, reached) for reached in judged if _tells(case, reached)), None)


@dataclass(frozen=True)
class _Trial:
    """Models of each window, learned without the people held out. `tell` hears of what went wrong, once."""

    case: CaseStudy
    params: CaseParams
    protocol: str
    windows: Mapping[str, Dataset]
    tell: Callable[[str], None]

    @cached_property
    def models(self) -> dict[str, Model]:
        settings = parse(self.case.params, self.params.train, f"params of {self.case.name}: train")

        def learn(window: Dataset) -> Model:
            return self.case.fit(window, settings).model

        return dict(self._tried(learn, self.windows))

    def measure(self, test: Dataset) -> dict[str, Measured]:
        """Measure each on rows of the people held out, where there are enough."""
        found, others = find_protocol(self.case, self.protocol).measure, self.windows[_WHOLE]
        return dict(self._tried(lambda model: found(model, others, test, None), self.models))

    def _tried(self, do: Callable[[S], T], each: Mapping[str, S]) -> Iterator[tuple[str, T]]:
        for name, given in each.items():
            try:
                yield name, do(given)
            except DataError as error:  # too few rows: that window is none to choose
                _log.info("%s: %s", _named(name), error)
            except Exception as error:  # a fault of the case's: a retrain goes on without it, and tells it
                words = f"{_named(name)} could not be tried ({type(error).__name__}: {error})"
                _log.warning("%s: %s", self.case.name, words, exc_info=True)
                self.tell(words)


def _tells(case: CaseStudy, reached: Mapping[str, Measured]) -> bool:
    """Say whether the whole window was measured on enough units to choose by."""
    whole = reached[_WHOLE].statistics.get(case.framing.selects) if _WHOLE in reached else None
    return whole is not None and len(whole.units) >= FEWEST_UNITS


def _named(window: str) -> str:
    return "the whole window" if window == _WHOLE else f"what came since {window[:10]} alone"


def _best(case: CaseStudy, reached: Mapping[str, Measured]) -> Choice | None:
    """Name the best window, if it is not the whole one."""
    metric, sign = case.framing.selects, case.framing.sign(case.framing.selects)
    known = {name: each.statistics[metric] for name, each in reached.items() if metric in each.statistics}
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
