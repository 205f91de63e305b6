"""The people of a world of slates, as a served system meets them: they ask, are shown items, and act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.stores.schemas import Requests
from pipelines.world.judge import Truth, best_rewards, is_live
from pipelines.world.rhythm import Visits
from pipelines.world.state import world_day
from pipelines.world.streams import Dice, Purpose

_LOGGED = tuple(Requests.to_schema().columns)
"""Columns of a request that its caller does not send."""


@dataclass(frozen=True)
class Places:
    """Places of answers that somebody may act on, n rows, in order of request and position.

    `asked` is when the request came, which the truth goes by, `shown` when it was answered (microseconds).
    `dice` (n, DICE) are the place's own.
    """

    impression_id: pl.Series
    actor: NDArray[np.int64]
    item: NDArray[np.int64]
    position: NDArray[np.int64]
    asked: NDArray[np.int64]
    shown: NDArray[np.int64]
    dice: NDArray[np.float64]


class Askers(Truth, Protocol):
    """What a world of slates supplies beside its truth. `day` counts days since 1970."""

    seed: int
    dice: int
    """How many dice a reaction to a place takes."""

    def visits(self, day: int) -> Visits:
        """Draw who comes on the day, and when."""

    def asked(self, day: int, visits: Visits) -> pl.DataFrame:
        """Write the visits' requests as they reach the platform: `request_time`, and what the caller sends."""

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the rows of the day's newcomers; on the `first` day, of all that are there."""

    def react(self, places: Places) -> pl.DataFrame:
        """Draw the actions on what was shown."""


class SlateUsers:
    """Users (see case_study.py) whose answers are slates of items, named by the column `item`.

    An item that is not there for the whole day earns nothing, and nobody acts on it; nor on one that stands
    in the same slate twice, but where it stands first. The best slate has `places` places.
    """

    def __init__(self, world: Askers, item: str, places: int) -> None:
        self._world, self._item, self._places = world, item, places
        self._visits = lru_cache(maxsize=4)(world.visits)
        self._best = lru_cache(maxsize=4)(self._best_of)

    def newcomers(self, day: datetime, first: bool = False) -> Mapping[str, pl.DataFrame]:
        """Write the rows of catalogues and profiles that arrive on the day, by table."""
        return on_the_day(self._world.introduce(world_day(day), first), day)

    def ask(self, day: datetime) -> pl.DataFrame:
        """Write what is asked on the day, in order of time."""
        number = world_day(day)
        rows = self._world.asked(number, self._visits(number))
        return rows.select(pl.col("request_time").alias("time"), pl.exclude(_LOGGED))

    def act(self, day: datetime, shown: pl.DataFrame) -> pl.DataFrame:
        """Draw what is done about the answers, in order of time."""
        number = world_day(day)
        rows = self._seen(number, shown)
        request, actor, item, position, asked = (
            rows[name].to_numpy() for name in ("request", "actor", "item", "position", "asked")
        )
        dice = Dice(self._world.seed, number, Purpose.REACTIONS).throw(self._world.dice, request, item)
        at = rows["impression_time"].dt.epoch("us").to_numpy()
        places = Places(rows["impression_id"], actor, item, position, asked, at, dice)
        return self._world.react(places).sort("action_time", "action_id")

    def worth(self, day: datetime, shown: pl.DataFrame) -> pl.DataFrame:
        """Tell the expected numbers of labels of the answers, and of the best that could have been given."""
        number = world_day(day)
        rows = self._seen(number, shown)
        request, actor, item, position, asked = (
            rows[name].to_numpy() for name in ("request", "actor", "item", "position", "asked")
        )
        earned = self._world.relevance(actor, item, asked) * self._world.examination(actor, position)
        reward = np.bincount(request, earned, minlength=len(self._visits(number).actor))
        answered = shown["request"].unique().sort()
        return pl.DataFrame(
            {
                "request": answered,
                "reward": reward[answered.to_numpy()],
                "best": self._best(number)[answered.to_numpy()],
            }
        )

    def _seen(self, number: int, shown: pl.DataFrame) -> pl.DataFrame:
        """Look places up: of items that are there, each once a slate."""
        visits, request = self._visits(number), shown["request"].to_numpy()
        item, asked = self._world.items.find(shown[self._item], number + 1), visits.time[request]
        rows = shown.select("request", "impression_id", "impression_time", pl.col("position").cast(pl.Int64))
        rows = rows.with_columns(
            actor=pl.Series(visits.actor[request]), item=pl.Series(item), asked=pl.Series(asked)
        )
        rows = rows.filter(pl.Series(is_live(self._world.items, item, asked)))
        return rows.sort("request", "position").unique(["request", "item"], keep="first", maintain_order=True)

    def _best_of(self, number: int) -> NDArray[np.float64]:
        visits = self._visits(number)
        return best_rewards(self._world, visits.actor, visits.time, self._places)


def on_the_day(introduced: Mapping[str, pl.DataFrame], day: datetime) -> Mapping[str, pl.DataFrame]:
    """Let what arrives a moment after midnight have arrived a moment before it, in order of arrival."""
    last = pl.lit(day + timedelta(days=1, microseconds=-1), pl.Datetime("us", "UTC"))
    arrived = pl.min_horizontal("arrived_at", last)
    return {
        table: rows.with_columns(arrived_at=arrived).sort("arrived_at", maintain_order=True)
        for table, rows in introduced.items()
    }
