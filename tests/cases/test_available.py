"""What was taken down is not shown again, however lately it was shown; else what was shown lately is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines.cases.ad_click.serving import live_ads
from pipelines.cases.video_recommendation.moments import VIDEO_FEATURES
from pipelines.cases.video_recommendation.serving import Live

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
LONG_AGO = NOON - timedelta(days=60)
SHOWN = {"kept": 5, "gone": 5, "quiet": 0, "old": 5, "silent": 0}
UNTIL = {
    "kept": NOON + timedelta(days=1),
    "gone": NOON,
    "quiet": NOON + timedelta(days=1),
    "old": None,
    "silent": None,
}
"""Items that were shown on the last day, or were not; and until when they are available, where that is told."""
MAY_BE_SHOWN = ["kept", "old", "quiet"]


@dataclass(frozen=True)
class Held:
    """A stock of frames."""

    views: Mapping[str, pl.DataFrame]
    tables: Mapping[str, pl.DataFrame]
    moment: datetime = NOON

    def view(self, name: str) -> pl.DataFrame:
        return self.views[name]

    def table(self, name: str) -> pl.DataFrame:
        return self.tables[name]


def catalogue(key: str, time: str, **columns: object) -> pl.DataFrame:
    rows = pl.DataFrame({key: list(SHOWN), "available_until": list(UNTIL.values())})
    return rows.with_columns(pl.lit(LONG_AGO).alias(time), *(pl.lit(v).alias(k) for k, v in columns.items()))


@pytest.mark.parametrize("told", [True, False])
def test_ads(told: bool) -> None:
    ads = catalogue(
        "ad_id", "created_at", campaign_id="c", category="cars", subcategory="1", product="sale", bid=0.5
    )
    counts = pl.DataFrame({"ad_id": list(SHOWN), "ad_impressions_1d": list(SHOWN.values())})
    views = {"ad_clicks": counts, "ad_campaign_clicks": pl.DataFrame({"campaign_id": ["c"]})}
    ads = ads if told else ads.with_columns(available_until=pl.lit(None, pl.Datetime("us", "UTC")))
    live = live_ads(Held(views, {"ads": ads}))
    assert live["ad_id"].to_list() == (MAY_BE_SHOWN if told else ["gone", "kept", "old"])


@pytest.mark.parametrize("told", [True, False])
def test_videos(told: bool) -> None:
    videos = catalogue(
        "video_id",
        "published_at",
        title="Cars",
        creator_id="c",
        language="en",
        duration_seconds=60.0,
        genres=["cars"],
    )
    features = pl.DataFrame({"video_id": list(SHOWN), "video_impressions_1d": list(SHOWN.values())})
    rest = [name for name in VIDEO_FEATURES if name != "video_impressions_1d"]
    profile = pl.DataFrame({"video_id": list(SHOWN)}).with_columns(pl.lit(0.0).alias(name) for name in rest)
    users = pl.DataFrame({"user_id": ["u"], "country": ["US"], "language": ["en"]})
    videos = videos if told else videos.with_columns(available_until=pl.lit(None, pl.Datetime("us", "UTC")))
    stock = Held({"video_popularity": features, "video_profile": profile}, {"videos": videos, "users": users})
    assert Live.of(stock).ids == (MAY_BE_SHOWN if told else ["gone", "kept", "old"])
