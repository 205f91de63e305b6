"""The simulated world as rows of the tables. Replace: the columns, where your tables have others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Batch, Judge, Users, World
from pipelines.case_template.tables import PLACES
from pipelines.case_template.truth import (
    BURN_IN_DAYS,
    KINDS,
    SEGMENTS,
    Truth,
    WorldParams,
)
from pipelines.world.delays import AT_ONCE, deliver, instants
from pipelines.world.engine import run_days
from pipelines.world.judge import WorldJudge
from pipelines.world.policy import Policy, PopularWithExploration, Served
from pipelines.world.rhythm import Visits, draw_visits
from pipelines.world.rows import actions, words
from pipelines.world.state import read_clock, world_day
from pipelines.world.streams import SECOND, Purpose, stream
from pipelines.world.users import Places, SlateUsers

Rows = NDArray[np.int64]
SLOWEST_CLICK = 600.0  # seconds: within the label's hour, so that the truth need not ask how late a click is


class Items(Truth):
    """The people and items of the truth, and the log that they leave."""

    dice = 2
    half_life = 2.0

    def __init__(self, params: WorldParams, seed: int, origin: int) -> None:
        super().__init__(params, seed, origin)
        self.policy: Policy = PopularWithExploration(PLACES, params.exploration)

    def visits(self, day: int) -> Visits:
        """Draw the day's requests: more at weekends under the season scenario."""
        users = self.actors.alive(day)
        rates = np.full(len(users), self.params.requests_per_user_day * self.drift.rhythm(day))
        stay = self.actors["born"][users], self.actors["gone"][users]
        rng = stream(self.seed, day, Purpose.VISITS)
        return draw_visits(day, users, rates, np.zeros(len(users)), *stay, rng)

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the day's new items; on the first day, all that are there."""
        items = self.items.arrived(day, day + 1)
        if first:
            items = np.union1d(self.items.settled(day), items)
        rows = pl.DataFrame(
            {
                "item_id": self.items.names(items),
                "kind": words(KINDS, self.items["kind"][items]),
                "created_at": instants(self.items["born"][items]),
                "available_until": instants(self.items["gone"][items]),
            }
        )
        return {"items": deliver(rows, "created_at", AT_ONCE, stream(self.seed, day, Purpose.ARRIVALS))}

    def asked(self, day: int, visits: Visits) -> pl.DataFrame:
        """Write the visits' requests as they reach the platform."""
        time, number = instants(visits.time), pl.Series(np.arange(len(visits.time)))
        return pl.DataFrame(
            {
                "request_id": pl.select(pl.format("r{}-{}", time.dt.strftime("%Y%m%d"), number)).to_series(),
                "request_time": time,
                "policy": pl.repeat(self.policy.name, len(time), dtype=pl.String, eager=True),
                "model_version": pl.repeat(None, len(time), dtype=pl.String, eager=True),
                "user_id": self.actors.names(visits.actor),
                "segment": words(SEGMENTS, self.actors["segment"][visits.actor]),
            }
        )

    def respond(self, day: int, visits: Visits, served: Served) -> Mapping[str, pl.DataFrame]:
        """Write what was shown, and the clicks that came of it."""
        requests, (count, places) = self.asked(day, visits), served.items.shape
        at, item = np.repeat(np.arange(count), places), served.items.ravel()
        actor, time = visits.actor[at], visits.time[at]
        position = np.tile(np.arange(1, places + 1, dtype=np.int32), count)
        shown = requests[at].select("request_id", "user_id", "segment", impression_time="request_time")
        shown = shown.with_columns(
            pl.format("{}-{}", "request_id", pl.Series(position)).alias("impression_id"),
            position=position,
            propensity=served.propensity.ravel(),
            item_id=self.items.names(item),
            kind=words(KINDS, self.items["kind"][item]),
            explored=served.explored[at],
        )
        chance = self.relevance(actor, item, time) * self.examination(actor, position)
        dice = stream(self.seed, day, Purpose.RESPONSES).random((len(at), self.dice))
        base = shown.select("impression_id", "user_id", "item_id")
        mail, how = stream(self.seed, day, Purpose.DELIVERY), self.params.delivery
        return {
            "requests": deliver(requests, "request_time", AT_ONCE, mail),
            "impressions": deliver(shown, "impression_time", how, mail, spoil="item_id"),
            "actions": deliver(_clicks(base, chance, time, dice), "action_time", how, mail, spoil="item_id"),
        }

    def react(self, places: Places) -> pl.DataFrame:
        """Draw the clicks on what was really shown, from each place's own dice."""
        chance = self.relevance(places.actor, places.item, places.asked)
        chance *= self.examination(places.actor, places.position)
        return _clicks(
            places.impression_id.alias("impression_id").to_frame(), chance, places.shown, places.dice
        )

    def successes(self, arrived: Mapping[str, pl.DataFrame]) -> pl.Series:
        """Read the items that were clicked from the rows that arrived."""
        return arrived["actions"]["item_id"].drop_nulls()


def _clicks(
    base: pl.DataFrame, chance: NDArray[np.float64], shown: Rows, dice: NDArray[np.float64]
) -> pl.DataFrame:
    """Write a click on each row of `base` whose first die falls below its chance, as late as the second says."""
    clicked = np.flatnonzero(dice[:, 0] < chance)
    delay = (dice[clicked, 1] * SLOWEST_CLICK * SECOND).astype(np.int64)
    return actions(base[clicked], "click", shown[clicked] + delay)


def _rows(params: Any, seed: int, start: datetime, days: int, state: Path) -> Iterator[Batch]:
    stored = read_clock(state)
    world = Items(params, seed, world_day(stored.origin if stored else start))
    return run_days(world, params.model_dump(mode="json"), seed, start, days, BURN_IN_DAYS, state)


def _judge(params: Any, seed: int, start: datetime) -> Judge:
    world, times = Items(params, seed, world_day(start)), ("impression_time", "request_time", "time")
    return WorldJudge(world, "user_id", "item_id", "request_id", times, as_shown=True)


def _users(params: Any, seed: int, start: datetime) -> Users:
    return SlateUsers(Items(params, seed, world_day(start)), "item_id", PLACES)


WORLD = World(WorldParams, _rows, _judge, _users)
