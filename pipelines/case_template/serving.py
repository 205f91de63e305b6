"""How a request is answered: the items likeliest to be clicked. Replace: what is asked, and what may be shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipelines.case_study import Answer, Serving, Stock
from pipelines.case_template.features import PRIOR_RATE, PRIOR_STRENGTH
from pipelines.case_template.heuristics import Popularity
from pipelines.case_template.model import ClickModel
from pipelines.case_template.tables import PLACES
from pipelines.errors import DataError
from pipelines.learning.candidates import top_k


class ItemRequest(BaseModel):
    """Somebody asks for items; what the caller does not know of them stays out."""

    model_config = ConfigDict(extra="forbid")

    user_id: str = Field(min_length=1, max_length=128)
    segment: str | None = Field(default=None, max_length=64)


class Scored:
    """Scores every live item for every request; `score` is a model's, or the heuristic's."""

    def __init__(self, score: Callable[[pl.DataFrame], NDArray[np.float64]], stock: Stock) -> None:
        self._score, self._items = score, live_items(stock)
        self._pool = self._items.select("item_id", "kind")

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Answer requests, as if each item stood at the first place."""
        pairs = asked.join(self._items, how="cross", maintain_order="left_right")
        scores = self._score(pairs.with_columns(position=pl.lit(1, pl.Int32)))
        scores = scores.reshape(asked.height, self._items.height)
        ranked = top_k(scores, PLACES)
        return Answer(self._pool, ranked, np.take_along_axis(scores, np.maximum(ranked, 0), axis=1))


def live_items(stock: Stock) -> pl.DataFrame:
    """Take the items that may still be shown, with their features."""
    items = stock.table("items").unique("item_id", keep="first").sort("item_id")
    if items.is_empty():
        raise DataError("the catalogue holds no items: ingest the table `items`")
    live = items.filter((pl.col("available_until") > pl.lit(stock.moment)).fill_null(True))
    shown = (live if live.height >= PLACES else items).select("item_id", "kind")
    history = stock.view("example_case_item")
    return shown.join(history, on="item_id", how="left", maintain_order="left")


def ready(model: ClickModel, stock: Stock) -> Scored:
    """Let a model score the live items."""
    return Scored(model.predict, stock)


def fallback(stock: Stock) -> Scored:
    """Order the live items by their popularity."""
    return Scored(Popularity(PRIOR_RATE, PRIOR_STRENGTH).predict, stock)


SERVING = Serving(
    request=ItemRequest,
    actions=("click",),
    places=PLACES,
    own=("example_case_user",),
    views=("example_case_item",),
    tables=("items",),
    ready=ready,
    fallback=fallback,
)
