"""Service features as they stood at a moment, of users and of videos apart.

The feature store joins a row of user and video. Asked for users and videos apart, it sends each of them
once; their pairs are made here, where hundreds of candidates cost nothing.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from pipelines.case_study import Dataset
from pipelines.cases.video_recommendation.interactions import PROFILE
from pipelines.cases.video_recommendation.pairs import USER_COLUMNS, VIDEO_COLUMNS

NOBODY = ""
USER_FEATURES = (*USER_COLUMNS, "user_last_active", "recent_videos", "recent_values", "recent_times")
VIDEO_FEATURES = (*VIDEO_COLUMNS, "video_first_seen", *PROFILE)


def user_moments(dataset: Dataset, asked: pl.DataFrame) -> pl.DataFrame:
    """Join the user features to rows of user_id and time; rows and their order are kept."""
    rows = asked.with_columns(video_id=pl.lit(NOBODY))
    return dataset.historical(rows, "time").select(*asked.columns, *USER_FEATURES)


def video_moments(dataset: Dataset, videos: pl.Series, moment: datetime) -> pl.DataFrame:
    """Return video_id and the video features as they stood at a moment."""
    rows = pl.DataFrame({"video_id": videos}).with_columns(
        user_id=pl.lit(NOBODY), time=pl.lit(moment).cast(pl.Datetime("us", "UTC"))
    )
    return dataset.historical(rows, "time").select("video_id", *VIDEO_FEATURES)
