"""Stage one: what a window of watches teaches about which videos go together and which are liked.

Everything here is learned from watches in [start, cut) alone, so that a ranker may learn from what came
after the cut without seeing its own answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.content import Encoder
from pipelines.cases.video_recommendation.interactions import DAY, codes
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.told import Teller
from pipelines.learning.item_knn import neighbours
from pipelines.learning.two_tower import Lessons, TwoTower, fit_two_tower

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

MOST_WATCHES = 200
"""Of a user's watches only so many, the newest, tell which videos go together: bounds the pairs."""
YOUNG_DAYS = 60.0
WEEKS_AROUND = 3
CLOSE_SHARE = 0.25
"""Of the shrinkage, for neighbours that trust rare pairs more: a second opinion for the ranker."""


@dataclass(frozen=True)
class Words:
    """One word a video: its code (-1 where unknown), and the same as ones in a matrix (videos, words)."""

    code: Ints
    ones: csr_matrix

    @classmethod
    def of(cls, column: pl.Series, words: Sequence[str]) -> Words:
        """Encode a column of the catalogue."""
        from scipy.sparse import csr_matrix

        code = codes(column, list(words))
        known = code >= 0
        place = (np.flatnonzero(known), code[known])
        shape = (len(code), max(len(words), 1))
        return cls(code, csr_matrix((np.ones(int(known.sum())), place), shape=shape))


@dataclass(frozen=True)
class Retrieval:
    """Fitted on a catalogue: its arrays have a row a video of `catalogue` (sorted by id).

    `watched` counts watches in the window; `first_day` is when a video was first published or watched
    (NaN if neither is known); `known` is a video's row, -1 without a watch.
    `similar` are the neighbours, `close` the same with less shrinkage; `weekly` (weeks, catalogue) counts
    the watches around each week.
    """

    encoder: Encoder
    catalogue: pl.DataFrame
    towers: TwoTower
    similar: csr_matrix
    close: csr_matrix
    weekly: csr_matrix
    first_week: int
    watched: Floats
    first_day: Floats
    known: Ints
    content: Floats32
    genres: Floats

    @property
    def ids(self) -> list[str]:
        found: list[str] = self.catalogue["video_id"].to_list()
        return found

    @cached_property
    def published(self) -> Floats:
        """When each video was published, in UTC days since 1970; NaN where it is not known."""
        return self.catalogue["published_at"].cast(pl.Float64).fill_null(np.nan).to_numpy() / DAY

    @cached_property
    def year(self) -> Floats:
        """The year of each video's release; NaN where it is not known."""
        return self.catalogue["year"].cast(pl.Float64).fill_null(np.nan).to_numpy()

    @cached_property
    def duration(self) -> Floats:
        """Each video's length in seconds; NaN where it is not known."""
        return self.catalogue["duration_seconds"].cast(pl.Float64).fill_null(np.nan).to_numpy()

    @cached_property
    def popular(self) -> Floats:
        """Log of each video's watches, plus one."""
        return np.log1p(self.watched)

    @cached_property
    def languages(self) -> Words:
        """Each video's language."""
        return Words.of(self.catalogue["language"], self.encoder.languages)

    @cached_property
    def creators(self) -> Words:
        """Each video's creator."""
        return Words.of(self.catalogue["creator_id"], self.encoder.creators)

    @cached_property
    def added(self) -> Floats32:
        """What each video adds to the history of who watched it, as the user tower reads it."""
        return self.towers.histories(self.content, self.known)

    @cached_property
    def teller(self) -> Teller:
        """What a history tells about these videos."""
        return Teller(self)

    def extended(self, catalogue: pl.DataFrame) -> Retrieval:
        """Add the videos that this stage never saw: they stand on their content alone."""
        new = catalogue.join(self.catalogue, on="video_id", how="anti")
        if new.is_empty():
            return self
        count = new.height
        whole = pl.concat([self.catalogue, new], how="diagonal_relaxed").select(self.catalogue.columns)
        published = new["published_at"].cast(pl.Float64).fill_null(np.nan).to_numpy() / DAY
        return replace(
            self,
            catalogue=whole,
            similar=_grown(self.similar, whole.height, whole.height),
            close=_grown(self.close, whole.height, whole.height),
            weekly=_grown(self.weekly, self.weekly.shape[0], whole.height),
            watched=np.append(self.watched, np.zeros(count)),
            first_day=np.append(self.first_day, published),
            known=np.append(self.known, np.full(count, -1, dtype=np.int64)),
            content=np.concatenate([self.content, self.encoder.content(new)]),
            genres=np.concatenate([self.genres, self.encoder.genre_matrix(new)]),
        )

    def week_of(self, days: Floats) -> Ints:
        """Return the row of `weekly` in which each day lies, -1 outside the window (or where unknown)."""
        week = np.floor(np.nan_to_num(days, nan=-1e9) / 7.0).astype(np.int64) - self.first_week
        return np.where((week >= 0) & (week < self.weekly.shape[0]), week, -1)

    def item_vectors(self, day: float) -> Floats32:
        """Compute every video's vector as of a moment (UTC days since 1970)."""
        return self.towers.items(self.content, self.encoder.ages(self.catalogue, day), self.known)

    def save(self, folder: Path) -> None:
        """Write the stage: safetensors, Parquet and JSON."""
        from safetensors.numpy import save_file

        from pipelines.stores.files import write_json

        self.towers.save(folder / "towers.safetensors")
        write_json(folder / "encoder.json", self.encoder.as_json())
        write_json(folder / "weeks.json", {"first": self.first_week})
        matrices = {name: getattr(self, name) for name in _MATRICES}
        arrays = {
            f"{name}_{part}": getattr(matrix, part)
            for name, matrix in matrices.items()
            for part in ("data", "indices", "indptr")
        }
        save_file(
            {
                name: each.astype(np.float64 if name.endswith("data") else np.int64)
                for name, each in arrays.items()
            },
            folder / "co_watch.safetensors",
        )
        columns = {name: getattr(self, name) for name in _STORED}
        self.catalogue.with_columns(pl.Series(name, each) for name, each in columns.items()).write_parquet(
            folder / "catalogue.parquet"
        )

    @classmethod
    def load(cls, folder: Path) -> Retrieval:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file
        from scipy.sparse import csr_matrix

        from pipelines.stores.files import read_json

        encoder = Encoder.from_json(read_json(folder / "encoder.json"))
        stored = pl.read_parquet(folder / "catalogue.parquet")
        catalogue = stored.drop(_STORED)
        arrays = load_file(folder / "co_watch.safetensors")
        matrices = {
            name: csr_matrix(
                tuple(arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr")),
                shape=(len(arrays[f"{name}_indptr"]) - 1, stored.height),
            )
            for name in _MATRICES
        }
        return cls(
            encoder=encoder,
            catalogue=catalogue,
            towers=TwoTower.load(folder / "towers.safetensors"),
            first_week=read_json(folder / "weeks.json")["first"],
            **matrices,
            **{name: stored[name].to_numpy() for name in _STORED},
            content=encoder.content(catalogue),
            genres=encoder.genre_matrix(catalogue),
        )


_STORED = ("watched", "first_day", "known")
_MATRICES = ("similar", "close", "weekly")


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


def _grown(matrix: csr_matrix, rows: int, columns: int) -> csr_matrix:
    """Add empty rows and columns."""
    from scipy.sparse import csr_matrix

    starts = np.append(matrix.indptr, np.full(rows - matrix.shape[0], matrix.nnz))
    return csr_matrix((matrix.data, matrix.indices, starts), shape=(rows, columns))
