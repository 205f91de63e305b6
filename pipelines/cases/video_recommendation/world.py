"""The simulated world of video recommendation: what its people ask, are shown and do, as rows. The truth: truth.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Batch, Judge, Users, World
from pipelines.cases.video_recommendation.truth import (
    CLICK_DELAY,
    COMPLETED,
    COUNTRIES,
    COUNTRY_OFFSET,
    DEVICE_SHARE,
    DEVICES,
    GENRES,
    LANGUAGES,
    TOPICS,
    VideoTruth,
    VideoWorld,
)
from pipelines.world.delays import AT_ONCE, deliver, instants
from pipelines.world.engine import run_days
from pipelines.world.judge import WorldJudge
from pipelines.world.policy import Policy, PopularWithExploration, Served, draw_without_replacement
from pipelines.world.rhythm import Visits, draw_visits
from pipelines.world.rows import actions, words
from pipelines.world.scenarios import blank, weekend
from pipelines.world.state import read_clock, world_day
from pipelines.world.streams import DAY, SECOND, Purpose, stream
from pipelines.world.users import Places, SlateUsers

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

_IMPRESSION = ("impression_id", "request_id", "impression_time", "position", "propensity", "user_id",
               "video_id", "explored")  # fmt: skip


class Videos(VideoTruth):
    """The people and videos of the truth, and the log that they leave."""

    dice = 7

    def __init__(self, params: VideoWorld, seed: int, origin: int) -> None:
        super().__init__(params, seed, origin)
        self.policy: Policy = PopularWithExploration(params.slate, params.exploration)
        self.half_life = params.popularity_half_life

    def visits(self, day: int) -> Visits:
        """Draw the day's requests: more at weekends under the season scenario."""
        users = self.actors.alive(day)
        rate = self.params.requests_per_user_day * self.actors["activity"][users]
        away = COUNTRY_OFFSET[self.actors["country"][users]]
        stay = self.actors["born"][users], self.actors["gone"][users]
        rng = stream(self.seed, day, Purpose.VISITS)
        return draw_visits(day, users, rate * self.drift.rhythm(day), away, *stay, rng)

    def sample(self, day: int) -> pl.DataFrame:
        """Draw the day's impressions as if every slate were drawn uniformly: no state, any day by itself.

        Columns: `impression_time`, `user_id`, `video_id`, `position`, what the log would tell of user,
        request and video (the scenario's faults included), `prediction` (the true probability, as a
        perfect model would score) and `label`. For calibrating monitors on many worlds.
        """
        visits, live = self.visits(day), self.items.settled(day)
        count, places = len(visits.actor), self.params.slate
        drawn = draw_without_replacement(count, places, len(live), stream(self.seed, day, Purpose.POLICY))
        at, items = np.repeat(np.arange(count), places), live[drawn.ravel()]
        users, time = visits.actor[at], visits.time[at]
        position = np.tile(np.arange(1, places + 1), count)
        rng = stream(self.seed, day, Purpose.RESPONSES)
        blind = stream(self.seed, day, Purpose.FAULTS).random(count) < self.drift.level("broken_nulls", day)
        device = np.where(blind, len(DEVICES), self._devices(day, visits, rng))[at]
        relevance = self.relevance(users, items, time)
        chance: Floats = relevance * self.examination(users, position)
        label = rng.random(len(at)) < chance
        return pl.DataFrame(
            {
                "impression_time": instants(time),
                "user_id": self.actors.names(users),
                "video_id": self.items.names(items),
                "position": pl.Series(position, dtype=pl.Int32),
                "country": words(COUNTRIES, self.actors["country"][users]),
                "user_language": words(LANGUAGES, self.actors["language"][users]),
                "tenure_days": (time - self.actors["born"][users]) / DAY,
                "device": words((*DEVICES, None), device),
                "genre": words(GENRES, self.items["genre"][items]),
                "video_language": words(LANGUAGES, self.items["language"][items]),
                "age_days": (time - self.items["born"][items]) / DAY,
                "duration_seconds": self._told_seconds(items),
                "prediction": relevance,
                "label": label,
            }
        )

    def introduce(self, day: int, first: bool) -> Mapping[str, pl.DataFrame]:
        """Write the registrations and publications of the day; on the first day, all that still hold."""
        mail = stream(self.seed, day, Purpose.ARRIVALS)
        users = self.actors.arrived(day, day + 1)
        videos = self.items.arrived(day, day + 1)
        if first:
            users, videos = self.actors.alive(day), np.union1d(self.items.settled(day), videos)
        return {
            "users": deliver(self._user_rows(users), "registered_at", AT_ONCE, mail),
            "videos": deliver(self._video_rows(videos), "published_at", AT_ONCE, mail),
        }

    def _user_rows(self, users: Rows) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "user_id": self.actors.names(users),
                "registered_at": instants(self.actors["born"][users]),
                "country": words(COUNTRIES, self.actors["country"][users]),
                "language": words(LANGUAGES, self.actors["language"][users]),
            }
        )

    def _video_rows(self, videos: Rows) -> pl.DataFrame:
        genre, second = (words((*GENRES, None), self.items[name][videos]) for name in ("genre", "second"))
        creator = pl.Series(self.items["creator"][videos])
        rows = pl.DataFrame(
            {
                "video_id": self.items.names(videos),
                "published_at": instants(self.items["born"][videos]),
                "genre": genre,
                "second": second,
                "topic": words(TOPICS, self.items["topic"][videos]),
                "creator_id": pl.select(pl.format("c{}", creator.cast(pl.String).str.zfill(3))).to_series(),
                "language": words(LANGUAGES, self.items["language"][videos]),
                "duration_seconds": self._told_seconds(videos),
                "available_until": instants(self.items["gone"][videos]),
            }
        )
        return rows.select(
            "video_id",
            "published_at",
            pl.format("{} {}", pl.col("genre").str.to_titlecase(), "topic").alias("title"),
            "creator_id",
            pl.concat_list("genre", "second").list.drop_nulls().alias("genres"),
            "language",
            "duration_seconds",
            "available_until",
        )

    def _told_seconds(self, videos: Rows) -> Floats:
        """Tell the lengths as they were published: in milliseconds where the upstream unit broke."""
        broken = self.drift.level("broken_units", self.items["born"][videos] // DAY)
        seconds: Floats = self.items["seconds"][videos]
        return np.where(self.items["fault"][videos] < broken, 1000 * seconds, seconds)

    def _devices(self, day: int, visits: Visits, rng: np.random.Generator) -> Rows:
        """Draw the device of each visit: mostly the user's own, at weekends more often another."""
        count = len(visits.actor)
        away = rng.random(count) < 0.15 + 0.15 * self.drift.level("season", day) * weekend(day)
        other = rng.choice(len(DEVICES), count, p=DEVICE_SHARE)
        return np.where(away, other, self.actors["device"][visits.actor])

    def respond(self, day: int, visits: Visits, served: Served) -> Mapping[str, pl.DataFrame]:
        """Write what was shown, and the clicks, watches and likes that came of it."""
        rng = stream(self.seed, day, Purpose.RESPONSES)
        requests = self._request_rows(day, visits, rng)
        shown = self._shown(visits, served, requests, rng)
        actions = self._act(shown, rng)
        mail, how = stream(self.seed, day, Purpose.DELIVERY), self.params.delivery
        impressions = shown.select(_IMPRESSION)
        return {
            "requests": deliver(self._faulty(day, requests), "request_time", AT_ONCE, mail),
            "impressions": deliver(impressions, "impression_time", how, mail, spoil="user_id"),
            "actions": deliver(actions, "action_time", how, mail, spoil="user_id"),
        }

    def asked(self, day: int, visits: Visits) -> pl.DataFrame:
        """Write the visits' requests as they reach the platform, the faults of upstream included."""
        return self._faulty(day, self._request_rows(day, visits, stream(self.seed, day, Purpose.RESPONSES)))

    def _faulty(self, day: int, requests: pl.DataFrame) -> pl.DataFrame:
        fault = stream(self.seed, day, Purpose.FAULTS).random(requests.height)
        return blank(requests, "device", fault < self.drift.level("broken_nulls", day))

    def _request_rows(self, day: int, visits: Visits, rng: np.random.Generator) -> pl.DataFrame:
        count = len(visits.actor)
        device = self._devices(day, visits, rng)
        number = pl.int_range(count, eager=True).cast(pl.String).str.zfill(7)
        time = instants(visits.time)
        return pl.DataFrame(
            {
                "request_id": pl.select(pl.format("r{}-{}", time.dt.strftime("%Y%m%d"), number)).to_series(),
                "request_time": time,
                "policy": pl.repeat(self.policy.name, count, dtype=pl.String, eager=True),
                "model_version": pl.repeat(None, count, dtype=pl.String, eager=True),
                "user_id": self.actors.names(visits.actor),
                "device": words(DEVICES, device),
            }
        )

    def _shown(
        self, visits: Visits, served: Served, requests: pl.DataFrame, rng: np.random.Generator
    ) -> pl.DataFrame:
        count, places = served.items.shape
        answered = visits.time + rng.integers(80_000, 400_000, count)
        at = np.repeat(np.arange(count), places)
        position = np.tile(np.arange(1, places + 1, dtype=np.int32), count)
        return pl.DataFrame(
            {
                "actor": visits.actor[at],
                "item": served.items.ravel(),
                "time": answered[at],
                "request_id": requests["request_id"].gather(at),
                "impression_time": instants(answered[at]),
                "position": position,
                "propensity": served.propensity.ravel(),
                "user_id": requests["user_id"].gather(at),
                "video_id": self.items.names(served.items.ravel()),
                "explored": served.explored[at],
            }
        ).with_columns(
            impression_id=pl.format("{}-{}", "request_id", pl.col("position").cast(pl.String).str.zfill(2))
        )

    def _act(self, shown: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
        """Draw the chain: click (where examined), the share watched, and a like of what was half seen."""
        actors, items, time = (shown[name].to_numpy() for name in ("actor", "item", "time"))
        click, half = self.chances(actors, items, time)
        click *= self.examination(actors, shown["position"].to_numpy())
        dice = rng.random((shown.height, 2))
        clicked = np.flatnonzero(dice[:, 0] < click)
        watched = dice[clicked, 1] < half[clicked]
        to_the_end = rng.random(len(clicked)) < COMPLETED
        share = np.where(to_the_end, 1.0, rng.uniform(0.5, 1.0, len(clicked)))
        share = np.where(watched, share, 0.499 * rng.beta(0.8, 1.0, len(clicked)))
        delay = CLICK_DELAY.sample(len(clicked), rng) * self.drift.slow(time[clicked] // DAY)
        liked = watched & (rng.random(len(clicked)) < 0.3 * half[clicked])
        base = shown.select("impression_id", "user_id", "video_id")[clicked]
        return self._chain(base, items[clicked], time[clicked], delay, share, liked)

    def react(self, places: Places) -> pl.DataFrame:
        """Draw the same chain about what was really shown, from each place's own dice."""
        click, half = self.chances(places.actor, places.item, places.asked)
        click *= self.examination(places.actor, places.position)
        clicked = np.flatnonzero(places.dice[:, 0] < click)
        dice, half = places.dice[clicked], half[clicked]
        watched = dice[:, 1] < half
        share = np.where(dice[:, 2] < COMPLETED, 1.0, 0.5 + 0.5 * dice[:, 3])
        share = np.where(watched, share, 0.499 * dice[:, 3] ** (1 / 0.8))
        liked = watched & (dice[:, 4] < 0.3 * half)
        delay = CLICK_DELAY.read(dice[:, 5:]) * self.drift.slow(places.asked[clicked] // DAY)
        base = pl.DataFrame({"impression_id": places.impression_id.gather(clicked)})
        return self._chain(base, places.item[clicked], places.shown[clicked], delay, share, liked)

    def _chain(
        self,
        base: pl.DataFrame,
        items: Rows,
        time: Rows,
        delay: Floats,
        share: Floats,
        liked: NDArray[np.bool_],
    ) -> pl.DataFrame:
        """Write click, watch and like of each of `base`, shown at `time`, clicked `delay` seconds later."""
        clicked_at = time + (delay * SECOND).astype(np.int64)
        watching: Floats = share * self.items["seconds"][items]
        left_at = clicked_at + np.asarray(watching * SECOND, dtype=np.int64)
        return pl.concat(
            [
                actions(base, "click", clicked_at),
                actions(base, "watch", left_at, share),
                actions(base, "like", left_at).filter(pl.Series(liked)),
            ]
        )

    def successes(self, arrived: Mapping[str, pl.DataFrame]) -> pl.Series:
        """Read the videos that were half watched from the rows that arrived."""
        return arrived["actions"].filter((pl.col("action") == "watch") & (pl.col("value") >= 0.5))["video_id"]


def _rows(params: Any, seed: int, start: datetime, days: int, state: Path) -> Iterator[Batch]:
    stored = read_clock(state)
    origin = world_day(stored.origin if stored else start)
    world = Videos(params, seed, origin)
    return run_days(world, params.model_dump(mode="json"), seed, start, days, params.burn_in_days, state)


def _judge(params: Any, seed: int, start: datetime) -> Judge:
    world = Videos(params, seed, world_day(start))
    return WorldJudge(world, "user_id", "video_id", "request_id", ("impression_time", "request_time", "time"))


def _users(params: Any, seed: int, start: datetime) -> Users:
    return SlateUsers(Videos(params, seed, world_day(start)), "video_id", params.slate)


def sample_days(params: VideoWorld, seed: int, start: datetime, days: int) -> Iterator[pl.DataFrame]:
    """Yield one frame a day of uniformly explored impressions, as `Videos.sample` describes them."""
    world = Videos(params, seed, world_day(start))
    return (world.sample(world.origin + day) for day in range(days))


WORLD = World(VideoWorld, _rows, _judge, _users)
