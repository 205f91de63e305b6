"""Measures of rankings, a value a unit, ready to be resampled: nDCG, recall, coverage.

nDCG follows Järvelin & Kekäläinen (2002) with gain 2^relevance - 1, which is the relevance itself where
that is 0 or 1, and discount 1 / log2(rank + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def weighted_sum(weights: NDArray[Any], values: Floats) -> Any:
    """Sum `values` (n,) under weights (n,) or (resamples, n): to the last bit the same on any number of cores.

    A matrix product is not: the linear algebra library splits it by threads, and sums round by their order.
    """
    return np.einsum("...u,u->...", weights, values)


@dataclass(frozen=True)
class MeanOf:
    """The mean of one value a unit (a Statistic). `units` and `values` have shape (n,)."""

    units: NDArray[Any]
    values: Floats

    vectorised = True

    def estimate(self, weights: NDArray[Any] | None = None) -> Any:
        """Compute the weighted mean: a float, or shape (resamples,) for weights (resamples, n)."""
        if weights is None:
            return float(self.values.mean()) if self.values.size else float("nan")
        total = weights.sum(axis=-1)
        return weighted_sum(weights, self.values) / np.where(total > 0, total, np.nan)


@dataclass(frozen=True)
class RatioOf:
    """A ratio of sums over units, such as reward over best reward (a Statistic)."""

    units: NDArray[Any]
    numerator: Floats
    denominator: Floats

    vectorised = True

    def estimate(self, weights: NDArray[Any] | None = None) -> Any:
        """Divide the weighted sums; NaN where the denominator is 0."""
        if weights is None:
            weights = np.ones(len(self.units))
        total = np.asarray(weighted_sum(weights, self.denominator))
        found = weighted_sum(weights, self.numerator) / np.where(total > 0, total, np.nan)
        return float(found) if np.ndim(found) == 0 else found


@dataclass(frozen=True)
class CoverageOf:
    """The share of a catalogue that at least one unit's list shows (a Statistic).

    `lists` (n, k) holds item numbers below `catalogue`, -1 where a list is shorter. A resample holds
    fewer distinct units than the sample, so its intervals lie a little low.
    """

    units: NDArray[Any]
    lists: Ints
    catalogue: int

    def estimate(self, weights: NDArray[Any] | None = None) -> float:
        """Count the items shown by units of positive weight; `weights` has shape (n,)."""
        lists = self.lists if weights is None else self.lists[np.asarray(weights) > 0]
        shown = np.bincount(lists[lists >= 0].ravel(), minlength=self.catalogue)
        return float((shown > 0).sum() / self.catalogue) if self.catalogue else float("nan")


def discounts(k: int) -> Floats:
    """Return 1 / log2(rank + 1) for the ranks 1 … k."""
    weights: Floats = 1.0 / np.log2(np.arange(k) + 2.0)
    return weights


def ndcg_of_lists(relevant: Bools, positives: Ints, k: int) -> Floats:
    """Compute binary nDCG@k of ranked lists; NaN for a unit without positives.

    `relevant` (n, m >= k or fewer) tells for each place whether its item is relevant; `positives` (n,)
    counts the relevant items of each unit, found or not.
    """
    relevant = relevant[:, :k]
    gained = relevant @ discounts(relevant.shape[1])
    best = np.concatenate([[0.0], np.cumsum(discounts(k))])[np.minimum(positives, k)]
    return np.divide(gained, best, out=np.full(len(gained), np.nan), where=best > 0)


def recall_of_lists(relevant: Bools, positives: Ints) -> Floats:
    """Compute the share of each unit's positives that its list holds; NaN without positives."""
    found = relevant.sum(axis=1).astype(np.float64)
    return np.divide(found, positives, out=np.full(len(found), np.nan), where=positives > 0)


def ndcg_of_rows(groups: Ints, scores: Floats, labels: Floats, k: int) -> Floats:
    """Compute nDCG@k of each group of scored rows, shape (number of groups,); NaN without positives.

    `groups` numbers each row's group from 0. Tied scores share the mean discount of the ranks that
    they span (McSherry & Najork 2008), so that no order of the rows can win anything.
    """
    count = int(groups.max()) + 1 if groups.size else 0
    weights = np.zeros(len(groups))
    order = np.lexsort((-scores, groups))
    place = _place_in_group(groups[order])
    gain = np.where(place < k, 1.0 / np.log2(place + 2.0), 0.0)
    first = np.ones(len(order), dtype=bool)
    if len(order):
        same = (groups[order][1:] == groups[order][:-1]) & (scores[order][1:] == scores[order][:-1])
        first[1:] = ~same
    tie = np.cumsum(first) - 1
    weights[order] = (np.bincount(tie, gain) / np.bincount(tie))[tie] if len(order) else gain
    best_order = np.lexsort((-labels, groups))
    best_place = _place_in_group(groups[best_order])
    best_gain = np.where(best_place < k, 1.0 / np.log2(best_place + 2.0), 0.0)
    gained = np.bincount(groups, weights * labels, minlength=count)
    best = np.bincount(groups[best_order], best_gain * labels[best_order], minlength=count)
    return np.divide(gained, best, out=np.full(count, np.nan), where=best > 0)


def _place_in_group(groups: Ints) -> Ints:
    """Count rows from 0 within runs of equal groups."""
    if not groups.size:
        return groups
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]]))
    lengths = np.diff(np.append(starts, len(groups)))
    return np.arange(len(groups)) - np.repeat(starts, lengths)
