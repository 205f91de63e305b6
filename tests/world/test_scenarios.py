"""Each scenario changes what it should, and nothing before its day; `none` changes nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from world_help import QUIET, SMALL, START, Log, draw, labelled

from pipelines.cases.video_recommendation.world import WORLD, VideoWorld, sample_days
from pipelines.world.scenarios import SCENARIOS, Scenario

DAY = 6
DAYS = 12
SHIFTED = sorted(set(SCENARIOS) - {"none", "season"})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Log]:
    folder = tmp_path_factory.mktemp("scenarios")
    return {
        name: draw(
            folder / name, days=DAYS, delivery=QUIET, scenario={"name": name, "day": DAY, "ramp_days": 3}
        )
        for name in SCENARIOS
    }


def _halves(log: Log, table: str, time: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    cut = START + timedelta(days=DAY)
    return log[table].filter(pl.col(time) < cut), log[table].filter(pl.col(time) >= cut)


@pytest.mark.parametrize("name", SHIFTED)
def test_nothing_differs_before_the_day(drawn: dict[str, Log], name: str) -> None:
    cut = START + timedelta(days=DAY)
    differs = False
    for table, rows in drawn["none"].items():
        before = pl.col("arrived_at") < cut
        assert_frame_equal(drawn[name][table].filter(before), rows.filter(before))
        differs |= not drawn[name][table].equals(rows)
    assert differs


def test_a_stationary_world_stays(log: Log) -> None:
    rows = labelled(log).with_columns(week=(pl.col("impression_time") - START).dt.total_days() // 7)
    weekly = rows.group_by("week", "explored").agg(pl.col("label").mean(), pl.len()).sort("explored", "week")
    for explored in (False, True):
        rate = weekly.filter(pl.col("explored") == explored)["label"].to_numpy()
        trend = np.polyfit(np.arange(8), rate / rate.mean(), 1)[0]
        assert abs(trend) < 0.03
        assert abs(rate[:4].mean() / rate[4:].mean() - 1) < 0.12
    volume = weekly.group_by("week").agg(pl.col("len").sum())["len"].to_numpy()
    assert volume.std() / volume.mean() < 0.1


def test_covariate_shift_changes_who_comes_but_not_what_they_like(drawn: dict[str, Log]) -> None:
    before, after = _halves(drawn["covariate"], "users", "registered_at")
    assert (after["country"] == "BR").mean() > 2 * (before["country"] == "BR").mean()
    before, after = _halves(drawn["covariate"], "videos", "published_at")
    assert after["duration_seconds"].mean() < 0.5 * before["duration_seconds"].mean()
    _same_truth(drawn["none"], "covariate", same=True)


@pytest.mark.parametrize("name", ["concept", "concept_gradual"])
def test_concept_shift_changes_what_people_like_but_not_who_comes(drawn: dict[str, Log], name: str) -> None:
    assert_frame_equal(drawn[name]["users"], drawn["none"]["users"])
    assert_frame_equal(drawn[name]["videos"], drawn["none"]["videos"])
    assert_frame_equal(drawn[name]["requests"], drawn["none"]["requests"])
    _same_truth(drawn["none"], name, same=False)


def _same_truth(log: Log, name: str, same: bool) -> None:
    """Judge what the stationary world shows of old users and videos by another's truth."""
    plain = VideoWorld.model_validate({**SMALL, "delivery": QUIET})
    shifted = plain.model_copy(update={"scenario": Scenario(name=name, day=DAY, ramp_days=3)})
    cut = START + timedelta(days=DAY)
    for table, time, key in (("users", "registered_at", "user_id"), ("videos", "published_at", "video_id")):
        old = log[table].filter(pl.col(time) < cut).select(key)
        log = {**log, "impressions": log["impressions"].join(old, on=key, how="semi", maintain_order="left")}
    _, rows = _halves(log, "impressions", "impression_time")
    expected = [WORLD.judge(params, 3, START).expected(rows) for params in (plain, shifted)]
    assert np.allclose(*expected) == same
    if not same:
        assert np.corrcoef(*expected)[0, 1] < 0.8
        assert abs(expected[0].mean() / expected[1].mean() - 1) < 0.5


