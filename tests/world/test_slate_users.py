"""People who are shown real slates: they earn what the truth says, and nothing for what is not there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from world_help import SMALL, START

from pipelines import catalog
from pipelines.world.state import world_day
from pipelines.world.users import SlateUsers

ADS = {"users": 400, "ads": 60, "longest_days": 10, "burn_in_days": 4, "tenure_days": 20}
WORLDS: dict[str, tuple[dict[str, Any], str, timedelta]] = {
    "video_recommendation": (SMALL, "video_id", timedelta(hours=24)),
    "ad_click": (ADS, "ad_id", timedelta(hours=1)),
}


def people(name: str, **changes: Any) -> SlateUsers:
    world = catalog.world(name)
    users = world.users(world.params.model_validate({**WORLDS[name][0], **changes}), 3, START)
    assert isinstance(users, SlateUsers)
    return users


def uniform(users: SlateUsers, name: str, day: datetime, places: int, seed: int = 0) -> pl.DataFrame:
    """Answer the day's requests with items drawn at random."""
    asked, rng = users.ask(day), np.random.default_rng(seed)
    items = users._world.items
    live = items.names(items.settled(world_day(day))).to_list()
    request = np.repeat(np.arange(asked.height), places)
    slates = np.concatenate([rng.choice(live, places, replace=False) for _ in range(asked.height)])
    position = np.tile(np.arange(1, places + 1), asked.height)
    return pl.DataFrame(
        {
            "request": request,
            "impression_id": [f"{day:%d}-{one}-{at}" for one, at in zip(request, position, strict=True)],
            "impression_time": asked["time"].gather(request),
            "position": position,
            WORLDS[name][1]: slates,
        }
    )


def earned(name: str, shown: pl.DataFrame, done: pl.DataFrame) -> int:
    """Count the labels: watches of at least a half within a day, clicks within an hour."""
    label = (pl.col("value") >= 0.5) if name == "video_recommendation" else (pl.col("action") == "click")
    rows = done.filter(label).join(shown.select("impression_id", "impression_time"), on="impression_id")
    return rows.filter(pl.col("action_time") - pl.col("impression_time") < WORLDS[name][2]).height


@pytest.mark.parametrize("scenario", ["none", "bots", "label_delay"])
@pytest.mark.parametrize("name", sorted(WORLDS))
def test_answers_earn_what_they_are_worth(name: str, scenario: str) -> None:
    """Over ten days, within 4 standard errors."""
    users, labels, worth = people(name, scenario={"name": scenario, "day": 1}), 0, 0.0
    for number in range(10):
        day = START + timedelta(days=number)
        shown = uniform(users, name, day, 5)
        labels += earned(name, shown, users.act(day, shown))
        worth += users.worth(day, shown)["reward"].sum()
    assert worth > 150
    assert labels == pytest.approx(worth, abs=4 * np.sqrt(worth))


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_what_is_not_there_earns_nothing_nor_twice(name: str) -> None:
    users, item = people(name, position_decay=0.0), WORLDS[name][1]
    items = users._world.items
    shown = uniform(users, name, START, 3)
    items.cover(world_day(START) + 1)
    gone = items.names(np.flatnonzero(items["gone"] <= world_day(START) * 86_400_000_000)[:1])[0]
    last = pl.col("position") == 3
    first = shown.filter(pl.col("position") == 1)[item]
    for wrong in (pl.lit(gone), pl.Series(np.repeat(first.to_numpy(), 3))):
        spoiled = shown.with_columns(pl.when(last).then(wrong).otherwise(item).alias(item))
        without = shown.filter(~last)
        assert users.act(START, spoiled).equals(users.act(START, without))
        assert users.worth(START, spoiled).equals(users.worth(START, without))


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_the_best_answer_is_worth_the_best(name: str) -> None:
    users, item = people(name), WORLDS[name][1]
    world, places = users._world, users._places
    day = world_day(START)
    visits, live = world.visits(day), world.items.settled(day)
    relevance = world.relevance(visits.actor, live, visits.time, grid=True)
    best = live[np.argsort(-relevance, axis=1)[:, :places]]
    shown = uniform(users, name, START, places).with_columns(world.items.names(best.ravel()).alias(item))
    worth = users.worth(START, shown)
    np.testing.assert_allclose(worth["reward"], worth["best"])
    again = users.worth(START, uniform(users, name, START, places))
    np.testing.assert_array_equal(again["best"], worth["best"])
    assert again["reward"].mean() < 0.8 * worth["best"].mean()
