"""When people come: how often each, at which hour, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.world.streams import DAY

HOURS = np.array([1.6, 0.9, 0.6, 0.4, 0.4, 0.7, 1.6, 3.0, 3.8, 3.6, 3.5, 3.7,
                  4.6, 4.6, 4.1, 4.0, 4.4, 5.2, 6.6, 8.2, 9.4, 9.2, 7.0, 3.9])  # fmt: skip
"""How visits spread over the hours of a person's own day: a lunch bump and a long evening."""


@dataclass(frozen=True)
class Visits:
    """A day's visits in order of time.

    `actor` (n,) rows of the population, `time` (n,) microseconds, `page` (n,) how many visits the
    actor had earlier on the same day.
    """

    actor: NDArray[np.int64]
    time: NDArray[np.int64]
    page: NDArray[np.int64]


def draw_visits(
    day: int,
    actors: NDArray[np.int64],
    rates: NDArray[np.float64],
    offset_hours: NDArray[np.float64],
    born: NDArray[np.int64],
    gone: NDArray[np.int64],
    rng: np.random.Generator,
) -> Visits:
    """Draw one day's visits: Poisson a person, spread over the local day, within each one's stay.

    All arrays have the shape of `actors`; `rates` are visits a day, `offset_hours` local less UTC.
    """
    counts = rng.poisson(rates)
    who = np.repeat(np.arange(len(actors)), counts)
    local = np.interp(rng.random(len(who)), np.append(0, np.cumsum(HOURS) / HOURS.sum()), np.arange(25))
    time = day * DAY + ((local - offset_hours[who]) % 24 / 24 * (DAY - 1)).astype(np.int64)
    there = (time >= born[who]) & (time < gone[who])
    who, time = who[there], time[there]
    order = np.lexsort((who, time))
    who, time = who[order], time[order]
    page = pl.DataFrame({"who": who}).select(pl.int_range(pl.len()).over("who")).to_series()
    return Visits(actors[who], time, page.cast(pl.Int64).to_numpy())


def local_hour(time: NDArray[np.int64], offset_hours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tell the hour [0, 24) on the actor's own clock."""
    return (time % DAY / DAY * 24 + offset_hours) % 24
