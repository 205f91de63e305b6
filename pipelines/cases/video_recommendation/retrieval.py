"""Stage one: what a window of watches has taught about which videos go together and which are liked."""

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
from pipelines.cases.video_recommendation.told import Beside, Teller
from pipelines.learning.two_tower import TwoTower

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

YOUNG_DAYS = 60.0


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
    beyond: int = 0

    @property
    def fitted(self) -> int:
        """How many videos it was fitted on: the first ones. The other, `beyond` them, were added later."""
        return self.catalogue.height - self.beyond

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
        from scipy.sparse import csr_matrix

        known = np.column_stack([self.popular, np.nan_to_num(self.year), ~np.isnan(self.year)])
        beside = Beside(
            similar=self.similar,
            close=self.close,
            languages=self.languages.ones,
            creators=self.creators.ones,
            genres=csr_matrix(self.genres),
            known=csr_matrix(known),
            added=self.added.astype(np.float64),
            weekly=self.weekly.toarray(),
            week_of=self.week_of,
        )
        return Teller(beside)

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
            beyond=self.beyond + count,
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
            beyond=0,
        )


_STORED = ("watched", "first_day", "known")
_MATRICES = ("similar", "close", "weekly")


def _grown(matrix: csr_matrix, rows: int, columns: int) -> csr_matrix:
    """Add empty rows and columns."""
    from scipy.sparse import csr_matrix

    starts = np.append(matrix.indptr, np.full(rows - matrix.shape[0], matrix.nnz))
    return csr_matrix((matrix.data, matrix.indices, starts), shape=(rows, columns))
