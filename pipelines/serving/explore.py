"""Exploration: a share of answers is drawn at random, and every place carries its propensity.

With share e explored and m things to choose from, the propensity of a thing at a place is e times its
chance (1 / m where all are alike), plus 1 - e where it is the model's own choice for that place. What is
logged so can be judged by inverse propensity weights (Horvitz & Thompson 1952), and explored answers alone
are a fair sample for the gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.case_study import Answer
from pipelines.errors import UsageError


@dataclass(frozen=True)
class Slates:
    """What is shown: (n, places) rows of the pool (-1 for none), their propensities and scores.

    `own` marks the places that hold the model's own choice; the scores of others are not known (NaN).
    """

    items: NDArray[np.int64]
    propensity: NDArray[np.float64]
    scores: NDArray[np.float64]
    own: NDArray[np.bool_]
    explored: NDArray[np.bool_]


def explore(answer: Answer, places: int, share: float, rng: np.random.Generator) -> Slates:
    """Draw a share of the answers at random; the others stay the model's own."""
    own = padded(answer.ranked, places, -1)
    scores = padded(answer.scores.astype(np.float64), places, np.nan)
    n, m = len(own), answer.pool.height
    if answer.chances is not None and places != 1:
        raise UsageError("chances of their own are for answers of one place: leave them out for slates")
    explored = (rng.random(n) < share) & (m > 0)
    items = own.copy()
    drawn = _draw(int(explored.sum()), min(places, m), m, answer.chances, rng)
    items[explored] = padded(drawn, places, -1)
    chances = np.full(m, 1.0 / max(m, 1)) if answer.chances is None else answer.chances
    filled = items >= 0
    kept = filled & (items == own)
    propensity = np.where(filled, share * np.append(chances, 0.0)[items] + (1.0 - share) * kept, 0.0)
    return Slates(items, propensity, np.where(kept, scores, np.nan), kept, explored)


def _draw(
    rows: int, k: int, m: int, chances: NDArray[np.float64] | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw k of m for each row, without replacement: shape (rows, k)."""
    if rows == 0 or m == 0:
        return np.zeros((rows, k), dtype=np.int64)
    if chances is not None:
        return rng.choice(m, size=(rows, 1), p=chances).astype(np.int64)
    keys = rng.random((rows, m))
    return np.argsort(keys, axis=1, kind="stable")[:, :k].astype(np.int64)


Number = TypeVar("Number", np.int64, np.float64)


def padded(values: NDArray[Number], places: int, empty: float) -> NDArray[Number]:
    """Cut or pad (n, any) to (n, places)."""
    n, depth = values.shape
    if depth >= places:
        return values[:, :places]
    return np.concatenate([values, np.full((n, places - depth), empty, dtype=values.dtype)], axis=1)
