"""The world of ad clicks: its log follows its truth, the judge knows it, and each scenario does what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipelines.cases.ad_click.world import WORLD, Ads, AdWorld
from pipelines.world.scenarios import SCENARIOS
from pipelines.world.state import world_day

START = datetime(2026, 1, 5, tzinfo=UTC)
SMALL = {"users": 400, "ads": 60, "longest_days": 10, "burn_in_days": 4, "tenure_days": 20}
QUIET = {"late_share": 0, "duplicate_share": 0, "malformed_share": 0}
SEED, DAY, DAYS = 3, 6, 12

Log = dict[str, pl.DataFrame]


def draw(folder: Path, days: int = DAYS, start: datetime = START, **changes: object) -> Log:
    tables: dict[str, list[pl.DataFrame]] = {}
    params = AdWorld.model_validate({**SMALL, "delivery": QUIET, **changes})
    for batch in WORLD.rows(params, SEED, start, days, folder):
        tables.setdefault(batch.table, []).append(batch.rows)
    return {table: pl.concat(rows) for table, rows in tables.items()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Log]:
    folder = tmp_path_factory.mktemp("scenarios")
    return {
        name: draw(folder / name, scenario={"name": name, "day": DAY, "ramp_days": 3}) for name in SCENARIOS
    }


def clicked(log: Log) -> np.ndarray:
    """Say for each impression whether it was clicked within an hour."""
    clicks = log["actions"].select("impression_id", "action_time")
    rows = log["impressions"].join(clicks, on="impression_id", how="left", maintain_order="left")
    soon = pl.col("action_time") - pl.col("impression_time") < pl.duration(hours=1)
    return rows.select(soon.fill_null(False)).to_series().cast(pl.Float64).to_numpy()


def judge(**changes: object):
    return WORLD.judge(AdWorld.model_validate({**SMALL, "delivery": QUIET, **changes}), SEED, START)


def test_the_judge_knows_the_chance_of_every_impression(drawn: dict[str, Log]) -> None:
    log = drawn["none"]
    expected, labels = judge().expected(log["impressions"]), clicked(log)
    assert 0.03 < labels.mean() < 0.12
    for low, high in ((0, 0.03), (0.03, 0.08), (0.08, 0.2), (0.2, 1)):
        inside = (expected >= low) & (expected < high)
        error = 4 * np.sqrt(0.25 * expected[inside].mean() / inside.sum())
        assert labels[inside].mean() == pytest.approx(expected[inside].mean(), abs=error)
    for position in (1, 2, 3):
        there = (log["impressions"]["position"] == position).to_numpy()
        assert labels[there].mean() == pytest.approx(expected[there].mean(), rel=0.15)


def test_the_page_of_a_request_is_known_again(drawn: dict[str, Log]) -> None:
    requests = drawn["none"]["requests"]
    world = Ads(AdWorld.model_validate(SMALL), SEED, world_day(START))
    actors = world.actors.find(requests["user_id"], world_day(START) + DAYS)
    _, site = world.page(actors, requests["request_time"].dt.epoch("us").to_numpy())
    assert requests["site"].to_list() == [f"site{each}" for each in site]
    share = requests["site"].value_counts(normalize=True)["proportion"]
    assert share.max() < 0.5 and len(share) == 12
    hourly = requests.group_by("user_id", pl.col("request_time").dt.truncate("1h")).agg(
        pl.col("device").n_unique()
    )
    assert hourly["device"].max() == 1, "one device an hour"


def test_an_ad_that_is_shown_late_is_judged_on_the_page_that_asked(drawn: dict[str, Log]) -> None:
    log = drawn["none"]
    rows = log["impressions"].join(log["requests"].select("request_id", "device", "site"), on="request_id")
    truth = judge().expected(rows.drop("device", "site"))
    np.testing.assert_array_equal(judge().expected(rows), truth)
    np.testing.assert_array_equal(judge().expected(rows.with_columns(device=pl.lit(None, pl.String))), truth)
    late = rows.head(2000).with_columns(pl.col("impression_time").dt.offset_by("7m"))
    known, guessed = judge().expected(late), judge().expected(late.drop("device", "site"))
    near = np.isclose(known, truth[:2000], rtol=0.02)
    assert near.mean() > 0.95, "but for those whose evening began meanwhile"
    assert np.isclose(guessed, truth[:2000], rtol=0.02).mean() < 0.5


def test_the_best_page_is_found(drawn: dict[str, Log]) -> None:
    """Against every page that could have been made of a small catalogue."""
    params = {"ads": 8, "users": 60}
    truth = judge(**params)
    world = Ads(AdWorld.model_validate({**SMALL, **params}), SEED, world_day(START))
    day = world_day(START) + 3
    user, live = world.actors.alive(day)[:1], world.items.settled(day)[:40]
    time = np.full(1, (day * 86_400 + 40_000) * 1_000_000)
    chance = world.relevance(user, live, time, grid=True)[0]
    examined = world.examination(np.repeat(user, 3), np.arange(1, 4))
    wanted = max(chance[list(page)] @ examined for page in permutations(range(len(live)), 3))
    shown = pl.DataFrame(
        {
            "request_id": ["r"] * 3,
            "user_id": [world.actors.names(user)[0]] * 3,
            "ad_id": world.items.names(live[:3]),
            "impression_time": pl.Series(np.repeat(time, 3)).cast(pl.Datetime("us", "UTC")),
            "position": [1, 2, 3],
        }
    )
    found = truth.best_share(shown, 3).row(0, named=True)
    assert found["best"] == pytest.approx(wanted)
    assert found["reward"] == pytest.approx(truth.expected(shown).sum())


def test_propensities_tell_how_often_an_ad_was_shown(drawn: dict[str, Log]) -> None:
    shown = drawn["none"]["impressions"]
    assert shown["explored"].mean() == pytest.approx(0.1, abs=0.02)
    assert (shown.filter(~pl.col("explored"))["propensity"] > 0.9).all()
    assert shown["propensity"].is_between(0, 1, closed="right").all()


def test_days_come_out_alike_at_once_or_one_by_one(tmp_path: Path, drawn: dict[str, Log]) -> None:
    parts = [draw(tmp_path / "one", 1, START + timedelta(days=day)) for day in range(3)]
    for name in ("impressions", "actions", "ads"):
        rows = pl.concat([part[name] for part in parts])
        assert_frame_equal(rows, drawn["none"][name].head(rows.height))


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - {"none", "season"}))
def test_nothing_differs_before_the_day(drawn: dict[str, Log], name: str) -> None:
    before = pl.col("arrived_at") < START + timedelta(days=DAY)
    for table, rows in drawn["none"].items():
        assert_frame_equal(drawn[name][table].filter(before), rows.filter(before))
    assert any(not drawn[name][table].equals(rows) for table, rows in drawn["none"].items())


def halves(log: Log, table: str, time: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    cut = START + timedelta(days=DAY)
    return log[table].filter(pl.col(time) < cut), log[table].filter(pl.col(time) >= cut)


def test_each_scenario_does_what_it_says(drawn: dict[str, Log]) -> None:
    before, after = halves(drawn["broken_units"], "ads", "created_at")
    assert before["bid"].max() < 20 < after["bid"].min()
    before, after = halves(drawn["broken_nulls"], "requests", "request_time")
    assert before["device"].null_count() == 0 and after["device"].null_count() == after.height
    flood, calm = (halves(drawn[name], "ads", "created_at")[1].height for name in ("flood", "none"))
    assert flood > 4 * calm
    bots, calm = (halves(drawn[name], "requests", "request_time")[1].height for name in ("bots", "none"))
    assert bots > 1.08 * calm
    shifted, calm = (
        halves(drawn[name], "ads", "created_at")[1]["category"] for name in ("covariate", "none")
    )
    few = ["games", "fashion", "travel"]
    assert shifted.is_in(few).mean() > calm.is_in(few).mean() + 0.15


@pytest.mark.parametrize("name", ["covariate", "concept", "concept_gradual"])
def test_only_a_concept_shift_changes_what_people_like(drawn: dict[str, Log], name: str) -> None:
    rows = drawn["none"]["impressions"].filter(pl.col("impression_time") >= START + timedelta(days=10))
    known = rows.filter(pl.col("user_id") < "u20260110", pl.col("ad_id") < "a20260110")
    truth = judge().expected(known)
    shifted = judge(scenario={"name": name, "day": DAY, "ramp_days": 3}).expected(known)
    same = np.allclose(truth, shifted)
    assert same == (name == "covariate")
