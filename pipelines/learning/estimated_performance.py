"""How well a model does before labels come, as far as its own confidence tells.

Confidence-based performance estimation (CBPE): where a score says "30 %", and 30 % it was on labelled rows,
three of ten such rows will turn out positive; so the log-loss to be expected needs no label. Scores are
first calibrated on labelled rows that the model did not learn from (a monotone step function, so that scores
which are no probabilities do as well). It sees what a change of the rows does to the model, and is blind to a
change of what the rows mean: those labels tell, once they come (NannyML, "How CBPE works"; Białek et al.
2024, arXiv 2401.08348; on confidences under shift also Garg et al. 2022, arXiv 2201.04234).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from pipelines.learning.bootstrap import Estimate, resample
from pipelines.learning.probabilities import NormalizedEntropy

Floats = NDArray[np.float64]

METRIC = "normalized_entropy"
LEAST_LABELLED = 200
LEAST_OF_A_KIND = 20  # labelled rows that are positive, and that are negative
LEAST_ROWS = 100
BINS = 30
RESAMPLES = 200
CONFIDENCE = 0.95


@dataclass(frozen=True)
class EstimatedPerformance:
    """The normalized entropy to be expected, lower is better: of rows `now`, and of those labelled before.

    `rate` and `rate_then` are the shares of positives to be expected.
    """

    now: Estimate
    then: Estimate
    rate: float
    rate_then: float

    def fell(self, drop: float) -> bool:
        """Say whether it got worse by more than `drop`, and by more than the noise of both."""
        return self.now.value > self.then.value + drop and self.now.low > self.then.high

    def as_json(self) -> dict[str, Any]:
        """Return what JSON holds."""
        return {
            "metric": METRIC,
            "now": self.now.as_json(),
            "then": self.then.as_json(),
            "rate": self.rate,
            "rate_then": self.rate_then,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> EstimatedPerformance:
        """Read what `as_json` wrote."""
        now, then = (Estimate.from_json(content[name]) for name in ("now", "then"))
        return cls(now, then, content["rate"], content["rate_then"])


def estimate_performance(
    scores_then: Floats, labels_then: Floats, scores_now: Floats, seed: int = 0
) -> EstimatedPerformance | None:
    """Estimate from scores and labels (n,) before, NaN where a label is not known, and scores now (m,).

    None where it is not applicable: labels are not yes or no, or there are too few of them, or too few rows.
    """
    known = np.isfinite(scores_then) & np.isfinite(labels_then)
    scores, labels = scores_then[known], labels_then[known]
    if not np.isin(labels, (0, 1)).all() or len(labels) < LEAST_LABELLED:
        return None
    scores_now = scores_now[np.isfinite(scores_now)]
    if min(labels.sum(), len(labels) - labels.sum()) < LEAST_OF_A_KIND or len(scores_now) < LEAST_ROWS:
        return None
    then, now = (_calibrated(scores, labels, each) for each in (scores, scores_now))
    return EstimatedPerformance(
        _expected(now, seed), _expected(then, seed), float(now.mean()), float(then.mean())
    )


def _calibrated(scores: Floats, labels: Floats, wanted: Floats) -> Floats:
    """Turn scores into the shares of positives that such scores had: rising, and shrunk by one row to the rate."""
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, BINS + 1)[1:-1]))
    group = np.searchsorted(edges, scores, side="left")
    rows, positive = (np.bincount(group, each, len(edges) + 1) for each in (None, labels))
    used = rows > 0
    shares = (positive[used] + labels.mean()) / (rows[used] + 1)
    # Where scores tie, a bin may have held none: it lies between its neighbours.
    steps = np.interp(
        np.arange(len(edges) + 1), np.flatnonzero(used), isotonic_regression(shares, weights=rows[used]).x
    )
    found: Floats = steps[np.searchsorted(edges, wanted, side="left")]
    return found


def _expected(chances: Floats, seed: int) -> Estimate:
    """Measure rows as if each were positive by its chance and negative by the rest."""
    units = np.arange(len(chances))
    statistic = NormalizedEntropy.of(units, units, chances, chances)
    return resample({METRIC: (statistic, None)}, RESAMPLES, seed)[METRIC].estimate(CONFIDENCE)
