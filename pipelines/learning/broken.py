"""Is a column broken upstream: empty, in another unit, or in other words? Told apart from drift.

`Usual` is how a column's days were; `find_breach` compares a day's values with it. A breach is what no
change of people or tastes makes: missing values where there were (nearly) none, a part of the numbers moved
by a ratio of units, or most words never seen in a column that brought no new ones. Drift is everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import binom

from pipelines.learning.units import Floats, UnitChange, find_unit_change, logs

LEAST_ROWS = 10  # rows that are judged together
SELDOM = 0.05  # a column with fewer missing values than this is (nearly) always filled
JUMP = 0.05  # … and is broken where so many more are missing
GONE = 0.1  # any other column is broken where less than so much of what was filled still is
CHANCE = 1e-6  # of so many missing values, or new words, on a usual day, at most
FEW = 0.01  # the chance is reckoned as if at least so many were usually missing
NEW_WORDS = 0.5  # share of values that were never seen
TURNOVER = 0.05  # share of values that are new every day, at most, where words can be compared
KNOWN_WORDS = 1000
KEPT = 2000  # quantiles that stand for a column's usual numbers


@dataclass(frozen=True)
class Breach:
    """What is broken, as `empty`, `unit` or `words`; the share of rows struck; and in words."""

    kind: str
    share: float
    words: str


@dataclass(frozen=True)
class Usual:
    """How a column was: the median day's share of missing values, decimal logarithms of its numbers, its words.

    `words` is None where new ones come every day, so that they tell nothing.
    """

    missing: float
    numbers: Floats
    words: frozenset[str] | None

    @classmethod
    def of(cls, days: list[pl.Series]) -> Usual:
        """Summarise a column's usual days; a few broken ones among them do little harm."""
        missing = float(np.median([_missing(day) / len(day) for day in days]))
        values = pl.concat(days).drop_nulls()
        if values.dtype.is_numeric():
            found = logs(values.to_numpy().astype(np.float64))
            kept = found if len(found) <= KEPT else np.quantile(found, np.linspace(0, 1, KEPT))
            return cls(missing, kept, None)
        comparable = values.dtype == pl.String and missing < 0.5
        return cls(missing, np.empty(0), _closed(days) if comparable else None)


def find_breach(usual: Usual, values: pl.Series) -> Breach | None:
    """Say what is broken in a day's values; None where it is well, or only drifts."""
    return _emptied(usual, values) or _other_unit(usual, values) or _other_words(usual, values)


def _emptied(usual: Usual, values: pl.Series) -> Breach | None:
    missing, rows = _missing(values), len(values)
    share = missing / rows
    often = (
        share >= usual.missing + JUMP if usual.missing <= SELDOM else share > 1 - GONE * (1 - usual.missing)
    )
    if not often or binom.sf(missing - 1, rows, max(usual.missing, FEW)) > CHANCE:
        return None
    return Breach("empty", share, f"missing values {_percent(usual.missing)} → {_percent(share)}")


def _other_unit(usual: Usual, values: pl.Series) -> Breach | None:
    if not len(usual.numbers) or not values.dtype.is_numeric():
        return None
    found = find_unit_change(usual.numbers, logs(values.drop_nulls().to_numpy().astype(np.float64)))
    return None if found is None else Breach("unit", found.share, _unit_words(found))


def _other_words(usual: Usual, values: pl.Series) -> Breach | None:
    told = values.drop_nulls()
    if not usual.words or len(told) < LEAST_ROWS:
        return None
    new = told.filter(~told.is_in(sorted(usual.words)))
    share = len(new) / len(told)
    if share < NEW_WORDS or binom.sf(len(new) - 1, len(told), TURNOVER) > CHANCE:
        return None
    commonest = new.value_counts().sort("count", values.name, descending=[True, False])[values.name][0]
    return Breach("words", share, f"{_percent(share)} values never seen before, such as '{commonest}'")


def _closed(days: list[pl.Series]) -> frozenset[str] | None:
    """Name a column's words; None where they are many, or new ones keep coming."""
    every = pl.concat(days).drop_nulls().unique()
    half = len(days) // 2
    if not half or len(every) > KNOWN_WORDS:
        return None
    first, second = (pl.concat(part).drop_nulls() for part in (days[:half], days[half:]))
    new = len(second.filter(~second.is_in(first.unique().to_list())))
    return frozenset(every.to_list()) if new <= TURNOVER * len(second) else None


def _missing(values: pl.Series) -> int:
    return values.null_count() + (int(values.is_nan().sum()) if values.dtype.is_float() else 0)


def _unit_words(found: UnitChange) -> str:
    factor = f"× {found.factor:,.0f}" if found.factor > 1 else f"÷ {1 / found.factor:,.0f}"
    return f"{_percent(found.share)} of the values came {factor}, as in another unit"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