def test_a_gradual_shift_grows() -> None:
    levels = Scenario(name="concept_gradual", day=6, strength=0.9, ramp_days=3).level(
        "concept_gradual", range(5, 11)
    )
    np.testing.assert_allclose(levels, [0, 0.3, 0.6, 0.9, 0.9, 0.9])
    assert Scenario(name="season").level("season", 0) == 1
    assert Scenario(name="concept").level("flood", 99) == 0


def test_a_flood_brings_many_videos(drawn: dict[str, Log]) -> None:
    before, after = _halves(drawn["flood"], "videos", "published_at")
    fresh = before.filter(pl.col("published_at") >= START)
    assert after.height > 5 * fresh.height
    assert_frame_equal(drawn["flood"]["users"], drawn["none"]["users"])


def test_broken_units_change_the_record_alone(drawn: dict[str, Log]) -> None:
    cut = pl.col("published_at") >= START + timedelta(days=DAY)
    expected = drawn["none"]["videos"].with_columns(
        duration_seconds=pl.when(cut).then(1000 * pl.col("duration_seconds")).otherwise("duration_seconds")
    )
    assert_frame_equal(drawn["broken_units"]["videos"], expected)
    for table in ("users", "requests", "impressions", "actions"):
        assert_frame_equal(drawn["broken_units"][table], drawn["none"][table])


def test_broken_nulls_empty_the_device_alone(drawn: dict[str, Log]) -> None:
    before, after = _halves(drawn["broken_nulls"], "requests", "request_time")
    assert before["device"].null_count() == 0
    assert after["device"].null_count() == after.height
    for table in ("users", "videos", "impressions", "actions"):
        assert_frame_equal(drawn["broken_nulls"][table], drawn["none"][table])


def test_half_the_strength_breaks_half(tmp_path: Path) -> None:
    log = draw(tmp_path, days=3, scenario={"name": "broken_nulls", "day": 0, "strength": 0.5})
    assert log["requests"]["device"].null_count() / log["requests"].height == pytest.approx(0.5, abs=0.1)


def test_bots_visit_all_day_and_act_on_few_creators(drawn: dict[str, Log]) -> None:
    before, after = _halves(drawn["bots"], "requests", "request_time")
    busy = after.group_by("user_id").len().filter(pl.col("len") > 20 * (DAYS - DAY))
    assert before.group_by("user_id").len()["len"].max() < 20 * DAY
    assert busy.height == 2
    clicks = drawn["bots"]["actions"].join(drawn["bots"]["videos"], on="video_id")
    theirs = clicks.join(busy, on="user_id", how="semi")["creator_id"].value_counts(normalize=True, sort=True)
    others = clicks.join(busy, on="user_id", how="anti")["creator_id"].value_counts(normalize=True, sort=True)
    assert theirs["proportion"].head(3).sum() > 2 * others["proportion"].head(3).sum()


def test_the_season_has_a_weekly_rhythm(drawn: dict[str, Log]) -> None:
    weekday = drawn["season"]["requests"].group_by(pl.col("request_time").dt.weekday().alias("day")).len()
    plain = drawn["none"]["requests"].group_by(pl.col("request_time").dt.weekday().alias("day")).len()
    ratio = weekday.join(plain, on="day").with_columns(ratio=pl.col("len") / pl.col("len_right"))
    end, week = (ratio.filter(part)["ratio"].mean() for part in (pl.col("day") >= 6, pl.col("day") < 6))
    assert end > 1.15 * week


def test_an_unknown_scenario_names_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'concept'"):
        Scenario(name="consept")


def test_samples_follow_the_same_truth() -> None:
    params = VideoWorld.model_validate({**SMALL, "scenario": {"name": "broken_units", "day": 3}})
    days = list(sample_days(params, 3, START, 6))
    rows = pl.concat(days)
    np.testing.assert_allclose(WORLD.judge(params, 3, START).expected(rows), rows["prediction"])
    examined = rows["position"].to_numpy() ** -params.position_decay
    assert rows["label"].mean() == pytest.approx((rows["prediction"] * examined).mean(), rel=0.06)
    assert days[2]["duration_seconds"].max() <= 3600 < days[5]["duration_seconds"].max()
    assert_frame_equal(list(sample_days(params, 3, START, 3))[2], days[2])
