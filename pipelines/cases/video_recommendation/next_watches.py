"""Protocols for sources without impressions: rank a whole catalogue for what users watched next.

Every watch or rating counts as relevant, whatever its value. Data is reduced to its 5-core (over both
sides), candidates are the core's videos that training has seen, without those the user has watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, EvaluationProtocol, Judge, Measured
from pipelines.cases.video_recommendation.features import WATCHED_SHARE
from pipelines.cases.video_recommendation.interactions import (
    codes,
    day_of,
    read_catalogue,
    read_users,
    read_watches,
    rows_histories,
)
from pipelines.cases.video_recommendation.moments import user_moments, video_moments
from pipelines.cases.video_recommendation.questions import Questions
from pipelines.errors import DataError
from pipelines.learning.measures import CoverageOf, MeanOf, ndcg_of_lists, recall_of_lists
from pipelines.learning.remembered import Remembered
from pipelines.learning.splits import hold_out_share, k_core, moment_at_share

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CORE = 5
TRAIN_SHARE = 0.8
HELD_OUT = 0.25
LISTED, RETRIEVED = 10, 100
NEW_USER_WATCHES = 5
NEW_VIDEO_DAYS = 7.0
HEAD_SHARE = 0.8
"""The head: the most watched videos that together hold this share of the training watches."""


@dataclass(frozen=True)
class NextWatches:
    """What all scorers answer: the questions, and which answers are relevant (n, catalogue)."""

    asked: Questions
    relevant: csr_matrix
    warm: int
    slices: Mapping[str, NDArray[np.bool_]]


def prepare(train: Dataset, test: Dataset) -> NextWatches:
    """Lay out users, candidates and relevant videos; raise DataError where nothing is left to judge."""
    from scipy.sparse import csr_matrix

    past, coming = read_watches(train), read_watches(test)
    core = k_core(_pairs(pl.concat([past, coming])), CORE, item="video_id")
    known = _pairs(past).join(core, on=["user_id", "video_id"], how="semi")
    ids = known["video_id"].unique().sort()
    new = _pairs(coming).join(core, on=["user_id", "video_id"], how="semi")
    new = new.join(_pairs(past), on=["user_id", "video_id"], how="anti")
    warm = known["user_id"].unique()
    new = new.filter(pl.col("video_id").is_in(ids.implode()) & pl.col("user_id").is_in(warm.implode()))
    if new.is_empty():
        raise DataError(
            f"nothing can be judged: of {past.height} watches before and {coming.height} after the split, none "
            f"is by a user and of a video with {CORE} watches or more that training has seen; read more data"
        )
    users = new["user_id"].unique().sort()
    asked = _questions(train, past, ids, users)
    row = codes(new["user_id"], users.to_list()), codes(new["video_id"], ids.to_list())
    relevant = csr_matrix((np.ones(new.height), row), shape=(len(users), len(ids)))
    return NextWatches(asked, relevant, len(warm), _slices(asked, relevant, past, day_of(train.end)))


def measure_next(model: Any, train: Dataset, test: Dataset, judge: Judge | None) -> Measured:
    """Measure a scorer's lists of 10, and the 100 that its retrieval names."""
    found = _prepared(train, test)
    users = found.asked.people["user_id"].to_numpy()
    listed, retrieved = model.rank(found.asked, LISTED), model.retrieve(found.asked, RETRIEVED)
    positives = np.diff(found.relevant.indptr)
    return Measured(
        {
            "ndcg_at_10": MeanOf(users, ndcg_of_lists(_hits(found.relevant, listed), positives, LISTED)),
            "recall_at_100": MeanOf(users, recall_of_lists(_hits(found.relevant, retrieved), positives)),
            "coverage_at_10": CoverageOf(users, listed, found.asked.catalogue.height),
        },
        found.slices,
    )


def split_at_share(tables: Mapping[str, pl.LazyFrame]) -> datetime:
    """Find the midnight by which 80 % of the 5-core's ratings had come."""
    rows = _watch_rows(tables).select("user_id", "video_id", "action_time").collect()
    core = k_core(_pairs(rows), CORE, item="video_id")
    times = rows.join(core, on=["user_id", "video_id"], how="semi")["action_time"]
    if times.is_empty():
        raise DataError(
            f"no user and no video is left with {CORE} watches each, so there is nothing to split; read more data"
        )
    return moment_at_share(times, TRAIN_SHARE)


