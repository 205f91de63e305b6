"""Measures of classifiers that name few of many: PR-AUC, recall at a precision, F1; and thresholds.

Rows may carry weights of their own, such as one over the probability that a row was looked at at all
(Horvitz & Thompson 1952). PR-AUC is average precision, without interpolation (Davis & Goadrich 2006);
tied scores are one threshold, so that no order of the rows can win anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.learning.measures import weighted_sum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Rows sorted by falling score: their order, outcomes and weights; `ends` the last row of each tie."""

    order: Ints
    labels: Floats
    weights: Floats
    ends: Ints

    @classmethod
    def of(cls, scores: Floats, labels: Floats, weights: Floats) -> Ranking:
        """Sort rows; all arguments have shape (n,)."""
        order = np.argsort(-scores, kind="stable")
        last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        places = np.arange(len(order))
        return cls(order, labels[order], weights[order], last[np.searchsorted(last, places)])

    def laid(self, weights: Any) -> Any:
        """Lay resampled weights (…, n) on the rows' own, in order."""
        return self.weights if weights is None else weights[..., self.order] * self.weights

    def sums(self, weights: Any) -> tuple[Any, Any]:
        """Sum weights down to each row's threshold: of the positives, and of all; shape (…, n)."""
        whole = self.laid(weights)
        found = np.cumsum(whole * self.labels, axis=-1), np.cumsum(whole, axis=-1)
        return found[0][..., self.ends], found[1][..., self.ends]

    def precision_recall(self, weights: Any = None) -> tuple[Any, Any]:
        """Return precision and recall at each row's threshold, NaN where there is no weight; shape (…, n)."""
        hits, flagged = self.sums(weights)
        total = hits[..., -1:]
        return (
            np.divide(hits, flagged, out=np.full(hits.shape, np.nan), where=flagged > 0),
            np.divide(hits, total, out=np.full(hits.shape, np.nan), where=total > 0),
        )


@dataclass(frozen=True)
class AveragePrecisionOf:
    """The mean average precision over outcomes (a Statistic); NaN where one of them has no positive.

    `units` (n,); `rankings` one an outcome, over the same rows.
    """

    units: NDArray[Any]
    rankings: tuple[Ranking, ...]

    vectorised = True

    def estimate(self, weights: NDArray[Any] | None = None) -> Any:
        """Compute the mean: a float, or shape (resamples,) for weights (resamples, n)."""
        found = np.mean([self._one(ranking, weights) for ranking in self.rankings], axis=0)
        return float(found) if np.ndim(found) == 0 else found

    @staticmethod
    def _one(ranking: Ranking, weights: Any) -> Any:
        """Average the precision over the positives: only their places are looked at, which are few."""
        positive = np.flatnonzero(ranking.labels > 0)
        if not len(positive):
            return np.nan if weights is None else np.full(weights.shape[:-1], np.nan)
        whole = ranking.laid(weights)
        own = whole[..., positive] * ranking.labels[positive]
        ends = ranking.ends[positive]
        flagged = np.cumsum(whole, axis=-1)[..., ends]
        hits = np.cumsum(own, axis=-1)[..., np.searchsorted(positive, ends, side="right") - 1]
        precision = np.divide(hits, flagged, out=np.zeros(flagged.shape), where=flagged > 0)
        total = own.sum(axis=-1)
        return (own * precision).sum(axis=-1) / np.where(total > 0, total, np.nan)


@dataclass(frozen=True)
class RecallAtPrecisionOf:
    """The greatest recall of one outcome at any threshold whose precision is at least `precision` (a Statistic)."""

    units: NDArray[Any]
    ranking: Ranking
    precision: float

    vectorised = True

    def estimate(self, weights: NDArray[Any] | None = None) -> Any:
        """Compute it: a float, or shape (resamples,) for weights (resamples, n); 0 where no threshold is precise."""
        precision, recall = self.ranking.precision_recall(weights)
        reached = np.where(precision >= self.precision, recall, 0.0)
        found = np.where(np.isnan(recall[..., -1]), np.nan, reached.max(axis=-1))
        return float(found) if np.ndim(found) == 0 else found


@dataclass(frozen=True)
class F1Of:
    """F1 of rows that belong to one of several classes (a Statistic).

    `truth` and `named` (n,) are class numbers. `average`: 'macro' over the classes, 'weighted' by how
    many rows belong to each, or the number of one class.
    """

    units: NDArray[Any]
    truth: Ints
    named: Ints
    classes: int
    average: str | int

    vectorised = True

    def estimate(self, weights: NDArray[Any] | None = None) -> Any:
        """Compute it: a float, or shape (resamples,) for weights (resamples, n)."""
        whole = np.ones(len(self.truth)) if weights is None else weights
        masks = [(self.truth == each, self.named == each) for each in range(self.classes)]
        of_class, of_named, hits = (
            np.stack([weighted_sum(whole, rows.astype(np.float64)) for rows in found], axis=-1)
            for found in zip(*((true, named, true & named) for true, named in masks), strict=True)
        )
        both = of_class + of_named
        f1 = np.divide(2 * hits, both, out=np.zeros(both.shape), where=both > 0)
        if isinstance(self.average, int):
            found = f1[..., self.average]
        elif self.average == "macro":
            found = f1.mean(axis=-1)
        else:
            found = (f1 * of_class).sum(axis=-1) / of_class.sum(axis=-1)
        return float(found) if np.ndim(found) == 0 else found


def threshold_at_precision(
    scores: Floats, labels: Floats, weights: Floats, precision: float, least: int = 10
) -> float | None:
    """Choose the lowest score from which on the precision is at least `precision`; None where there is none.

    At least `least` rows must lie above it: the precision of fewer says nothing.
    """
    ranking = Ranking.of(scores, labels, weights)
    reached, _ = ranking.precision_recall()
    found = np.flatnonzero((reached >= precision) & (ranking.ends >= least - 1))
    return float(scores[ranking.order[found[-1]]]) if len(found) else None


def threshold_at_best_f1(scores: Floats, labels: Floats, weights: Floats) -> float:
    """Choose the score from which on F1 is greatest; infinity where nothing is positive."""
    ranking = Ranking.of(scores, labels, weights)
    hits, flagged = ranking.sums(None)
    total = hits[-1] if len(hits) else 0.0
    if total <= 0:
        return float("inf")
    return float(scores[ranking.order[int(np.argmax(2 * hits / (flagged + total)))]])
