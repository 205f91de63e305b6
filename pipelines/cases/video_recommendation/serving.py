"""How a request is answered: candidates from what is live, scored and re-ranked in process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipelines.case_study import Answer, Serving, Stock
from pipelines.cases.video_recommendation.interactions import (
    codes,
    day_of,
    described,
    served_histories,
)
from pipelines.cases.video_recommendation.model import VideoModel
from pipelines.cases.video_recommendation.moments import VIDEO_FEATURES
from pipelines.cases.video_recommendation.pairs import Requests, Scorer, Shelf, chunks, devices, own_columns
from pipelines.learning.candidates import top_k

PLACES = 10
LIVE_DAYS = 2.0
RATE, SHOWN = "video_watch_rate_7d", "video_impressions_1d"


class VideoRequest(BaseModel):
    """A user opens the home page."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=128)
    device: str | None = Field(default=None, max_length=32)


@dataclass(frozen=True)
class Live:
    """What may be shown at a moment: the live videos (sorted by id), their features, and the people."""

    day: float
    catalogue: pl.DataFrame
    features: pl.DataFrame
    users: pl.DataFrame

    @property
    def ids(self) -> list[str]:
        found: list[str] = self.catalogue["video_id"].to_list()
        return found

    @classmethod
    def of(cls, stock: Stock) -> Live:
        """Take the videos that may be shown; all, where there are none.

        Where nobody told until when that is: those that were shown on the last day, or just published.
        """
        counts, profile = stock.view("video_popularity"), stock.view("video_profile")
        features = profile.join(counts, on="video_id", how="full", coalesce=True).select(
            "video_id", *VIDEO_FEATURES
        )
        videos = stock.table("videos").unique("video_id", keep="first").sort("video_id")
        catalogue = described(videos)
        day = day_of(stock.moment)
        lately = features.filter(pl.col(SHOWN) > 0)["video_id"]
        fresh = pl.col("published_at") >= (day - LIVE_DAYS) * 86_400.0
        inferred = pl.col("video_id").is_in(lately.implode()) | fresh.fill_null(False)
        told = videos.select(pl.col("available_until") > pl.lit(stock.moment)).to_series()
        live = catalogue.filter(pl.lit(told).fill_null(inferred))
        users = stock.table("users").select("user_id", user_country="country", user_language="language")
        return cls(
            day,
            live if live.height else catalogue,
            features.unique("video_id", keep="first").sort("video_id"),
            users.unique("user_id", keep="first").sort("user_id"),
        )


class ModelAnswers:
    """The model over what is live: everything that does not depend on a request is laid out once."""

    def __init__(self, model: VideoModel, stock: Stock) -> None:
        self.model, self.live = model, Live.of(stock)
        self.pool = self.live.catalogue.select("video_id")
        self.stage = model.stage.extended(self.live.catalogue)
        self.ids = self.stage.ids
        self.shelf = Shelf.at(self.stage, self.live.day, self.live.features)
        self.index = dict(zip(self.ids, range(len(self.ids)), strict=True))
        place = codes(self.live.catalogue["video_id"], self.index)
        self.open = np.zeros(len(self.ids), dtype=bool)
        self.open[place] = True
        self.back = np.full(len(self.ids) + 1, -1, dtype=np.int64)
        self.back[place] = np.arange(len(place))
        users = self.live.users
        self.people = dict(zip(users["user_id"], range(users.height), strict=True))
        # Whoever is not known has place -1: the last row.
        self.words = np.vstack([self.stage.encoder.words(users), np.full(3, -1)])

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Answer requests with the model's own order; what a user watched before is left out."""
        requests = self._requests(asked)
        ranked = np.full((len(requests), PLACES), -1, dtype=np.int64)
        scores = np.full((len(requests), PLACES), np.nan)
        for low, high, part in chunks(requests, len(self.ids)):
            allowed = np.broadcast_to(self.open, (high - low, len(self.open))).copy()
            allowed[part.histories.rows(), part.histories.items] = False
            items, scores[low:high] = self.model.ranked(Scorer(self.shelf, part), allowed, PLACES)
            ranked[low:high] = self.back[items]
        return Answer(self.pool, ranked, scores)

    def _requests(self, asked: pl.DataFrame) -> Requests:
        now = _days(asked)
        words = self.words[codes(asked["user_id"], self.people)]
        return Requests(
            own_columns(asked, now),
            np.column_stack([words, devices(self.stage.encoder, asked)]),
            served_histories(asked, self.index, now),
        )


class PopularAnswers:
    """The heuristic: the best received of what is live, for everybody alike but for what they watched."""

    def __init__(self, stock: Stock) -> None:
        self.live = Live.of(stock)
        self.pool = self.live.catalogue.select("video_id")
        columns = self.pool.join(self.live.features, on="video_id", how="left", maintain_order="left")
        self.score: NDArray[np.float64] = columns[RATE].cast(pl.Float64).fill_null(0.0).to_numpy()

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Answer requests by watch rate."""
        histories = served_histories(asked, self.live.ids, _days(asked))
        scores = np.broadcast_to(self.score, (asked.height, len(self.score))).copy()
        scores[histories.rows(), histories.items] = -np.inf
        ranked = top_k(scores, PLACES)
        given = np.where(ranked >= 0, np.take_along_axis(scores, np.maximum(ranked, 0), axis=1), np.nan)
        return Answer(self.pool, ranked, given)


def _days(asked: pl.DataFrame) -> NDArray[np.float64]:
    """Return when each request came, in UTC days since 1970."""
    return asked["time"].cast(pl.Int64).to_numpy() / 86_400e6


SERVING = Serving(
    request=VideoRequest,
    actions=("click", "watch", "like"),
    places=PLACES,
    own=("user_activity", "user_history"),
    views=("video_popularity", "video_profile"),
    tables=("videos", "users"),
    ready=ModelAnswers,
    fallback=PopularAnswers,
)
