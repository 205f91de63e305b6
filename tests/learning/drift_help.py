"""Small rows with a day of the week, a noise of the day, and one knob for each way to drift."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from drift_worlds import START, World, simulate

from pipelines.learning.drift import Profile, profile_reference

ROLES = {"prediction": "prediction", "label": "label"}
WORLD = World(rows=300, users=1000, daily=0.03, correlation=0.5)
REFERENCE = 28


def rows(days: int = 35, seed: int = 0, world: World = WORLD) -> pl.DataFrame:
    return simulate(world, days, seed)


def before(made: pl.DataFrame, day: int = REFERENCE) -> pl.DataFrame:
    return made.filter(pl.col("time") - START < pl.duration(days=day))


def between(made: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    since = pl.col("time") - START
    return made.filter((since >= pl.duration(days=first)) & (since < pl.duration(days=last)))


def profile(made: pl.DataFrame) -> Profile:
    return profile_reference(before(made), "time", roles=ROLES)


def noise(days: int, series: int, generator: np.random.Generator, kind: str) -> np.ndarray:
    """Make stationary daily series, (days, series), in units of the noise of sampling."""
    white = generator.standard_normal((days, series))
    if kind == "independent":
        return white
    if kind == "heavy":
        return generator.standard_t(4, (days, series))
    if kind == "season":
        return white + 5 * generator.standard_normal((7, series))[np.arange(days) % 7]
    correlation = {"days": 0.5, "slow": 0.8}[kind]
    walk = generator.standard_normal((days, series))
    for day in range(1, days):
        walk[day] = correlation * walk[day - 1] + (1 - correlation**2) ** 0.5 * walk[day]
    return white + 2 * walk


def shift_days(days: int) -> pl.Expr:
    """Move rows by whole days."""
    return pl.col("time") + pl.duration(days=days)
