"""Measures of predicted probabilities, ready to be resampled: log-loss, normalized entropy, AUC, calibration.

Rows belong to units (`unit` numbers each row's unit from 0), and a unit is drawn or left out whole. All but
AUC are functions of sums over units, so that a thousand resamples are a few matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.learning.measures import weighted_sum

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLOSEST = 1e-6
"""Predictions are kept so far from 0 and 1: one wrong certainty must not decide a log-loss."""


def log_losses(predicted: Floats, labels: Floats) -> Floats:
    """Compute -log P(label) of each row in nats, shape (n,)."""
    sure = np.clip(predicted, CLOSEST, 1 - CLOSEST)
    return -(labels * np.log(sure) + (1 - labels) * np.log1p(-sure))


def entropy(rate: Any) -> Any:
    """Compute the log-loss of predicting `rate` where it is the rate; NaN for 0 and 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))


@dataclass(frozen=True)
class Sums:
    """A function of sums over units (a Statistic): `columns` (units, k) holds what is summed."""

    units: NDArray[Any]
    columns: Floats

    vectorised = True

    def estimate(self, weights: NDArray[Any] | None = None) -> Any:
        """Compute the measure: a float, or shape (resamples,) for weights (resamples, units)."""
        if weights is None:
            weights = np.ones(len(self.units))
        summed = [weighted_sum(weights, each) for each in np.ascontiguousarray(self.columns.T)]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.of_sums(np.stack(summed, axis=-1))
        return float(found) if np.ndim(found) == 0 else found

    def of_sums(self, sums: Floats) -> Any:
        """Compute the measure from sums, shape (…, k)."""
        raise NotImplementedError


class NormalizedEntropy(Sums):
    """Log-loss over that of always predicting the measured rows' own rate (He et al., ADKDD 2014, 3.1).

    1 is what knowing nothing but the rate would give; lower is better. NaN where labels are all alike.
    """

    @classmethod
    def of(cls, units: NDArray[Any], unit: Ints, predicted: Floats, labels: Floats) -> NormalizedEntropy:
        """Measure rows: `units` are ids, the others have a value a row."""
        parts = (log_losses(predicted, labels), labels, np.ones(len(labels)))
        return cls(units, sum_by_unit(unit, len(units), *parts))

    def of_sums(self, sums: Floats) -> Any:
        """Divide the mean loss by the entropy of the rate."""
        loss, positive, rows = sums[..., 0], sums[..., 1], sums[..., 2]
        return loss / rows / entropy(positive / rows)


class CalibrationError(Sums):
    """Expected calibration error: over bins, the mean |predicted - observed| share, weighted by rows.

    Bins are the quantiles of the predictions, ties together (Naeini, Cooper & Hauskrecht 2015, with bins of
    equal mass). It is never negative, so that noise alone makes it about sqrt(rate / rows a bin).
    """

    @classmethod
    def of(
        cls, units: NDArray[Any], unit: Ints, predicted: Floats, labels: Floats, bins: int = 10
    ) -> CalibrationError:
        """Measure rows: `units` are ids, the others have a value a row."""
        if not len(unit):
            return cls(units, np.zeros((0, 2)))
        edges = np.unique(np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1]))
        group = np.searchsorted(edges, predicted, side="left")
        gaps = [(predicted - labels) * (group == each) for each in range(len(edges) + 1)]
        return cls(units, sum_by_unit(unit, len(units), *gaps, np.ones(len(labels))))

    def of_sums(self, sums: Floats) -> Any:
        """Add up the bins' gaps."""
        return np.abs(sums[..., :-1]).sum(axis=-1) / sums[..., -1]


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve of rows, each weighted by its unit (a Statistic); ties count half.

    `row_unit` numbers each row's unit from 0.
    """

    units: NDArray[Any]
    row_unit: Ints
    predicted: Floats
    labels: Floats

    @cached_property
    def _ordered(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the units of the negatives in order of score, those of the positives, and where among
        the negatives each positive's equals begin and end."""
        positive = self.labels > 0
        negatives = self.predicted[~positive]
        order = np.argsort(negatives, kind="stable")
        negatives, chosen = negatives[order], self.predicted[positive]
        first, last = (np.searchsorted(negatives, chosen, side=side) for side in ("left", "right"))
        return self.row_unit[~positive][order], self.row_unit[positive], first, last

    def estimate(self, weights: NDArray[Any] | None = None) -> float:
        """Compute the area; NaN where only one label has weight. `weights` has the shape of `units`."""
        negative, positive, first, last = self._ordered
        weight = np.ones(len(self.units)) if weights is None else np.asarray(weights, dtype=np.float64)
        below = np.concatenate([[0.0], np.cumsum(weight[negative])])
        chosen = weight[positive]
        pairs = chosen.sum() * below[-1]
        area = weighted_sum(chosen, below[first] + below[last])
        return float(area / (2 * pairs)) if pairs else float("nan")


def sum_by_unit(unit: Ints, count: int, *values: Floats) -> Floats:
    """Sum each of the values (n,) over the rows of each unit: shape (count, number of values)."""
    return np.column_stack([np.bincount(unit, each, minlength=count) for each in values])
