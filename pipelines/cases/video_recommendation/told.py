"""What histories tell about a whole catalogue, in few products: each has a price, however small it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.interactions import Histories

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from pipelines.cases.video_recommendation.retrieval import Retrieval

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Matrix = Any
"""A sparse matrix, or an array."""

RECENT_DAYS = 14.0
WHOLE_CELLS = 4_000_000
"""Up to so many cells a matrix is laid out whole: summing whole rows is quicker than picking among few."""
MOST_HISTORY = 50
"""Newest videos of a history that the user tower averages."""


@dataclass(frozen=True)
class Told:
    """Of n histories, the sums over their entries of what stands beside each video, (n, columns).

    `similar`, `close`, `recent` (of a history that fades from its newest watch) and `then` (of the weeks in
    which it was watched) have a column a video; `known` is: popular, year, whether there is one.
    """

    similar: Floats
    close: Floats
    languages: Floats
    creators: Floats
    genres: Floats
    known: Floats
    recent: Floats
    faded: Floats
    taste: Floats
    then: Floats


class Teller:
    """One stage's sums: what is summed over the same entries lies side by side."""

    def __init__(self, stage: Retrieval) -> None:
        self._stage = stage

    def tell(self, histories: Histories) -> Told:
        """Sum what stands beside the videos of each history."""
        videos = len(self._stage.known)
        newest, (fade, faded) = histories.newest(MOST_HISTORY), _fade(histories)
        entries = histories.matrix(videos)
        similar, close = np.split(_product(entries, self._alike), 2, axis=1)
        languages, creators, genres, known = np.split(entries @ self._beside, self._cuts, axis=1)
        taste = (entries if newest is histories else newest.matrix(videos)) @ self._added
        entries.data = fade
        return Told(
            similar=similar,
            close=close,
            languages=languages,
            creators=creators,
            genres=genres,
            known=known,
            recent=_product(entries, self._similar),
            faded=faded,
            taste=taste,
            then=_product(self._weeks(histories), self._weekly),
        )

    @cached_property
    def _alike(self) -> Matrix:
        from scipy.sparse import csr_matrix, hstack

        return _laid(csr_matrix(hstack([self._stage.similar, self._stage.close])))

    @cached_property
    def _similar(self) -> Matrix:
        return _laid(self._stage.similar)

    @cached_property
    def _weekly(self) -> Matrix:
        return _laid(self._stage.weekly)

    @cached_property
    def _words(self) -> list[Floats]:
        stage = self._stage
        known = np.column_stack([stage.popular, np.nan_to_num(stage.year), ~np.isnan(stage.year)])
        return [stage.languages.ones.toarray(), stage.creators.ones.toarray(), stage.genres, known]

    @cached_property
    def _beside(self) -> Floats:
        return np.column_stack(self._words)

    @cached_property
    def _cuts(self) -> list[int]:
        return np.cumsum([each.shape[1] for each in self._words[:-1]]).tolist()

    @cached_property
    def _added(self) -> Floats:
        return self._stage.added.astype(np.float64)

    def _weeks(self, histories: Histories) -> csr_matrix:
        """Return the share of each week in each history, (n, weeks)."""
        from scipy.sparse import csr_matrix

        week = self._stage.week_of(histories.days)
        entry, week = histories.rows()[week >= 0], week[week >= 0]
        share = 1.0 / np.maximum(np.bincount(entry, minlength=len(histories.now)), 1.0)
        starts = np.searchsorted(entry, np.arange(len(histories.now) + 1))
        shape = (len(histories.now), self._stage.weekly.shape[0])
        return csr_matrix((share[entry], week, starts), shape=shape)


def _laid(matrix: csr_matrix) -> Matrix:
    """Lay a matrix out whole where it is small."""
    return matrix.toarray() if np.prod(matrix.shape) <= WHOLE_CELLS else matrix


def _product(weights: csr_matrix, matrix: Matrix) -> Floats:
    found = weights @ matrix
    return found if isinstance(found, np.ndarray) else np.asarray(found.toarray())


def _fade(histories: Histories) -> tuple[Floats, Floats]:
    """Weigh a history's entries, fading with a scale of 14 days from its newest watch; and sum the weights."""
    entry, days = histories.rows(), np.nan_to_num(histories.days)
    newest = np.full(len(histories.now), -np.inf)
    np.maximum.at(newest, entry, days)
    fade = np.exp((days - newest[entry]) / RECENT_DAYS)
    return fade, np.bincount(entry, fade, minlength=len(histories.now)).astype(np.float64)
