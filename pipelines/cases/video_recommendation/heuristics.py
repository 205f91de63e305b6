"""What a model has to beat: the most watched, the most watched lately, and what similar watchers watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset
from pipelines.cases.video_recommendation.fit_retrieval import watched_matrix
from pipelines.cases.video_recommendation.interactions import (
    Histories,
    codes,
    day_of,
    read_catalogue,
    read_watches,
    rows_histories,
    served_histories,
)
from pipelines.cases.video_recommendation.pairs import chunk_size
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.questions import Questions
from pipelines.learning.candidates import top_k
from pipelines.learning.item_knn import neighbours

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SHOWN = "video_impressions_7d"
TIE = 1e-6
"""Ties of the main score go to the more watched, then to the lower id."""


@dataclass(frozen=True)
class Popularity:
    """Scores videos by watches: the fitted counts, or the service's fresher ones where they are more.

    `column` is the service's count; `fresh_only` tells that it replaces the fitted counts, as of a
    window that moves on. `rate_column`, where given, takes their place where impressions are logged:
    watches for each time shown.
    """

    ids: list[str]
    counts: Floats
    total: Floats
    column: str
    fresh_only: bool
    rate_column: str | None = None

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Score feature rows, shape (n,)."""
        return self._scores(rows["video_id"], rows)

    def retrieve(self, asked: Questions, k: int) -> Ints:
        """Name the k most popular videos that a request's user has not seen; -1 for none."""
        videos = asked.catalogue.select("video_id")
        if asked.videos is not None:
            known = asked.videos.select("video_id", SHOWN, *self._columns())
            videos = videos.join(known, on="video_id", how="left", maintain_order="left")
        scores = self._scores(videos["video_id"], videos)
        return _unseen_top(asked, k, lambda low, high: np.broadcast_to(scores, (high - low, len(scores))))

    rank = retrieve

    def _columns(self) -> list[str]:
        return [name for name in (self.column, self.rate_column) if name is not None]

    def save(self, folder: Path) -> None:
        """Write the counts (Parquet)."""
        columns = {"video_id": self.ids, "count": self.counts, "total": self.total}
        pl.DataFrame(columns).write_parquet(folder / "popularity.parquet")

    def _scores(self, ids: pl.Series, rows: pl.DataFrame) -> Floats:
        counts, total = _look_up(ids, self.ids, self.counts), _look_up(ids, self.ids, self.total)
        fresh = _fresh(rows, self.column)
        if fresh is not None:
            counts = fresh if self.fresh_only else np.maximum(counts, fresh)
        rate = _fresh(rows, self.rate_column) if self.rate_column is not None else None
        if rate is not None:
            counts = rate
        return counts + TIE * total


@dataclass(frozen=True)
class ItemNeighbours:
    """Scores videos by their similarity to what the user watched."""

    ids: list[str]
    similar: csr_matrix
    total: Floats

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Score feature rows by their `recent_videos`, shape (n,)."""
        item = codes(rows["video_id"], self.ids)
        now = np.zeros(rows.height)
        score = np.zeros(rows.height)
        histories = served_histories(rows, self.ids, now)
        size = chunk_size(len(self.ids))
        for low in range(0, rows.height, size):
            found = self._scores(histories.part(low, min(low + size, rows.height)))
            score[low : low + size] = found[np.arange(len(found)), np.maximum(item[low : low + size], 0)]
        return np.where(item >= 0, score + TIE**2 * _look_up(rows["video_id"], self.ids, self.total), 0.0)

    def retrieve(self, asked: Questions, k: int) -> Ints:
        """Name the k most similar videos that a request's user has not seen; -1 for none."""
        column = codes(asked.catalogue["video_id"], self.ids)
        total = _look_up(asked.catalogue["video_id"], self.ids, self.total)
        if asked.watches is not None:
            histories = rows_histories(asked.watches, asked.people["user_id"], self.ids, asked.now)
        else:
            histories = asked.histories(self.ids)

        def scores(low: int, high: int) -> Floats:
            found = self._scores(histories.part(low, high))
            return np.where(column >= 0, found[:, np.maximum(column, 0)], 0.0) + TIE**2 * total

        return _unseen_top(asked, k, scores)

    rank = retrieve

    def save(self, folder: Path) -> None:
        """Write the neighbours (Parquet)."""
        found = self.similar.tocoo()
        columns = {"video": found.row, "other": found.col, "similarity": found.data}
        pl.DataFrame(columns).write_parquet(folder / "neighbours.parquet")
        pl.DataFrame({"video_id": self.ids, "total": self.total}).write_parquet(folder / "videos.parquet")

    def _scores(self, histories: Histories) -> Floats:
        return np.asarray((histories.matrix(len(self.ids)) @ self.similar).todense())


