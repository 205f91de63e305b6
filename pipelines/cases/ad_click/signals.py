"""The columns that the trees see: categories as codes, numbers as they are, the hour and the weekday."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.ad_click.features import NAMES, RATES, WINDOWS
from pipelines.cases.ad_click.tables import PAGE_CONTEXT, USER_CONTEXT

CATEGORIES = (*PAGE_CONTEXT, *USER_CONTEXT, "category", "subcategory", "product")
"""Campaigns and ads come and go: they are known by their history, not by name."""
COUNTS = tuple(f"{name}_impressions_{days}d" for name in NAMES for days in WINDOWS)
NUMBERS = (
    "affinity",
    "bid",
    *COUNTS,
    *(f"{name}_click_rate_{days}d" for name in NAMES for days in RATES),
)
CLOCK = ("hour", "weekday")
RARE = 50
"""A category of fewer examples counts as unknown."""
TWO_WEEKS = 14.0
"""In a shorter window a weekday is but another name for a date."""


@dataclass(frozen=True)
class Signals:
    """What a fit has learned of its columns: their names in order, and the words of each category."""

    columns: tuple[str, ...]
    words: Mapping[str, Sequence[str]]

    @classmethod
    def learn(cls, rows: pl.DataFrame, days: float) -> Signals:
        """Find the columns that vary, and the categories that are common, in rows of a window of `days`."""
        words = {name: _common(rows[name]) for name in CATEGORIES}
        numbers = [name for name in NUMBERS if rows[name].drop_nulls().n_unique() > 1]
        clock = CLOCK if days >= TWO_WEEKS else CLOCK[:1]
        known = {name: each for name, each in words.items() if len(each) > 1}
        return cls((*known, *numbers, *clock), known)

    @property
    def read(self) -> tuple[str, ...]:
        """Name the columns of feature rows that are looked at."""
        return ("time", *(name for name in self.columns if name not in CLOCK))

    @property
    def categories(self) -> tuple[str, ...]:
        """Name the columns that are codes."""
        return tuple(self.words)

    def matrix(self, rows: pl.DataFrame) -> NDArray[np.float32]:
        """Return the columns of feature rows, shape (n, columns); what is missing or unknown is NaN."""
        rows = with_missing(rows)
        found = np.empty((rows.height, len(self.columns)), dtype=np.float32)
        for place, name in enumerate(self.columns):
            found[:, place] = rows.select(self._column(name)).to_series().to_numpy()
        return found

    def _column(self, name: str) -> pl.Expr:
        if name in self.words:
            codes = {word: code for code, word in enumerate(self.words[name])}
            read = pl.col(name).replace_strict(codes, default=None, return_dtype=pl.Float32)
        elif name == "hour":
            read = pl.col("time").dt.hour()
        elif name == "weekday":
            read = pl.col("time").dt.weekday()
        else:
            read = pl.col(name)
        return read.cast(pl.Float32).fill_null(float("nan"))

    def as_json(self) -> dict[str, Any]:
        """Return columns and words."""
        return {
            "columns": list(self.columns),
            "words": {name: list(each) for name, each in self.words.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Signals:
        """Read what `as_json` wrote."""
        return cls(tuple(content["columns"]), content["words"])


def with_missing(rows: pl.DataFrame) -> pl.DataFrame:
    """Add context and features that rows lack, as nulls."""
    texts = [pl.lit(None, pl.String).alias(name) for name in CATEGORIES if name not in rows.columns]
    numbers = [pl.lit(None, pl.Float64).alias(name) for name in NUMBERS if name not in rows.columns]
    return rows.with_columns(texts + numbers)


def _common(column: pl.Series) -> list[str]:
    """List the words of at least RARE rows, in order."""
    counted = column.drop_nulls().value_counts()
    words: list[str] = counted.filter(pl.col("count") >= RARE)[column.name].sort().to_list()
    return words
