"""Where labels take twice as long, people do the same, later; and the judge knows how much comes too late."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from world_help import QUIET, SMALL, START, draw, labelled

from pipelines.cases.video_recommendation.world import Videos, VideoWorld
from pipelines.world.state import world_day

SLOW = {"scenario": {"name": "label_delay", "day": 0}, "delivery": QUIET, "position_decay": 0.0}


def test_clicks_come_twice_as_late(tmp_path: Path) -> None:
    once = draw(tmp_path / "once", days=1, delivery=QUIET, position_decay=0.0)
    twice = draw(tmp_path / "twice", days=1, **SLOW)
    assert twice["impressions"].equals(once["impressions"])
    waited = []
    for log in (once, twice):
        clicks = log["actions"].filter(action="click").join(log["impressions"], on="impression_id")
        delay = (pl.col("action_time") - pl.col("impression_time")).dt.total_microseconds()
        waited.append(clicks.select("impression_id", delay=delay))
    both = waited[0].join(waited[1], on="impression_id")
    assert both.height > 100
    ratio = both["delay_right"] / both["delay"]
    assert ratio.to_numpy() == pytest.approx(np.full(both.height, 2.0), rel=1e-3)


def test_the_judge_knows_what_comes_too_late(tmp_path: Path) -> None:
    log = draw(tmp_path, days=25, **SLOW)
    world = Videos(VideoWorld.model_validate({**SMALL, **SLOW}), 3, world_day(START))
    half = log["actions"].filter((pl.col("action") == "watch") & (pl.col("value") >= 0.5))
    half = half.join(labelled(log).select("impression_id", "impression_time", "label"), on="impression_id")
    half = half.filter(pl.col("impression_time") < START + timedelta(days=20))
    until = world.origin + 25
    actors, items = world.actors.find(half["user_id"], until), world.items.find(half["video_id"], until)
    time = half["impression_time"].dt.epoch("us").to_numpy()
    click, seen = world.chances(actors, items, time)
    late = 1 - world.relevance(actors, items, time) / (click * seen)
    assert late.sum() > 100 and late.min() > 0.015
    assert abs((half["label"] == 0).sum() - late.sum()) < 3 * np.sqrt(late.sum())
