"""The simulated world of ad clicks: what its people ask, are shown and click, as rows. The truth: truth.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Batch, Judge, Users, World
from pipelines.cases.ad_click.truth import (
    AGES,
    CATEGORIES,
    CLICK_DELAY,
    DEVICES,
    GENDERS,
    OFFSET_HOURS,
    PRODUCTS,
    SITES,
    AdTruth,
    AdWorld,
)
from pipelines.world.delays import AT_ONCE, deliver, instants
from pipelines.world.engine import run_days
from pipelines.world.judge import WorldJudge
from pipelines.world.policy import Policy, PopularWithExploration, Served
from pipelines.world.rhythm import Visits, draw_visits
from pipelines.world.rows import actions, words
from pipelines.world.scenarios import blank
from pipelines.world.state import read_clock, world_day
from pipelines.world.streams import DAY, SECOND, Purpose, stream
from pipelines.world.users import Places, SlateUsers

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Ads(AdTruth):
    """The people and ads of the truth, and the log that they leave."""

    dice = 3

    def __init__(self, params: AdWorld, seed: int, origin: int) -> None:
        super().__init__(params, seed, origin)
        self.policy: Policy = PopularWithExploration(params.slate, params.exploration)
        self.half_life = params.popularity_half_life

    def visits(self, day: int) -> Visits:
        """Draw the day's requests: more at weekends under the season scenario."""
        users = self.actors.alive(day)
        rate = self.params.requests_per_user_day * self.actors["activity"][users]
        away = OFFSET_HOURS[self.actors["city"][users]]
        stay = self.actors["born"][users], self.actors["gone"][users]
        rng = stream(self.seed, day, Purpose.VISITS)
        return draw_visits(day, users, rate * self.drift.rhythm(day), away, *stay, rng)

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the ads of the day's new campaigns; on the first day, all that still run."""
        mail = stream(self.seed, day, Purpose.ARRIVALS)
        ads = self.items.arrived(day, day + 1)
        if first:
            ads = np.union1d(self.items.settled(day), ads)
        return {"ads": deliver(self._ad_rows(ads), "created_at", AT_ONCE, mail)}

    def _ad_rows(self, ads: Rows) -> pl.DataFrame:
        item = self.items
        broken = self.drift.level("broken_units", item["born"][ads] // DAY)
        return pl.DataFrame(
            {
                "ad_id": item.names(ads),
                "campaign_id": self._campaigns(ads),
                "category": words(CATEGORIES, item["category"][ads]),
                "subcategory": pl.Series(item["category"][ads] * 4 + item["subcategory"][ads]).cast(
                    pl.String
                ),
                "product": words(PRODUCTS, item["product"][ads]),
                "bid": np.where(item["fault"][ads] < broken, 1000 * item["bid"][ads], item["bid"][ads]),
                "created_at": instants(item["born"][ads]),
                "available_until": instants(item["gone"][ads]),
            }
        )

    def _campaigns(self, ads: Rows) -> pl.Series:
        """Write campaign ids: the day and a number."""
        parts = pl.DataFrame({"day": self.items["day"][ads], "number": self.items["campaign"][ads]})
        date = pl.from_epoch("day", "d").dt.strftime("%Y%m%d")
        return parts.select(
            pl.format("c{}-{}", date, pl.col("number").cast(pl.String).str.zfill(3))
        ).to_series()

    def respond(self, day: int, visits: Visits, served: Served) -> Mapping[str, pl.DataFrame]:
        """Write what was shown, and the clicks that came of it."""
        rng = stream(self.seed, day, Purpose.RESPONSES)
        requests = self.asked(day, visits)
        shown = self._shown(visits, served, requests)
        clicks = self._clicks(shown, rng)
        mail, how = stream(self.seed, day, Purpose.DELIVERY), self.params.delivery
        return {
            "requests": deliver(requests, "request_time", AT_ONCE, mail),
            "impressions": deliver(shown.drop("actor", "item"), "impression_time", how, mail, spoil="ad_id"),
            "actions": deliver(clicks, "action_time", how, mail, spoil="ad_id"),
        }

    def asked(self, day: int, visits: Visits) -> pl.DataFrame:
        """Write the visits' requests as they reach the platform, the faults of upstream included."""
        requests = self._request_rows(visits)
        fault = stream(self.seed, day, Purpose.FAULTS).random(requests.height)
        return blank(requests, "device", fault < self.drift.level("broken_nulls", day))

    def _request_rows(self, visits: Visits) -> pl.DataFrame:
        count, user, time = len(visits.actor), self.actors, instants(visits.time)
        device, site = self.page(visits.actor, visits.time)
        number = pl.int_range(count, eager=True).cast(pl.String).str.zfill(7)
        nothing = pl.repeat(None, count, dtype=pl.String, eager=True)
        return pl.DataFrame(
            {
                "request_id": pl.select(pl.format("r{}-{}", time.dt.strftime("%Y%m%d"), number)).to_series(),
                "request_time": time,
                "policy": pl.repeat(self.policy.name, count, dtype=pl.String, eager=True),
                "model_version": nothing,
                "user_id": user.names(visits.actor),
                "device": words(DEVICES, device),
                "site": pl.select(pl.format("site{}", pl.Series(site))).to_series(),
                "audience": nothing,
                "gender": words(GENDERS, user["gender"][visits.actor]),
                "age": words(AGES, user["age"][visits.actor]),
                "city_level": pl.Series(user["city"][visits.actor] + 1).cast(pl.String),
                "depth": nothing,
                **{f"trait_{each}": nothing for each in range(4)},
            }
        )

    def _shown(self, visits: Visits, served: Served, requests: pl.DataFrame) -> pl.DataFrame:
        count, places = served.items.shape
        at, items = np.repeat(np.arange(count), places), served.items.ravel()
        position = pl.Series(np.tile(np.arange(1, places + 1, dtype=np.int32), count))
        request = requests["request_id"].gather(at)
        return pl.DataFrame(
            {
                "actor": visits.actor[at],
                "item": items,
                "impression_id": pl.select(pl.format("{}-{}", request, position)).to_series(),
                "request_id": request,
                "impression_time": instants(visits.time[at]),
                "position": position,
                "propensity": served.propensity.ravel(),
                "user_id": requests["user_id"].gather(at),
                "ad_id": self.items.names(items),
                "campaign_id": self._campaigns(items),
                "category": words(CATEGORIES, self.items["category"][items]),
                "explored": served.explored[at],
                "affinity": pl.repeat(None, len(at), dtype=pl.Float64, eager=True),
            }
        )

    def _clicks(self, shown: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        actors, items = shown["actor"].to_numpy(), shown["item"].to_numpy()
        time = shown["impression_time"].dt.epoch("us").to_numpy()
        chance = self.click(actors, items, time) * self.examination(actors, shown["position"].to_numpy())
        clicked = np.flatnonzero(rng.random(shown.height) < chance)
        base = shown.select("impression_id", "user_id", "ad_id", "campaign_id", "category")[clicked]
        return self._clicked(base, time[clicked], time[clicked], CLICK_DELAY.sample(len(clicked), rng))

    def react(self, places: Places) -> pl.DataFrame:
        """Draw the clicks on what was really shown, from each place's own dice."""
        chance = self.click(places.actor, places.item, places.asked)
        chance *= self.examination(places.actor, places.position)
        clicked = np.flatnonzero(places.dice[:, 0] < chance)
        base = pl.DataFrame({"impression_id": places.impression_id.gather(clicked)})
        delay = CLICK_DELAY.read(places.dice[clicked, 1:])
        return self._clicked(base, places.asked[clicked], places.shown[clicked], delay)

    def _clicked(self, base: pl.DataFrame, asked: Rows, shown: Rows, delay: Floats) -> pl.DataFrame:
        """Write a click on each of `base`, asked for and shown at world times, usually `delay` seconds later."""
        later = delay * self.drift.slow(asked // DAY)
        return actions(base, "click", shown + (later * SECOND).astype(np.int64))

    def successes(self, arrived: Mapping[str, pl.DataFrame]) -> pl.Series:
        """Read the ads that were clicked from the rows that arrived."""
        return arrived["actions"]["ad_id"].drop_nulls()


@dataclass(frozen=True)
class PageJudge(WorldJudge):
    """Judges an ad on the page that its row names, if it does: a service may answer later than it was asked."""

    truth: Ads

    def expected(self, rows: pl.DataFrame) -> Floats:
        """Return P(label) for each row, as shown."""
        if not {"device", "site"} <= set(rows.columns):
            return super().expected(rows)
        actors, items, time = self._read(rows)
        devices, sites = [*DEVICES], [f"site{number}" for number in range(SITES)]
        device, site = self.truth.page(actors, time)
        page = _codes(rows["device"], devices, device), _codes(rows["site"], sites, site)
        relevance = self.truth.relevance(actors, items, time, page=page)
        return self.truth.examination(actors, rows["position"].to_numpy()) * relevance


def _codes(told: pl.Series, names: list[str], otherwise: Rows) -> Rows:
    """Read words as codes; what is not told, or not one of them, is what it would be otherwise."""
    found = told.replace_strict(names, list(range(len(names))), default=None, return_dtype=pl.Int64)
    codes: Rows = pl.select(pl.coalesce(found, pl.Series(otherwise))).to_series().to_numpy()
    return codes


def _rows(params: Any, seed: int, start: datetime, days: int, state: Path) -> Iterator[Batch]:
    stored = read_clock(state)
    origin = world_day(stored.origin if stored else start)
    world = Ads(params, seed, origin)
    return run_days(world, params.model_dump(mode="json"), seed, start, days, params.burn_in_days, state)


def _judge(params: Any, seed: int, start: datetime) -> Judge:
    world = Ads(params, seed, world_day(start))
    return PageJudge(
        world, "user_id", "ad_id", "request_id", ("impression_time", "request_time", "time"), as_shown=True
    )


def _users(params: Any, seed: int, start: datetime) -> Users:
    return SlateUsers(Ads(params, seed, world_day(start)), "ad_id", params.slate)


WORLD = World(AdWorld, _rows, _judge, _users)
