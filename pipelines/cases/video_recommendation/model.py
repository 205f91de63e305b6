"""The model: retrieve from several sources, rank by boosted trees, re-rank the list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.interactions import PROFILE, day_of, served_histories
from pipelines.cases.video_recommendation.pairs import (
    COLUMNS,
    Requests,
    Scorer,
    Shelf,
    chunks,
    pair_columns,
)
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.questions import Questions
from pipelines.cases.video_recommendation.retrieval import Retrieval
from pipelines.learning.candidates import fuse, top_k, top_of_order
from pipelines.learning.ranker import Ranker
from pipelines.learning.rerank import marginal_relevance, refresh
from pipelines.stores.files import read_json, write_json

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VideoModel:
    """A fitted system: stage one, the ranker, and what re-ranking is asked for."""

    stage: Retrieval
    ranker: Ranker
    params: VideoParams

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Score feature rows, shape (n,), each on its own: of a history, videos that it was not fitted on say nothing.

        Rows have the request's context (user_id, video_id, time, device, user_country, user_language) and
        the features of the service; what is missing counts as unknown. Where the ranker learned from
        logged slates, the score is P(watched | examined).
        """
        rows = _complete(rows)
        scores = np.zeros(rows.height)
        midnight = rows["time"].dt.truncate("1d")
        stage = self.stage.extended(_profiles(rows))
        numbered = rows.with_row_index("_row").with_columns(midnight.alias("_midnight"))
        for (moment,), part in sorted(numbered.group_by(["_midnight"], maintain_order=True), key=_first):
            shelf = Shelf.at(stage, day_of(moment), part)
            columns = service_columns(shelf, part, self.stage.ids)
            scores[part["_row"].to_numpy()] = self.ranker.predict(columns)
        return scores

    def retrieve(self, asked: Questions, k: int) -> Ints:
        """Name k candidates a request, best first, as rows of the asked catalogue; -1 for none."""
        return self._answer(asked, lambda scorer, part: self._retrieved(scorer, part, k), k)

    def rank(self, asked: Questions, k: int) -> Ints:
        """Answer requests: retrieve, rank, re-rank; rows of the asked catalogue, -1 for none."""
        return self._answer(asked, lambda scorer, part: self._ranked(scorer, part, k), k)

    def _answer(self, asked: Questions, answer: Any, k: int) -> Ints:
        stage = self.stage.extended(asked.catalogue)
        shelf = Shelf.at(stage, asked.day, asked.videos)
        placed = asked.placed(stage.ids)
        requests = Requests.of(stage.encoder, asked.people, asked.histories(stage.ids))
        found = np.full((len(requests), k), -1, dtype=np.int64)
        for low, high, part in chunks(requests, len(stage.known)):
            listed = answer(Scorer(shelf, part), placed.part(low, high))
            found[low:high, : listed.shape[1]] = placed.back(listed)
        return found

    def _retrieved(self, scorer: Scorer, allowed: Any, k: int) -> Ints:
        return retrieve(scorer, allowed.matrix(), self.params.candidates.per_source, k)

    def _ranked(self, scorer: Scorer, allowed: Any, k: int) -> Ints:
        return self.ranked(scorer, allowed.matrix(), k)[0]

    def ranked(self, scorer: Scorer, allowed: NDArray[np.bool_], k: int) -> tuple[Ints, Floats]:
        """Retrieve, rank and re-rank; `allowed` is (n, catalogue). Return videos and scores, (n, k)."""
        found = retrieve(scorer, allowed, self.params.candidates.per_source, self.params.candidates.ranked)
        request, place = np.nonzero(found >= 0)
        scores = np.full(found.shape, -np.inf)
        scores[request, place] = self.ranker.predict(scorer.columns(request, found[request, place]))
        listed = np.full((len(found), k), -1, dtype=np.int64)
        given = np.full((len(found), k), np.nan)
        for row, (items, values) in enumerate(zip(found, scores, strict=True)):
            chosen = self._listed(scorer, items, values, k)
            listed[row, : len(chosen)], given[row, : len(chosen)] = items[chosen], values[chosen]
        return listed, given

    def _listed(self, scorer: Scorer, items: Ints, scores: Floats, k: int) -> Ints:
        """Order one request's candidates: marginal relevance first, then the places for what is fresh."""
        count = int((items >= 0).sum())
        if not count:
            return np.zeros(0, dtype=np.int64)
        items, scores = items[:count], scores[:count]
        if self.ranker.probability:
            scores = np.log(scores) - np.log1p(-scores)
        wanted = self.params.rerank
        # The spread of scores makes the trade mean the same for probabilities and for orders.
        trade = wanted.diversity * float(scores.std())
        order = marginal_relevance(scores, scorer.shelf.vectors[items], min(count, 3 * k), trade)
        age = scorer.shelf.day - scorer.stage.published[items]
        return refresh(order, age <= wanted.fresh_days, k, wanted.fresh_places)

    def save(self, folder: Path) -> None:
        """Write the model: LightGBM text, safetensors, Parquet and JSON."""
        self.stage.save(folder)
        self.ranker.save(folder / "ranker.txt")
        content = {
            "params": self.params.model_dump(mode="json"),
            "columns": list(self.ranker.features),
            "probability": self.ranker.probability,
            "base": self.ranker.base,
        }
        write_json(folder / "model.json", content)


