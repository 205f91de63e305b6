"""How a page's request for ads is answered: every live ad with its probability of a click, the likeliest first.

The auction that multiplies by bids is the caller's: it needs the probabilities, which stand in the reply.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipelines.case_study import Answer, Serving, Stock
from pipelines.cases.ad_click.heuristics import AdHistory
from pipelines.cases.ad_click.label import AD_CONTEXT
from pipelines.cases.ad_click.model import ClickModel
from pipelines.errors import DataError
from pipelines.learning.candidates import top_k

PLACES = 3
LIVE_DAYS = 2
PRIOR_RATE, PRIOR_STRENGTH = 0.05, 20.0
Word = Field(default=None, max_length=64)


class PageRequest(BaseModel):
    """A page asks for ads; what the caller does not know of the user stays out."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=128)
    device: str | None = Word
    site: str | None = Word
    audience: str | None = Word
    gender: str | None = Word
    age: str | None = Word
    city_level: str | None = Word
    depth: str | None = Word
    trait_0: str | None = Word
    trait_1: str | None = Word
    trait_2: str | None = Word
    trait_3: str | None = Word


class Scored:
    """Scores every live ad for every request; `score` is a model's, or the heuristic's."""

    def __init__(self, score: Callable[[pl.DataFrame], NDArray[np.float64]], stock: Stock) -> None:
        self._score, self._interests = score, stock.view("ad_interest_clicks")
        self.ads = live_ads(stock)
        self.pool = self.ads.select("ad_id", "campaign_id", "category")

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Answer requests, as if each ad stood at the first place."""
        pairs = asked.join(self.ads, how="cross", maintain_order="left_right")
        pairs = pairs.join(self._interests, on=["user_id", "category"], how="left", maintain_order="left")
        rows = pairs.with_columns(position=pl.lit(1, pl.Int32), affinity=pl.lit(None, pl.Float64))
        scores = self._score(rows).reshape(asked.height, self.ads.height)
        ranked = top_k(scores, PLACES)
        return Answer(self.pool, ranked, np.take_along_axis(scores, np.maximum(ranked, 0), axis=1))


def live_ads(stock: Stock) -> pl.DataFrame:
    """Take the ads that may be shown, with their and their campaigns' features.

    Where nobody told until when that is: those that were shown on the last day, or are new.
    """
    ads = stock.table("ads").unique("ad_id", keep="first").sort("ad_id")
    if ads.is_empty():
        raise DataError("the catalogue holds no ads: ingest the table `ads`")
    seen = ads.select("ad_id", "campaign_id", "category", *AD_CONTEXT, "created_at", "available_until")
    seen = seen.join(stock.view("ad_clicks"), on="ad_id", how="left", maintain_order="left")
    seen = seen.join(stock.view("ad_campaign_clicks"), on="campaign_id", how="left", maintain_order="left")
    new = pl.col("created_at") >= pl.lit(stock.moment) - pl.duration(days=LIVE_DAYS)
    lately = (pl.col("ad_impressions_1d") > 0).fill_null(False) | new.fill_null(False)
    live = seen.filter((pl.col("available_until") > pl.lit(stock.moment)).fill_null(lately))
    return (live if live.height >= PLACES else seen).drop("created_at", "available_until")


def ready(model: ClickModel, stock: Stock) -> Scored:
    """Let a model score the live ads."""
    return Scored(model.predict, stock)


def fallback(stock: Stock) -> Scored:
    """Order the live ads by their own history."""
    return Scored(AdHistory(PRIOR_RATE, PRIOR_STRENGTH).predict, stock)


SERVING = Serving(
    request=PageRequest,
    actions=("click",),
    places=PLACES,
    own=("ad_user_clicks",),
    views=("ad_clicks", "ad_campaign_clicks", "ad_interest_clicks"),
    tables=("ads",),
    ready=ready,
    fallback=fallback,
)
