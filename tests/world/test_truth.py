"""The log agrees with the judge: frequencies, propensities, and the best slate."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2, norm
from world_help import SMALL, START, Log, draw, labelled

from pipelines.cases.video_recommendation.world import WORLD, Videos, VideoWorld
from pipelines.errors import DataError
from pipelines.world.judge import WorldJudge
from pipelines.world.policy import draw_without_replacement
from pipelines.world.state import world_day
from pipelines.world.streams import DAY

PARAMS = VideoWorld.model_validate({**SMALL, "burn_in_days": 16})


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    return WORLD.judge(PARAMS, 3, START)  # type: ignore[return-value]


def _chances(log: Log, judge: WorldJudge) -> pl.DataFrame:
    rows = labelled(log)
    examined = rows["position"].to_numpy() ** -PARAMS.position_decay
    return rows.with_columns(relevance=judge.expected(rows), p=judge.expected(rows) * examined)


def test_labels_come_as_often_as_the_judge_says(log: Log, judge: WorldJudge) -> None:
    rows = _chances(log, judge).filter(pl.col("impression_time") < START + pl.duration(days=54))
    twentieth = (pl.col("p").rank("ordinal") * 20 // (pl.len() + 1)).alias("twentieth")
    for by in (twentieth, pl.col("position"), pl.col("explored")):
        bins = rows.group_by(by.alias("bin")).agg(
            pl.col("label").sum(), pl.col("p").sum(), variance=(pl.col("p") * (1 - pl.col("p"))).sum()
        )
        statistic = ((bins["label"] - bins["p"]) ** 2 / bins["variance"]).sum()
        assert chi2.sf(statistic, bins.height) > 0.001, by


def test_a_judge_without_the_latents_would_be_found_out(log: Log, judge: WorldJudge) -> None:
    rows = _chances(log, judge)
    wrong = rows["p"] * 1.05
    z = (rows["label"].sum() - wrong.sum()) / np.sqrt((wrong * (1 - wrong)).sum())
    assert 2 * norm.sf(abs(z)) < 0.001


def test_late_watches_are_as_rare_as_the_judge_says(log: Log) -> None:
    world = Videos(PARAMS, 3, world_day(START))
    half = log["actions"].filter((pl.col("action") == "watch") & (pl.col("value") >= 0.5))
    half = half.join(labelled(log).select("impression_id", "impression_time", "label"), on="impression_id")
    half = half.filter(pl.col("impression_time") < START + pl.duration(days=50))
    actors, items = (
        world.actors.find(half["user_id"], world.origin + 56),
        world.items.find(half["video_id"], world.origin + 56),
    )
    time = half["impression_time"].dt.epoch("us").to_numpy()
    click, seen = world.chances(actors, items, time)
    late = 1 - world.relevance(actors, items, time) / (click * seen)
    assert abs((half["label"] == 0).sum() - late.sum()) < 3 * np.sqrt(late.sum())
    assert late.sum() > 50


def test_the_judge_needs_only_params_seed_and_start(log: Log, judge: WorldJudge) -> None:
    rows = log["impressions"].sample(500, seed=1, shuffle=True)
    np.testing.assert_array_equal(judge.expected(rows), WORLD.judge(PARAMS, 3, START).expected(rows))
    assert not np.allclose(judge.expected(rows), WORLD.judge(PARAMS, 3, START).expected(rows.reverse()))


def test_strangers_are_refused(log: Log, judge: WorldJudge) -> None:
    rows = log["impressions"].head(3)
    with pytest.raises(DataError, match="'somebody'"):
        judge.expected(rows.with_columns(user_id=pl.lit("somebody")))
    with pytest.raises(DataError, match="impression_time"):
        judge.expected(rows.drop("impression_time"))
    for asked in (judge, WORLD.judge(PARAMS, 3, START)):  # one that has judged before, and a new one
        assert asked.expected(rows.clear()).shape == (0,)
    assert judge.best_share(rows.clear(), 3).columns == ["unit", "reward", "best"]


def test_propensities_are_those_of_the_mixed_policy(log: Log) -> None:
    rows = log["impressions"].with_columns(day=pl.col("request_id").str.slice(1, 8))
    explored, popular = rows.filter("explored"), rows.filter(~pl.col("explored"))
    assert explored["request_id"].n_unique() / rows["request_id"].n_unique() == pytest.approx(0.1, abs=0.015)
    assert rows.group_by("request_id").agg(pl.col("explored").n_unique())["explored"].max() == 1
    floor = rows.group_by("day").agg(floor=pl.col("propensity").min())
    exact = popular.join(floor, on="day").select(excess=pl.col("propensity") - pl.col("floor"))
    np.testing.assert_allclose(exact["excess"], 0.9, atol=1e-12)
    assert explored["video_id"].n_unique() > 0.95 * log["videos"].height
    counts = explored.filter(pl.col("day") == "20260120").height
    assert counts > 0


def test_weighting_by_propensity_finds_the_uniform_policy(log: Log, judge: WorldJudge) -> None:
    """Inverse-propensity estimates over ALL rows agree with the truth of a policy that never ran alone."""
    world = Videos(PARAMS, 3, world_day(START))
    rows = labelled(log).with_columns(day=pl.col("impression_time").dt.epoch("d"))
    live = {day: len(world.items.settled(day)) for day in rows["day"].unique()}
    weights = 1 / rows["day"].replace_strict(live, return_dtype=pl.Float64) / rows["propensity"]
    requests = rows.with_columns(value=weights * pl.col("label")).group_by("request_id", maintain_order=True)
    requests = requests.agg(pl.col("user_id", "impression_time", "day").first(), pl.col("value").sum())
    truth = [_uniform(world, part, PARAMS) for _, part in requests.group_by("day", maintain_order=True)]
    error = requests["value"].std() / np.sqrt(requests.height)
    assert abs(requests["value"].mean() - np.concatenate(truth).mean()) < 3 * error
    assert abs(rows["label"].sum() / requests.height - np.concatenate(truth).mean()) > 5 * error


def _uniform(world: Videos, requests: pl.DataFrame, params: VideoWorld) -> np.ndarray:
    actors = world.actors.find(requests["user_id"], int(requests["day"][0]) + 1)
    time = requests["impression_time"].dt.epoch("us").to_numpy()
    relevance = world.relevance(actors, world.items.settled(int(requests["day"][0])), time, grid=True)
    places = np.arange(1, params.slate + 1) ** -params.position_decay
    return relevance.mean(axis=1) * places.sum()


def test_the_best_slate_is_the_best_of_all(tmp_path: Path) -> None:
    """Enumerate every slate of three from a tiny catalogue."""
    tiny = {"videos": 10, "shelf_days": 5, "slate": 3, "users": 40}
    log = draw(tmp_path, days=2, **tiny)
    params = VideoWorld.model_validate({**SMALL, **tiny})
    judge = WORLD.judge(params, 3, START)
    rows = log["impressions"].drop_nulls("user_id").unique("impression_id").sort("request_id", "position")
    rows = rows.filter(pl.len().over("request_id") == 3)
    found = judge.best_share(rows, 3)
    assert found["unit"].to_list() == rows["request_id"].unique(maintain_order=True).to_list()
    world = Videos(params, 3, world_day(START))
    for request, slate in rows.head(90).group_by("request_id", maintain_order=True):
        time = slate["impression_time"].dt.epoch("us").to_numpy()
        live = world.items.names(world.items.settled(int(time[0] // DAY)))
        every = np.array(list(permutations(live.to_list(), 3)))
        asked = pl.DataFrame({"user_id": [slate["user_id"][0]] * every.size, "video_id": every.ravel()})
        asked = asked.with_columns(impression_time=pl.lit(slate["impression_time"][0]))
        places = np.arange(1, 4) ** -params.position_decay
        rewards = judge.expected(asked).reshape(every.shape) @ places
        row = found.row(by_predicate=pl.col("unit") == request[0], named=True)
        assert row["best"] == pytest.approx(rewards.max())
        shown = (every == slate["video_id"].to_numpy()).all(axis=1)
        assert row["reward"] == pytest.approx(rewards[shown].item())


def test_what_is_not_live_earns_nothing_nor_twice(log: Log, judge: WorldJudge) -> None:
    slate = (
        log["impressions"].filter(pl.col("request_id") == log["requests"]["request_id"][500]).sort("position")
    )
    first = pl.col("position") == 1

    def lead_with(video: str) -> float:
        led = slate.with_columns(video_id=pl.when(first).then(pl.lit(video)).otherwise("video_id"))
        return float(judge.best_share(led, 10)["reward"][0])

    whole = judge.best_share(slate, 10)["reward"][0]
    gone = log["videos"].sort("published_at")["video_id"][0]
    without = whole - judge.expected(slate.head(1))[0]
    assert lead_with(gone) == pytest.approx(without)
    moved = judge.expected(slate[1:2])[0] * (1 - 2**-PARAMS.position_decay)
    assert lead_with(slate["video_id"][1]) == pytest.approx(without + moved)


def test_uniform_draws_are_uniform() -> None:
    drawn = draw_without_replacement(20_000, 3, 5, np.random.default_rng(0))
    assert (np.sort(drawn, axis=1)[:, 1:] > np.sort(drawn, axis=1)[:, :-1]).all()
    _, counts = np.unique(drawn @ [25, 5, 1], return_counts=True)
    assert len(counts) == 60
    statistic = ((counts - 20_000 / 60) ** 2 / (20_000 / 60)).sum()
    assert chi2.sf(statistic, 59) > 0.001