def hold_out_quarter(tables: Mapping[str, pl.LazyFrame], seed: int) -> Mapping[str, pl.DataFrame]:
    """Hold out a quarter of each user's 5-core videos: every action of the user on them."""
    pairs = _watch_rows(tables).select("user_id", "video_id").unique().collect()
    held = hold_out_share(k_core(_pairs(pairs), CORE, item="video_id"), HELD_OUT, seed)
    if held.is_empty():
        raise DataError(
            f"no user and no video is left with {CORE} watches each, so none can be held out; read more data"
        )
    actions = tables["actions"].select("action_id", "user_id", "video_id").collect()
    return {"actions": actions.join(held, on=["user_id", "video_id"], how="semi").select("action_id")}


def _watch_rows(tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    seen = (pl.col("action") == "watch") & (pl.col("value") >= WATCHED_SHARE)
    return tables["actions"].filter(seen | (pl.col("action") == "rate"))


def _pairs(watches: pl.DataFrame) -> pl.DataFrame:
    return watches.select("user_id", "video_id").unique().sort("user_id", "video_id")


def _questions(train: Dataset, past: pl.DataFrame, ids: pl.Series, users: pl.Series) -> Questions:
    from scipy.sparse import csr_matrix

    everything = read_catalogue(train, past)
    catalogue = everything.filter(pl.col("video_id").is_in(ids.implode())).sort("video_id")
    people = pl.DataFrame({"user_id": users}).join(
        read_users(train), on="user_id", how="left", maintain_order="left"
    )
    people = people.with_columns(device=pl.lit(None, dtype=pl.String))
    videos = None
    if not train.timeless:
        at = pl.lit(train.end).cast(pl.Datetime("us", "UTC"))
        people = user_moments(train, people.with_columns(time=at))
        videos = video_moments(train, catalogue["video_id"], train.end)
    now = np.full(len(users), day_of(train.end))
    listed: list[str] = ids.to_list()
    histories = rows_histories(past, users, listed, now)
    seen = csr_matrix(
        (np.ones(len(histories.items)), histories.items, histories.starts), shape=(len(users), len(listed))
    )
    return Questions(people, catalogue, videos, day_of(train.end), now, seen, past)


def _hits(relevant: csr_matrix, lists: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which places of each list hold a relevant video."""
    dense_row = np.repeat(np.arange(len(lists)), lists.shape[1])
    found = np.asarray(relevant[dense_row, np.maximum(lists.ravel(), 0)]).ravel() > 0
    hits: NDArray[np.bool_] = found.reshape(lists.shape) & (lists >= 0)
    return hits


def _slices(
    asked: Questions, relevant: csr_matrix, past: pl.DataFrame, end: float
) -> dict[str, NDArray[np.bool_]]:
    """Mark users by how much is known of them and of what they watched next."""
    ids: list[str] = asked.catalogue["video_id"].to_list()
    counts = past.group_by("user_id").len()
    history = asked.people.select("user_id").join(counts, on="user_id", how="left", maintain_order="left")
    item = codes(past["video_id"], ids)
    known = item >= 0
    watched = np.bincount(item[known], minlength=len(ids)).astype(np.float64)
    first = np.full(len(ids), np.inf)
    np.minimum.at(first, item[known], past["day"].to_numpy()[known])
    order = np.argsort(-watched, kind="stable")
    head = np.zeros(len(ids), dtype=bool)
    head[order] = np.cumsum(watched[order]) - watched[order] < HEAD_SHARE * watched.sum()
    positives = np.diff(relevant.indptr)
    in_head = relevant @ head.astype(np.float64) / positives
    return {
        "new_users": history["len"].to_numpy() <= NEW_USER_WATCHES,
        "new_videos": relevant @ (first > end - NEW_VIDEO_DAYS).astype(np.float64) > 0,
        "head": in_head >= 0.5,
        "tail": in_head < 0.5,
    }


_prepared = Remembered(prepare)

_DETAILS = {
    "unit": "a user with something relevant among the candidates; others are left out",
    "core": f"{CORE}-core: users and videos with at least {CORE} watches among each other, over both sides; "
    "models and heuristics learn from all rows before, core or not",
    "candidates": "all core videos that training has seen, without those the user has watched",
    "relevant": "every held-out watch or rating, whatever its value",
    "ties": "broken by the number of watches, then by video id",
    "metrics": "ndcg_at_10 of the served list; recall_at_100 of retrieval; coverage_at_10: share of the "
    "candidates that stand in anybody's list",
}

TIME = EvaluationProtocol(
    name="time",
    describe={
        "split": "global, at the midnight nearest to 80 % of the core's rows: one list a user, at that moment, "
        "for all that follows",
        **_DETAILS,
    },
    measure=measure_next,
    split=split_at_share,
)
RANDOM = EvaluationProtocol(
    name="random",
    describe={
        "split": "a random quarter of each user's core videos (at least one) is held out",
        "features": "from training rows only; no feature uses the order of time",
        **_DETAILS,
    },
    measure=measure_next,
    hold_out=hold_out_quarter,
)