def popularity(dataset: Dataset, params: VideoParams) -> Popularity:
    """Count all watches of the training window, and of the service's year where that knows more."""
    ids, item, _ = _watched(dataset)
    counts = np.bincount(item, minlength=len(ids)).astype(np.float64)
    return Popularity(ids, counts, counts, "video_watches_365d", fresh_only=False)


def recent_popularity(dataset: Dataset, params: VideoParams) -> Popularity:
    """Count the watches of the last days before the request (or, without it, before the data's end).

    Where impressions are logged, watches for each time shown (shrunk) in the last 7 days: counts would
    repeat what the logging policy chose to show.
    """
    ids, item, day = _watched(dataset)
    recent = day >= day_of(dataset.end) - params.recent_days
    counts = np.bincount(item, recent.astype(np.float64), minlength=len(ids)).astype(np.float64)
    total = np.bincount(item, minlength=len(ids)).astype(np.float64)
    column = f"video_watches_{round(params.recent_days)}d"
    return Popularity(ids, counts, total, column, fresh_only=True, rate_column="video_watch_rate_7d")


def item_knn(dataset: Dataset, params: VideoParams) -> ItemNeighbours:
    """Fit item-item neighbours to all watches of the training window."""
    watches = read_watches(dataset)
    ids: list[str] = read_catalogue(dataset, watches)["video_id"].to_list()
    matrix = watched_matrix(watches, ids)
    (similar,) = neighbours(matrix, params.neighbours.k, params.neighbours.shrinkage)
    total = np.bincount(codes(watches["video_id"], ids), minlength=len(ids)).astype(np.float64)
    return ItemNeighbours(ids, similar, total)


HEURISTICS: Mapping[str, Callable[[Dataset, Any], Any]] = {
    "popularity": popularity,
    "recent_popularity": recent_popularity,
    "item_knn": item_knn,
}


def _watched(dataset: Dataset) -> tuple[list[str], Ints, Floats]:
    watches = read_watches(dataset)
    ids: list[str] = read_catalogue(dataset, watches)["video_id"].to_list()
    return ids, codes(watches["video_id"], ids), watches["day"].to_numpy()


def _fresh(rows: pl.DataFrame, column: str) -> Floats | None:
    """Return a service's column, 0 where it has no value; None where it tells nothing.

    Rates tell nothing where nothing was ever shown: they are then the prior alone.
    """
    if column not in rows.columns or rows[column].null_count() == rows.height:
        return None
    shown = rows[SHOWN] if SHOWN in rows.columns else None
    if "rate" in column and (shown is None or not (shown > 0).any()):
        return None
    return rows[column].cast(pl.Float64).fill_null(0.0).to_numpy()


def _look_up(ids: pl.Series, known: list[str], values: Floats) -> Floats:
    place = codes(ids, known)
    return np.where(place >= 0, values[np.maximum(place, 0)] if len(values) else 0.0, 0.0)


def _unseen_top(asked: Questions, k: int, scores: Callable[[int, int], Floats]) -> Ints:
    """Take each request's best k of the catalogue without what it has seen."""
    found = np.full((len(asked), k), -1, dtype=np.int64)
    size = chunk_size(asked.catalogue.height)
    for low in range(0, len(asked), size):
        high = min(low + size, len(asked))
        seen = np.asarray(asked.seen[low:high].todense()) > 0
        best = top_k(np.where(seen, -np.inf, scores(low, high)), k)
        found[low:high, : best.shape[1]] = best
    return found
