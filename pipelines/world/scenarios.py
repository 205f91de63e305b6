"""Drift scenarios: what changes in a world, from which day, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator

from pipelines.errors import nearest
from pipelines.settings import Frozen

SCENARIOS = {
    "none": "stationary: nothing may alarm",
    "season": "a weekly rhythm from the first day on: nothing may alarm",
    "covariate": "who comes and what is offered changes; what they like does not",
    "concept": "what people like changes overnight; who comes does not",
    "concept_gradual": "what people like changes over `ramp_days`",
    "flood": "many times more new items arrive each day, of lower quality",
    "broken_units": "an upstream number arrives in another unit",
    "broken_nulls": "an upstream column arrives empty",
    "bots": "automated accounts act on the items of a few owners",
    "label_delay": "what decides a label takes twice as long",
}


class Scenario(Frozen):
    """A drift scenario. `day` counts from the world's first day; nothing differs before it."""

    name: str = "none"
    day: int = Field(default=28, ge=0)
    strength: float = Field(default=1.0, gt=0, le=1)
    ramp_days: int = Field(default=14, ge=1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SCENARIOS:
            raise ValueError(f"no scenario '{name}': {nearest(name, SCENARIOS)}")
        return name

    def level(self, name: str, days: ArrayLike) -> NDArray[np.float64]:
        """Say how far scenario `name` holds on each day since the world's first: 0 to `strength`."""
        days = np.asarray(days)
        if self.name != name:
            return np.zeros(days.shape)
        if name == "season":
            return np.full(days.shape, self.strength)
        since = days - self.day
        if name == "concept_gradual":
            ramp: NDArray[np.float64] = np.clip((since + 1) / self.ramp_days, 0.0, 1.0)
            return self.strength * ramp
        return np.where(since >= 0, self.strength, 0.0)

    def begins_by(self, days: int) -> bool:
        """Say whether the scenario already shows in a world's first `days` days."""
        return self.name == "season" or (self.name != "none" and self.day < days)


@dataclass(frozen=True)
class Drift:
    """A scenario as it unfolds in a world that began on `origin`. Days count from 1970."""

    scenario: Scenario
    origin: int

    def level(self, name: str, day: ArrayLike) -> NDArray[np.float64]:
        """Say how far scenario `name` holds on each day: 0 to its strength."""
        return self.scenario.level(name, np.asarray(day) - self.origin)

    def concept(self, day: ArrayLike) -> NDArray[np.float64]:
        """Say how far what people like has changed, at once or little by little."""
        return self.level("concept", day) + self.level("concept_gradual", day)

    def rhythm(self, day: int) -> float:
        """Return the factor by which more people come on the day: at weekends, under the season scenario."""
        return 1 + float(self.level("season", day)) * (0.25 if weekend(day) else -0.10)

    def slow(self, day: ArrayLike) -> NDArray[np.float64]:
        """Return the factor by which what decides a label takes longer."""
        return 1 + self.level("label_delay", day)

    def bots(self, people: int, day: int) -> int:
        """Count the automated accounts that arrive on the day: six a thousand people, all at once."""
        begins = day - self.origin == self.scenario.day
        return round(0.006 * people * float(self.level("bots", day))) if begins else 0


def weekend(day: ArrayLike) -> NDArray[np.bool_]:
    """Say which world days are Saturdays or Sundays (day 0, 1 January 1970, was a Thursday)."""
    return (np.asarray(day) + 3) % 7 >= 5


def rescale(rows: pl.DataFrame, column: str, factor: float, struck: NDArray[np.bool_]) -> pl.DataFrame:
    """Write the column in another unit in the struck rows: seconds as milliseconds, say."""
    return rows.with_columns(
        pl.when(pl.Series(struck)).then(pl.col(column) * factor).otherwise(pl.col(column)).alias(column)
    )


def blank(rows: pl.DataFrame, column: str, struck: NDArray[np.bool_]) -> pl.DataFrame:
    """Empty the column in the struck rows."""
    return rows.with_columns(pl.when(~pl.Series(struck)).then(pl.col(column)).alias(column))
