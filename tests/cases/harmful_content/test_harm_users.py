"""Authors, readers and reviewers, as a served system meets them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from harm_help import SMALL, START

from pipelines.cases.harmful_content.people import REVIEW_COST, WRONG_REMOVAL_COST, Posters
from pipelines.cases.harmful_content.population import HarmWorld
from pipelines.cases.harmful_content.world import WORLD
from pipelines.errors import DataError
from pipelines.world.state import world_day

DAY = timedelta(days=1)


def people(**changes: object) -> Posters:
    users = WORLD.users(HarmWorld.model_validate({**SMALL, **changes}), 3, START)
    assert isinstance(users, Posters)
    return users


def decided(users: Posters, number: int, decision: str) -> pl.DataFrame:
    """Decide on all of a day's posts alike."""
    asked = users.ask(START + number * DAY).with_row_index("request")
    return asked.select(
        pl.col("request").cast(pl.Int64),
        pl.format("{}-{}", pl.lit(number), "request").alias("impression_id"),
        pl.col("time").alias("impression_time"),
        position=pl.lit(1),
        decision=pl.lit(decision),
    )


def test_posts_are_decided_on_hours_after_they_were_posted() -> None:
    """Each once, with the reports that had come in by then, across midnights."""
    users = people()
    asked = pl.concat([users.ask(START + number * DAY) for number in range(5)])
    posted = pl.concat([users._world._requests(day, users._world.day(day)) for day in _days(range(4))])
    found = asked.join(posted, on=["author_id", "text"], suffix="_posted")
    wait = found["time"] - found["request_time"]
    assert found.height == posted.height
    assert wait.min() >= timedelta(hours=1) and wait.max() < timedelta(hours=3)
    assert (found["audience"] == found["audience_posted"]).all()
    assert asked["reports"].max() > 1 and (asked["reports"] == 0).mean() > 0.5


def _days(numbers: range) -> list[int]:
    return [world_day(START) + number for number in numbers]


@pytest.mark.parametrize("scenario", ["none", "label_delay"])
def test_reviews_find_what_they_are_worth(scenario: str) -> None:
    """Over 25 days, within 4 standard errors: the last word within four days, harm by harm."""
    users, found, worth, several = people(scenario={"name": scenario, "day": 0}), 0, 0.0, 0.0
    for number in range(25):
        shown, day = decided(users, number, "review"), START + number * DAY
        told = users.act(day, shown).filter(pl.col("action").is_in(["verdict", "outcome"]))
        told = told.join(shown.select("impression_id", "impression_time"), on="impression_id")
        told = told.filter(pl.col("action_time") - pl.col("impression_time") < timedelta(days=4))
        harms = told.unique("impression_id", keep="last", maintain_order=True)["harms"].list.len()
        assert len(harms) == shown.height
        found, several = found + harms.sum(), several + (harms**2).sum()
        worth += (users.worth(day, shown)["reward"] + REVIEW_COST).sum()
    assert worth > 200
    assert found == pytest.approx(worth, abs=4 * np.sqrt(several))


def test_what_stays_up_goes_on_being_reported() -> None:
    users = people(scenario={"name": "bots", "day": 0})
    told = {
        decision: users.act(START, decided(users, 0, decision)) for decision in ("allow", "review", "remove")
    }
    reports = {decision: rows.filter(action="report") for decision, rows in told.items()}
    assert reports["allow"].height > 20
    assert reports["review"].equals(reports["allow"]) and reports["remove"].is_empty()
    assert set(told["allow"]["action"]) == {"report"}
    assert set(told["remove"]["action"]) == {"appeal", "outcome"}
    assert told["allow"]["harms"].list.len().min() == 1


def test_reports_come_before_the_decision_or_after_it() -> None:
    """Together they are those that the world's own log tells."""
    users = people(audit=1.0)
    world, before, after = users._world, 0, 0
    for number in range(3, 6):
        before += users.ask(START + number * DAY)["reports"].sum()
        after += users.act(START + number * DAY, decided(users, number, "allow")).height
    logged = sum(world.happen(day)["actions"].filter(action="report").height for day in _days(range(3, 6)))
    assert before > 20 and after > 20
    assert before + after == pytest.approx(logged, rel=0.15)


def test_wrongly_removed_posts_come_back_on_appeal() -> None:
    """Half of the authors of harmless posts appeal, and a senior reviewer finds next to nothing."""
    users, cleared, harmless = people(), 0, 0
    for number in range(4):
        shown = decided(users, number, "remove")
        outcome = users.act(START + number * DAY, shown).filter(action="outcome")
        cleared += (outcome["harms"].list.len() == 0).sum()
        due = users._world.due(world_day(START) + number)
        harmless += (due.severity.max(axis=1) < -4).sum()
    assert harmless > 200 and cleared == pytest.approx(0.5 * harmless, rel=0.15)


def test_the_worth_of_a_decision_weighs_harm_against_its_cost() -> None:
    users = people()
    due = users._world.due(world_day(START))
    worth = {each: users.worth(START, decided(users, 0, each)) for each in ("allow", "review", "remove")}
    assert (worth["allow"]["reward"] == 0).all()
    harms = due.chance.sum(axis=1)
    np.testing.assert_allclose(worth["review"]["reward"], harms - REVIEW_COST)
    np.testing.assert_allclose(worth["remove"]["reward"], harms - WRONG_REMOVAL_COST * due.harmless)
    every = np.column_stack([worth[each]["reward"] for each in worth])
    for each in worth.values():
        np.testing.assert_array_equal(each["best"], every.max(axis=1))
    assert {0, 1, 2} >= set(every.argmax(axis=1).tolist()) >= {0, 2}
    assert (due.harmless <= 1).all() and (due.harmless >= 1 - harms - 1e-12).all()


def test_the_judge_knows_a_served_post_again() -> None:
    """By its author and words, whatever id the service gave it."""
    users, judge = people(), WORLD.judge(HarmWorld.model_validate(SMALL), 3, START)
    asked = users.ask(START + DAY)
    rows = asked.with_columns(request_id=pl.format("served-{}", pl.int_range(pl.len())), harm=pl.lit("spam"))
    chance = users._world.due(world_day(START) + 1).chance
    np.testing.assert_array_equal(judge.expected(rows), chance[:, 3])
    late = rows.with_columns(pl.col("time") + timedelta(hours=1))
    np.testing.assert_array_equal(judge.expected(late), chance[:, 3])
    ordered = rows.with_columns(unit=pl.lit("a"))[np.argsort(-chance.sum(axis=1))]
    found = judge.best_share(ordered, 10).row(0, named=True)
    assert found["reward"] == pytest.approx(found["best"])
    assert found["best"] == pytest.approx(np.sort(chance.sum(axis=1))[-10:].sum())
    with pytest.raises(DataError, match="no post of this world"):
        judge.expected(rows.with_columns(text=pl.lit("somebody else's")))
