"""What histories tell about a whole catalogue: sums over their entries of what stands beside each video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.interactions import Histories

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RECENT_DAYS = 14.0
MOST_HISTORY = 50
"""Newest videos of a history that the user tower averages."""


@dataclass(frozen=True)
class Beside:
    """What stands beside the videos of a catalogue, a row each; `weekly` has a row a week, `week_of` names it.

    `known` is: popular, year, whether there is one; `added` is what a video adds to the user tower's history.
    """

    similar: csr_matrix
    close: csr_matrix
    languages: csr_matrix
    creators: csr_matrix
    genres: csr_matrix
    known: csr_matrix
    added: Floats
    weekly: Floats
    week_of: Callable[[Floats], Ints]


@dataclass(frozen=True)
class Told:
    """Of n histories, sums over their entries, (n, columns).

    `similar`, `close`, `recent` (of a history that fades from its newest watch: `faded` sums its weights) and
    `then` (of the weeks in which it was watched) have a column a video; `known` is: popular, year, whether
    there is one; `taste` is of the newest entries.
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


class Rows:
    """A sparse matrix whose rows are summed. SciPy's product takes longer to begin than one request's sums do."""

    def __init__(self, matrix: csr_matrix) -> None:
        self._columns = matrix.indices.astype(np.int64)
        self._values, self._width = matrix.data, matrix.shape[1]
        self._first = matrix.indptr[:-1].astype(np.int64)
        self._count = np.diff(matrix.indptr).astype(np.int64)

    def sums(self, entry: Ints, row: Ints, n: int, weight: Floats | None = None) -> Floats:
        """Sum rows, each to the sum `entry` that it belongs to, in order; shape (n, columns)."""
        count = self._count[row]
        place = np.arange(count.sum()) + np.repeat(self._first[row] - np.cumsum(count) + count, count)
        values = self._values[place]
        if weight is not None:
            values = values * np.repeat(weight, count)
        cell = self._columns[place] + np.repeat(entry * self._width, count)
        summed = np.bincount(cell, values, minlength=n * self._width).astype(np.float64, copy=False)
        return summed.reshape(n, self._width)


class Teller:
    """One stage's sums: what is summed over the same entries lies side by side."""

    def __init__(self, beside: Beside) -> None:
        from scipy.sparse import csr_matrix, hstack

        words = (beside.languages, beside.creators, beside.genres, beside.known)
        parts = [beside.similar, beside.close, *words]
        self._cuts: list[int] = np.cumsum([each.shape[1] for each in parts[:-1]]).tolist()
        self._all, self._similar = Rows(csr_matrix(hstack(parts))), Rows(beside.similar)
        self._added, self._weekly, self._week_of = beside.added, beside.weekly, beside.week_of

    def tell(self, histories: Histories) -> Told:
        """Sum what stands beside the videos of each history."""
        n, entry, items = len(histories.now), histories.rows(), histories.items
        summed = self._all.sums(entry, items, n)
        similar, close, languages, creators, genres, known = np.split(summed, self._cuts, axis=1)
        fade, faded = _fade(histories, entry)
        return Told(
            similar=similar,
            close=close,
            languages=languages,
            creators=creators,
            genres=genres,
            known=known,
            recent=self._similar.sums(entry, items, n, fade),
            faded=faded,
            taste=self._taste(histories.newest(MOST_HISTORY)),
            then=self._then(histories, entry),
        )

    def _taste(self, newest: Histories) -> Floats:
        """Sum what the newest entries add, as the user tower reads it."""
        found = np.zeros((len(newest.now), self._added.shape[1]))
        held = newest.lengths > 0
        if held.any():
            found[held] = np.add.reduceat(self._added[newest.items], newest.starts[:-1][held], axis=0)
        return found

    def _then(self, histories: Histories, entry: Ints) -> Floats:
        """Average how much was watched around the weeks of each history."""
        from scipy.sparse import csr_matrix

        week = self._week_of(histories.days)
        entry, week = entry[week >= 0], week[week >= 0]
        share = 1.0 / np.maximum(np.bincount(entry, minlength=len(histories.now)), 1.0)
        starts = np.searchsorted(entry, np.arange(len(histories.now) + 1))
        shape = (len(histories.now), len(self._weekly))
        return np.asarray(csr_matrix((share[entry], week, starts), shape=shape) @ self._weekly)


def _fade(histories: Histories, entry: Ints) -> tuple[Floats, Floats]:
    """Weigh a history's entries, fading with a scale of 14 days from its newest watch; and sum the weights."""
    days = np.nan_to_num(histories.days)
    newest = np.full(len(histories.now), -np.inf)
    np.maximum.at(newest, entry, days)
    fade = np.exp((days - newest[entry]) / RECENT_DAYS)
    return fade, np.bincount(entry, fade, minlength=len(histories.now)).astype(np.float64)
