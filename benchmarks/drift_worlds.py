"""Worlds that stand still, and shifts to put into them: rows as a platform would see them.

Rows of a day are not independent: the same people come back with the same habits (users), what is popular
moves from day to day (AR(1)), weekends differ (season), now and then a day is odd (heavy tails).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = 86_400_000_000
CATEGORIES = ("phone", "desktop", "tv", "tablet", "watch")
SHARES = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
ROLES = {"prediction": "prediction", "label": "label"}


@dataclass(frozen=True)
class World:
    """A stationary world. Effects are in row standard deviations.

    `clustered` is the share of a number's variance that is its user's own; `daily` the standard deviation
    of what a whole day shares, with `correlation` from day to day; `season` that of weekdays; `odd` the
    chance of a day with effects five times as large.
    """

    rows: int = 1000
    users: int = 4000
    clustered: float = 0.5
    daily: float = 0.0
    correlation: float = 0.0
    season: float = 0.0
    odd: float = 0.0


WORLDS = {
    "independent": World(clustered=0.0),
    "users": World(),
    "days": World(daily=0.03, correlation=0.5),
    "slow days": World(daily=0.03, correlation=0.8),
    "season": World(daily=0.02, correlation=0.5, season=0.15),
    "odd days": World(daily=0.03, correlation=0.3, odd=0.03),
}

Shift = Callable[[pl.DataFrame, np.ndarray, np.random.Generator], pl.DataFrame]
"""Changes rows; the array says how far each row lies into the shifted part, from 0 to 1."""


def _add(name: str, size: float) -> Shift:
    return lambda rows, _, rng: rows.with_columns(pl.col(name) + size)


def _scale(name: str, factor: float) -> Shift:
    return lambda rows, _, rng: rows.with_columns(pl.col(name) * factor)


def _replaced(name: str, value: str | None, share: float) -> Shift:
    def change(rows: pl.DataFrame, _: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
        struck = pl.Series(rng.random(rows.height) < share)
        return rows.with_columns(pl.when(struck).then(pl.lit(value)).otherwise(pl.col(name)).alias(name))

    return change


def _more_labels(rows: pl.DataFrame, _: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    extra = pl.Series((rng.random(rows.height) < 0.05 / 0.9).astype(int))
    return rows.with_columns(label=pl.max_horizontal("label", extra))


def _creeping(rows: pl.DataFrame, far: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    return rows.with_columns(n0=pl.col("n0") + pl.Series(far))


SHIFTS: dict[str, tuple[str, Shift]] = {
    "mean + 0.1 sd": ("n0", _add("n0", 0.1)),
    "mean + 0.3 sd": ("n0", _add("n0", 0.3)),
    "mean + 0.5 sd": ("n0", _add("n0", 0.5)),
    "variance × 1.5": ("n0", _scale("n0", 1.5**0.5)),
    "variance × 2": ("n0", _scale("n0", 2**0.5)),
    "share of a category + 5 points": ("c0", _replaced("c0", "tv", 0.05 / 0.85)),
    "share of a category + 10 points": ("c0", _replaced("c0", "tv", 0.10 / 0.85)),
    "a new category, 2 %": ("c0", _replaced("c0", "car", 0.02)),
    "nulls, 5 %": ("n0", _replaced("n0", None, 0.05)),
    "unit × 1000": ("n1", _scale("n1", 1000.0)),
    "label rate 10 % → 15 %": ("label", _more_labels),
    "predictions + 0.3 sd": ("prediction", _add("prediction", 0.3)),
    "gradual, to 1 sd": ("n0", _creeping),
}


def simulate(world: World, days: int, seed: int) -> pl.DataFrame:
    """Make `days` days of rows: four numbers, two categories, a flag, a prediction and a label."""
    rng = np.random.default_rng(seed)
    n = days * world.rows
    day = np.repeat(np.arange(days), world.rows)
    user = _users(world, days, rng)
    names = ("n0", "n1", "n2", "n3", "prediction", "label", "c0", "c1", "flag")
    effects = {name: _effects(world, days, rng)[day] for name in names}
    habits = {name: rng.standard_normal(world.users)[user] for name in names}
    own = {
        name: world.clustered**0.5 * habits[name] + (1 - world.clustered) ** 0.5 * rng.standard_normal(n)
        for name in names
    }
    score = {name: own[name] + effects[name] for name in names}
    cuts = np.quantile(rng.standard_normal(100_000), np.cumsum(SHARES)[:-1])
    label_cut, flag_cut = 1.2816, 0.5244  # 10 % and 30 % of a normal lie above
    return pl.DataFrame(
        {
            "time": pl.Series(day * DAY + rng.integers(DAY, size=n)).cast(pl.Duration("us")) + START,
            "n0": score["n0"],
            "n1": np.exp(score["n1"]),
            "n2": np.maximum(score["n2"], 0.0),
            "n3": np.floor(np.exp(score["n3"])),
            "c0": np.array(CATEGORIES)[np.searchsorted(cuts, score["c0"])],
            "c1": np.char.add("l", np.minimum(np.exp(2 * np.abs(score["c1"])), 200).astype(int).astype(str)),
            "flag": score["flag"] > flag_cut,
            "prediction": score["prediction"],
            "label": (score["label"] > label_cut).astype(int),
        }
    )


def shifted(rows: pl.DataFrame, since: int, shift: Shift, seed: int) -> pl.DataFrame:
    """Put a shift into the rows from day `since` on."""
    rng = np.random.default_rng([seed, 1])
    day = ((rows["time"] - START).dt.total_microseconds() // DAY).to_numpy()
    far = (day - since + 1) / max(day.max() - since + 1, 1)
    later = pl.Series(day >= since)
    return pl.concat([rows.filter(~later), shift(rows.filter(later), far[day >= since], rng)])


def named(name: str, rows: int | None = None) -> World:
    """Return a world by name, with so many rows a day."""
    world = WORLDS[name]
    return world if rows is None else replace(world, rows=rows)


def _users(world: World, days: int, rng: np.random.Generator) -> np.ndarray:
    """Draw who each row is of: some come often, some come for some weeks only."""
    activity = rng.gamma(1.0, size=world.users)
    came = rng.integers(-60, days, size=world.users)
    left = came + rng.exponential(45, size=world.users)
    drawn = []
    for day in range(days):
        weight = activity * ((came <= day) & (day < left))
        drawn.append(rng.choice(world.users, size=world.rows, p=weight / weight.sum()))
    return np.concatenate(drawn)


def _effects(world: World, days: int, rng: np.random.Generator) -> np.ndarray:
    shocks = rng.standard_normal(days + 30)
    effect = np.zeros(days + 30)
    for day in range(1, days + 30):
        effect[day] = world.correlation * effect[day - 1] + (1 - world.correlation**2) ** 0.5 * shocks[day]
    weekday = world.season * rng.standard_normal(7)
    strength = np.where(rng.random(days) < world.odd, 5.0, 1.0)
    return world.daily * effect[30:] * strength + weekday[np.arange(days) % 7]
