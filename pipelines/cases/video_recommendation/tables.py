"""The tables of video recommendation."""

from __future__ import annotations

from typing import Optional

import pandera.polars as pa
import polars as pl

from pipelines.case_study import Table
from pipelines.stores.schemas import Actions, Impressions, Requests, Rows, Utc


class Users(Rows):
    """People, as they registered."""

    user_id: str = pa.Field(str_length={"min_value": 1})
    registered_at: Utc
    country: str = pa.Field(nullable=True)
    language: str = pa.Field(nullable=True)


class Videos(Rows):
    """The catalogue; `published_at` is null where a publisher does not tell it.

    `available_until` says when a video is taken down; null, or left out, where nobody can tell.
    """

    video_id: str = pa.Field(str_length={"min_value": 1})
    published_at: Utc = pa.Field(nullable=True)
    title: str = pa.Field(nullable=True)
    creator_id: str = pa.Field(nullable=True)
    genres: pl.List = pa.Field(nullable=True, dtype_kwargs={"inner": pl.String})
    language: str = pa.Field(nullable=True)
    duration_seconds: float = pa.Field(nullable=True, gt=0)
    available_until: Optional[Utc] = pa.Field(nullable=True)  # noqa: UP045  # pandera reads "may be absent" from Optional


class VideoRequests(Requests):
    """A user opens the home page."""

    user_id: str
    device: str = pa.Field(nullable=True)


class VideoImpressions(Impressions):
    """A video shown in a slate; `explored` where the slate was drawn uniformly at random."""

    user_id: str
    video_id: str
    explored: bool = pa.Field(nullable=True)


class VideoActions(Actions):
    """A click, a watch (value: share of the video seen), a like, or a rating (value: the rating)."""

    action: str = pa.Field(isin=["click", "watch", "like", "rate"])
    user_id: str
    video_id: str


TABLES = (
    Table("users", ("user_id",), "registered_at", Users),
    Table("videos", ("video_id",), "published_at", Videos),
    Table("requests", ("request_id",), "request_time", VideoRequests),
    Table("impressions", ("impression_id",), "impression_time", VideoImpressions),
    Table("actions", ("action_id",), "action_time", VideoActions),
)
