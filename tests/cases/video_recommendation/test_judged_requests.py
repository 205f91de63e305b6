"""Which explored requests are judged, where there are more than can be."""

from __future__ import annotations

import polars as pl
import pytest

from pipelines.cases.video_recommendation import logged


def test_requests_of_all_days_are_judged_though_ids_tell_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged, "MOST_REQUESTS", 200)
    ids = [f"r202602{day:02d}-{number:04d}" for day in range(1, 11) for number in range(100)]
    found = logged.draw_requests(pl.Series([*ids, *ids]), seed=3)
    assert len(found) == 200 == found.n_unique()
    days = found.str.slice(1, 8).value_counts()
    assert days.height == 10 and days["count"].min() > 5
    assert found.equals(logged.draw_requests(pl.Series(ids[::-1]), seed=3)), (
        "the order of rows decides nothing"
    )
    assert not found.equals(logged.draw_requests(pl.Series(ids), seed=4))
    assert len(logged.draw_requests(pl.Series(ids[:150]), seed=3)) == 150