def load(folder: Path) -> VideoModel:
    """Read what `VideoModel.save` wrote."""
    content = read_json(folder / "model.json")
    text = (folder / "ranker.txt").read_text()
    ranker = Ranker(text, content["columns"], content["probability"], content["base"])
    return VideoModel(Retrieval.load(folder), ranker, VideoParams.model_validate(content["params"]))


def retrieve(scorer: Scorer, allowed: NDArray[np.bool_], per_source: int, k: int) -> Ints:
    """Fuse the best of towers, co-watch, popular, trending and well received; `allowed` is (n, catalogue)."""
    similar = np.where(allowed & (scorer.similar > 0), scorer.similar, -np.inf)
    lists = [top_k(np.where(allowed, scorer.tower, -np.inf), per_source), top_k(similar, per_source)]
    lists += [top_of_order(order, allowed, per_source) for order in scorer.shelf.orders]
    return fuse(lists, allowed.shape[1], k)


def service_columns(shelf: Shelf, rows: pl.DataFrame, known: list[str] | None = None) -> NDArray[np.float32]:
    """Compute the ranker's columns of a service's feature rows of one midnight, in their order.

    Of histories the `known` videos count, which are the first of the stage's (default: all of them).
    """
    asked = ["user_id", "time", "device"]
    people = rows.unique(asked, keep="first", maintain_order=True)
    numbered = people.select(asked).with_row_index("_request")
    request = rows.join(numbered, on=asked, how="left", nulls_equal=True, maintain_order="left")["_request"]
    now = people["time"].dt.epoch("us").to_numpy() / 86_400e6
    histories = served_histories(people, known or shelf.stage.ids, now)
    requests = Requests.of(shelf.stage.encoder, people, histories)
    item = rows["video_id"].replace_strict(
        dict(zip(shelf.stage.ids, range(len(shelf.stage.ids)), strict=True)), return_dtype=pl.Int64
    )
    order = np.argsort(request.to_numpy(), kind="stable")
    found = np.empty((rows.height, len(COLUMNS)), dtype=np.float32)
    found[order] = pair_columns(
        shelf, requests, request.to_numpy()[order].astype(np.int64), item.to_numpy()[order]
    )
    return found


def _complete(rows: pl.DataFrame) -> pl.DataFrame:
    """Add context and profile columns that are missing, as nulls."""
    kinds: dict[str, pl.DataType] = {
        "device": pl.String(), "user_country": pl.String(), "user_language": pl.String(),
        "published_at": pl.Int64(), "duration_seconds": pl.Float64(), "genres": pl.List(pl.String()),
        "creator_id": pl.String(), "language": pl.String(), "recent_videos": pl.List(pl.String()),
        "recent_times": pl.List(pl.Int64()),
    }  # fmt: skip
    absent = [
        pl.lit(None, dtype=kind).alias(name) for name, kind in kinds.items() if name not in rows.columns
    ]
    return rows.with_columns(absent)


def _profiles(rows: pl.DataFrame) -> pl.DataFrame:
    return (
        rows.select("video_id", *PROFILE)
        .unique("video_id", keep="first", maintain_order=True)
        .sort("video_id")
    )


def _first(group: Any) -> Any:
    return group[0]
