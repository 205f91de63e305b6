"""Stage one, fitted: which videos go together and which are liked, from watches in [start, cut) alone.

So a ranker may learn from what came after the cut without seeing its own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.content import Encoder
from pipelines.cases.video_recommendation.interactions import DAY, codes
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.retrieval import Retrieval
from pipelines.learning.item_knn import neighbours
from pipelines.learning.two_tower import Lessons, TwoTower, fit_two_tower

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

MOST_WATCHES = 200
"""Of a user's watches only so many, the newest, tell which videos go together: bounds the pairs."""
WEEKS_AROUND = 3
CLOSE_SHARE = 0.25
"""Of the shrinkage, for neighbours that trust rare pairs more: a second opinion for the ranker."""


def fit_retrieval(
    watches: pl.DataFrame,
    catalogue: pl.DataFrame,
    users: pl.DataFrame,
    encoder: Encoder,
    params: VideoParams,
    seed: int,
    ordered: bool,
) -> tuple[Retrieval, list[float]]:
    """Fit stage one to watches (sorted); return it and the towers' loss curve.

    `ordered` says that a user's history may hold earlier watches only. Videos without a watch keep a row,
    but no id of their own.
    """
    ids: list[str] = catalogue["video_id"].to_list()
    content = encoder.content(catalogue)
    item = codes(watches["video_id"], ids)
    day = watches["day"].to_numpy()
    watched = np.bincount(item, minlength=len(ids)).astype(np.float64)
    towers, losses = _fit_towers(watches, catalogue, users, item, content, encoder, params, seed, ordered)
    published = catalogue["published_at"].cast(pl.Float64).fill_null(np.nan).to_numpy() / DAY
    first = np.full(len(ids), np.inf)
    np.minimum.at(first, item, day)
    first = np.fmin(published, np.where(np.isinf(first), np.nan, first))
    matrix, (k, shrinkage) = watched_matrix(watches, ids), (params.neighbours.k, params.neighbours.shrinkage)
    similar, close = neighbours(matrix, k, shrinkage, CLOSE_SHARE * shrinkage)
    weekly, first_week = _weekly(item, day, len(ids))
    retrieval = Retrieval(
        encoder=encoder,
        catalogue=catalogue,
        towers=towers,
        similar=similar,
        close=close,
        weekly=weekly,
        first_week=first_week,
        watched=watched,
        first_day=first,
        known=np.where(watched > 0, np.arange(len(ids)), -1),
        content=content,
        genres=encoder.genre_matrix(catalogue),
    )
    return retrieval, losses


def watched_matrix(watches: pl.DataFrame, ids: Sequence[str], most: int = MOST_WATCHES) -> csr_matrix:
    """Return who watched what, (users, items) of ones, of each user the `most` newest."""
    from scipy.sparse import csr_matrix

    newest = watches.sort(["day", "user_id", "video_id"], descending=[True, False, False])
    newest = newest.unique(["user_id", "video_id"], keep="first", maintain_order=True)
    newest = newest.group_by("user_id", maintain_order=True).head(most)
    people = newest["user_id"].unique().sort().to_list()
    user, item = codes(newest["user_id"], people), codes(newest["video_id"], list(ids))
    return csr_matrix((np.ones(len(user)), (user, item)), shape=(len(people), len(ids)))


def _fit_towers(
    watches: pl.DataFrame,
    catalogue: pl.DataFrame,
    users: pl.DataFrame,
    item: Ints,
    content: Floats32,
    encoder: Encoder,
    params: VideoParams,
    seed: int,
    ordered: bool,
) -> tuple[TwoTower, list[float]]:
    people = watches.select("user_id").unique().sort("user_id")
    described = people.join(users, on="user_id", how="left", maintain_order="left")
    user = codes(watches["user_id"], people["user_id"].to_list())
    day = watches["day"].to_numpy()
    ages = encoder.ages(catalogue[item], day) if len(item) else np.zeros(0, dtype=np.float32)
    # Watches come sorted by time; where they carry no order, chance decides which others are history.
    within = np.arange(len(user)) if ordered else np.random.default_rng([seed, 3]).permutation(len(user))
    order = np.lexsort((within, user))
    people_features = encoder.users(encoder.words(described))
    lessons = Lessons(user[order], item[order], ages[order], day[order], content, people_features, ordered)
    return fit_two_tower(lessons, params.towers.options(), seed)


def _weekly(item: Ints, day: Floats, items: int) -> tuple[csr_matrix, int]:
    """Count watches around each week, near weeks for more; (weeks, items) and the number of the first."""
    from scipy.sparse import csr_matrix, diags

    week = np.floor(day / 7.0).astype(np.int64)
    first, size = (int(week.min()), int(week.max() - week.min()) + 1) if len(week) else (0, 0)
    counts = csr_matrix((np.ones(len(item)), (week - first, item)), shape=(size, items))
    if size == 0:
        return counts, first
    around = range(-min(WEEKS_AROUND, size - 1), min(WEEKS_AROUND, size - 1) + 1)
    smooth = diags([np.exp(-abs(each)) for each in around], list(around), shape=(size, size))
    found = (smooth @ counts).tocsr()
    found.sort_indices()
    return found, first
