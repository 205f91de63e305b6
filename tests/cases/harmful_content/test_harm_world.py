"""The world of posts: its truth is what its reviewers find, and each scenario changes what it should."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from harm_help import SMALL, START, Log, draw, posts
from polars.testing import assert_frame_equal

from pipelines.cases.harmful_content.population import HarmWorld
from pipelines.cases.harmful_content.reviews import outcome_in_time
from pipelines.cases.harmful_content.tables import HARMS, TABLES
from pipelines.cases.harmful_content.world import WORLD
from pipelines.errors import DataError
from pipelines.world.scenarios import SCENARIOS

DAY = 3
DAYS = 8
SHIFTED = sorted(set(SCENARIOS) - {"none", "season"})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Log]:
    folder = tmp_path_factory.mktemp("harm")
    plan = {"day": DAY, "ramp_days": 2}
    return {name: draw(folder / name, DAYS, scenario={"name": name, **plan}) for name in SCENARIOS}


def after(log: Log, table: str = "requests", time: str = "request_time") -> pl.DataFrame:
    return log[table].filter(pl.col(time) >= START + timedelta(days=DAY))


def judged(log: Log) -> pl.DataFrame:
    """Lay the last word on each reviewed post and harm beside the post: request_id, harm, label."""
    told = log["actions"].filter(pl.col("action").is_in(["verdict", "outcome"]))
    last = told.sort("impression_id", "action_time").unique("impression_id", keep="last")
    rows = last.join(
        log["impressions"].select("impression_id", "request_id", "propensity"), on="impression_id"
    )
    rows = rows.join(pl.DataFrame({"harm": HARMS}), how="cross")
    return rows.with_columns(label=pl.col("harms").list.contains(pl.col("harm")).cast(pl.Float64))


def test_rows_fit_the_tables(drawn: dict[str, Log]) -> None:
    for table in TABLES:
        rows = drawn["none"][table.name]
        assert_frame_equal(table.schema.validate(rows, lazy=True), rows)
        assert not rows.select(table.key).is_duplicated().any()


def test_the_truth_is_what_reviewers_find(tmp_path: Path) -> None:
    """Labels of all reviewed posts agree with their true probabilities, harm by harm and in each tenth."""
    rows = judged(draw(tmp_path / "state", days=40, authors=1500))
    chance = WORLD.judge(HarmWorld.model_validate({**SMALL, "authors": 1500}), 3, START).expected(rows)
    rows = rows.with_columns(chance=pl.Series(chance))
    for name, part in [*((harm, rows.filter(pl.col("harm") == harm)) for harm in HARMS), ("all", rows)]:
        for low, high in ((0, 0.02), (0.02, 0.5), (0.5, 0.9), (0.9, 1.01), (0, 1.01)):
            inside = part.filter((pl.col("chance") >= low) & (pl.col("chance") < high))
            p = inside["chance"].to_numpy()
            surprise = (inside["label"].sum() - p.sum()) / np.sqrt((p * (1 - p)).sum())
            assert abs(surprise) < 4, (name, low, inside.height)


def test_reviewing_by_chance_has_the_propensity_it_says(drawn: dict[str, Log]) -> None:
    shown = drawn["none"]["impressions"]
    quiet = shown.filter(pl.col("propensity") < 1)
    assert quiet.height > 500 and (quiet["decision"] == "review").mean() == pytest.approx(0.5, abs=0.06)
    assert (shown.filter(pl.col("propensity") == 1)["decision"] == "review").all()
    assert (shown.filter(pl.col("reports") >= 2)["propensity"] == 1).all()


def test_reports_so_far_are_those_that_had_come(drawn: dict[str, Log]) -> None:
    log = drawn["none"]
    told = log["actions"].filter(pl.col("action") == "report").select("impression_id", "action_time")
    found = (
        log["impressions"]
        .join(told, on="impression_id")
        .filter(pl.col("action_time") < pl.col("impression_time"))
    )
    counts = found.group_by("impression_id").len("counted")
    both = (
        log["impressions"]
        .join(counts, on="impression_id", how="left")
        .with_columns(pl.col("counted").fill_null(0))
    )
    assert both["counted"].sum() > 50 and (both["counted"] == both["reports"]).all()


def test_all_that_decides_a_label_comes_in_time(drawn: dict[str, Log]) -> None:
    log = drawn["none"]
    done = log["actions"].filter(pl.col("action") != "report")
    times = done.join(log["impressions"].select("impression_id", "impression_time"), on="impression_id")
    late = times["action_time"] - times["impression_time"]
    assert late.min() > timedelta(0) and late.max() < timedelta(days=4)


@pytest.mark.parametrize("name", SHIFTED)
def test_nothing_differs_before_the_day(drawn: dict[str, Log], name: str) -> None:
    before = pl.col("arrived_at") < START + timedelta(days=DAY)
    for table, rows in drawn["none"].items():
        assert_frame_equal(drawn[name][table].filter(before), rows.filter(before))
    told = "actions" if name in ("bots", "label_delay") else "requests"
    assert not drawn[name][told].equals(drawn["none"][told])


@pytest.mark.parametrize("name", ["concept", "concept_gradual"])
def test_evasion_changes_the_words_and_nothing_else(drawn: dict[str, Log], name: str) -> None:
    plain, coded = after(drawn["none"]), after(drawn[name])
    assert_frame_equal(plain.drop("text"), coded.drop("text"))
    world = posts()
    first = {word for row in world.words.strong.reshape(len(HARMS), -1) for word in row}
    secret = set(world.words.coded.ravel().tolist())

    def uses(rows: pl.DataFrame, words: set[str]) -> float:
        known = pl.Series(sorted(words)).implode()
        return float(
            rows["text"]
            .str.to_lowercase()
            .str.split(" ")
            .list.eval(pl.element().is_in(known))
            .list.any()
            .mean()
        )

    assert uses(plain, first) > 0.1 and uses(plain, secret) == 0
    assert uses(coded, secret) > 0.1 and uses(coded, first) < 0.5 * uses(plain, first)
    same = posts(scenario={"name": name, "day": DAY})
    day = world.origin + DAY + 2
    np.testing.assert_array_equal(world.day(day).chance, same.day(day).chance)


def test_the_other_scenarios_change_what_they_should(drawn: dict[str, Log]) -> None:
    plain = after(drawn["none"])
    assert after(drawn["broken_units"])["audience"].mean() > 500 * plain["audience"].mean()
    assert after(drawn["broken_nulls"])["client"].is_null().all()
    flood = after(drawn["flood"])
    assert flood.height > 2 * plain.height
    assert flood["text"].str.contains("http").mean() > 1.5 * plain["text"].str.contains("http").mean()
    arrivals = {name: after(drawn[name], "authors", "registered_at") for name in ("none", "covariate")}
    share = {name: (rows["country"] == "DD").mean() for name, rows in arrivals.items()}
    assert share["covariate"] > 3 * share["none"]
    weekly = (
        drawn["season"]["requests"]
        .group_by(pl.col("request_time").dt.weekday() >= 6)
        .len()
        .sort("request_time")
    )
    assert weekly["len"][1] / 2 > 1.1 * weekly["len"][0] / 6


def test_reviews_may_take_twice_as_long(drawn: dict[str, Log]) -> None:
    """Votes, verdicts and outcomes come later; what they say, and what readers report, stays the same."""
    plain, slow = (drawn[name]["actions"].sort("action_id") for name in ("none", "label_delay"))
    both = plain.join(slow, on="action_id", suffix="_slow")
    both = both.join(drawn["none"]["impressions"], on="impression_id")
    both = both.filter(pl.col("impression_id") >= f"p{START + timedelta(days=DAY):%Y%m%d}")
    reports = both.filter(action="report")
    assert (reports["action_time"] == reports["action_time_slow"]).all()
    votes = both.filter(action="vote")
    once, twice = (
        (votes[time] - votes["impression_time"]).dt.total_microseconds().to_numpy()
        for time in ("action_time", "action_time_slow")
    )
    assert len(once) > 500
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
    assert (both["harms"].fill_null([]) == both["harms_slow"].fill_null([])).all()


def test_the_judge_knows_which_outcomes_come_too_late(tmp_path: Path) -> None:
    """With appeals closed too late for some posts, the verdict stands."""
    log = draw(tmp_path / "state", days=20, authors=1500, scenario={"name": "label_delay", "day": 0})
    done = log["actions"].filter(pl.col("action").is_in(["appeal", "outcome"]))
    done = done.join(log["impressions"].select("impression_id", "impression_time"), on="impression_id")
    done = done.filter(pl.col("impression_time") < START + timedelta(days=13))
    closed = done.filter(action="outcome")
    assert closed.height == done.height / 2 > 50
    late = (closed["action_time"] - closed["impression_time"] >= timedelta(days=4)).mean()
    assert late == pytest.approx(1 - outcome_in_time(2.0), abs=4 * np.sqrt(0.25 / closed.height))
    assert outcome_in_time(1.0) == 1


def test_false_reports_hunt_some_authors(drawn: dict[str, Log]) -> None:
    """Bots send reports; what reviewers would find in a post stays the same."""

    def reports(name: str) -> int:
        return int((after(drawn[name], "actions", "action_time")["action"] == "report").sum())

    assert reports("bots") > 1.3 * reports("none")
    assert_frame_equal(drawn["bots"]["requests"], drawn["none"]["requests"])
    day = posts().origin + DAY + 2
    hunted = posts(scenario={"name": "bots", "day": DAY})
    np.testing.assert_array_equal(posts().day(day).chance, hunted.day(day).chance)


def test_the_best_queue_is_the_best() -> None:
    judge = WORLD.judge(HarmWorld.model_validate(SMALL), 3, START)
    chance = posts().day(posts().origin).chance.sum(axis=1)
    ids = [f"p20260105-{number:06d}" for number in range(len(chance))]
    ordered = pl.DataFrame({"unit": "a", "request_id": ids})[np.argsort(-chance)]
    for rows, share in ((ordered, 1.0), (ordered.reverse(), 0.05)):
        found = judge.best_share(rows, 10).row(0, named=True)
        assert found["best"] == pytest.approx(np.sort(chance)[-10:].sum())
        assert found["reward"] <= share * found["best"] * (1 + 1e-12)
    again = judge.best_share(pl.concat([ordered[:1]] * 10), 10).row(0, named=True)
    assert again["reward"] == pytest.approx(chance.max())


@pytest.mark.parametrize("stranger", ["p20260105-999999", "post", "p20260105-12"])
def test_strangers_are_not_judged(stranger: str) -> None:
    judge = WORLD.judge(HarmWorld.model_validate(SMALL), 3, START)
    with pytest.raises(DataError, match=f"'{stranger}' is no post of this world"):
        judge.expected(pl.DataFrame({"request_id": [stranger], "harm": ["hate"]}))
