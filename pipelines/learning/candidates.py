"""Candidates: the best of several sources, fused into one list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

FUSION_CONSTANT = 60.0
MANY = 4
"""Where one in so many is chosen, sorting all of them is quicker than finding the bound first."""


def top_k(scores: Floats, k: int) -> Ints:
    """Return each row's k best columns, best first, shape (n, min(k, m)); ties go to the lower column.

    Scores of -inf are never chosen: their places hold -1.
    """
    k = min(k, scores.shape[1])
    if k == 0:
        return np.zeros((len(scores), 0), dtype=np.int64)
    if k * MANY > scores.shape[1]:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.where(np.isneginf(np.take_along_axis(scores, order, axis=1)), -1, order)
    bound = np.partition(_apart(scores), -k, axis=1)[:, -k]
    chosen = np.empty((len(scores), k), dtype=np.int64)
    for row, (values, least) in enumerate(zip(scores, bound, strict=True)):
        above = np.flatnonzero(values > least)
        level = np.flatnonzero(values == least)[: k - len(above)]
        found = np.concatenate([above, level])
        found = found[np.lexsort((found, -values[found]))]
        chosen[row, : len(found)] = found
        chosen[row, len(found) :] = -1
    return chosen


def _apart(scores: Floats) -> Floats:
    """Replace -inf by different values below all others: selection is slow among many equal ones."""
    barred = np.isneginf(scores)
    if not barred.any():
        return scores
    least = float(scores[~barred].min()) if not barred.all() else 0.0
    below = least - (1.0 + np.arange(scores.shape[1])) * (1.0 + abs(least))
    return np.where(barred, below[None, :], scores)


def top_of_order(order: Ints, allowed: NDArray[np.bool_], k: int) -> Ints:
    """Return the first k allowed columns of one order for all rows, shape (n, k); -1 for none.

    The same as `top_k` where all rows have the same scores, without sorting each. `allowed` is (n, m).
    """
    open_ = allowed[:, order]
    turn = np.cumsum(open_, axis=1)
    row, place = np.nonzero(open_ & (turn <= k))
    chosen = np.full((len(allowed), k), -1, dtype=np.int64)
    chosen[row, turn[row, place] - 1] = order[place]
    return chosen


def fuse(lists: Sequence[Ints], items: int, k: int) -> Ints:
    """Fuse ranked lists by reciprocal ranks (Cormack, Clarke & Büttcher 2009), shape (n, k).

    Each list has shape (n, any) with -1 for empty places. An item earns 1 / (60 + rank) from every
    list that holds it; ties go to the lower item.
    """
    rows, every = len(lists[0]), np.concatenate(lists, axis=1)
    place = np.concatenate([1.0 / (FUSION_CONSTANT + 1.0 + np.arange(each.shape[1])) for each in lists])
    cell = np.where(every >= 0, every, items) + (items + 1) * np.arange(rows)[:, None]
    earned = np.bincount(cell.ravel(), np.tile(place, rows), minlength=rows * (items + 1))
    found = earned.reshape(rows, items + 1)[:, :items]
    return top_k(np.where(found > 0, found, -np.inf), k)
