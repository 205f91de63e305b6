"""Off-policy evaluation: what a policy would have earned, from the log of another.

A logged action counts by w = π(a|x) / p, how much more often the target policy would have taken it than the
one that logged it with propensity p. All estimators are ratios of sums Σa / Σb over the rows:

inverse propensity   a = w r, b = 1: unbiased, wide (Horvitz & Thompson 1952)
self-normalised      a = w r, b = w: hardly biased, steadier (Swaminathan & Joachims 2015)
doubly robust        a = Σ_a' π(a'|x) q(x, a') + w (r - q(x, a)), b = 1: right if either the propensities or the
                     reward model q is (Dudík, Erhan, Langford & Li 2014); q must not have seen the row itself

Weights may be clipped: less variance for some bias towards 0 (or towards q). An effective sample of few rows
says that the log hardly holds what the target policy does: then no interval is to be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipelines.errors import DataError
from pipelines.experiments.interval import Interval
from pipelines.experiments.moments import Floats


@dataclass(frozen=True)
class Logged:
    """n logged actions, all of shape (n,): reward, propensity, and `target`, the target policy's probability.

    `units` names what rows belong to (a request, a user), where rows of one are not independent.
    """

    reward: Floats
    propensity: Floats
    target: Floats
    units: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        """Refuse what is no log: a propensity must lie in (0, 1], a target probability in [0, 1] (DataError)."""
        if not len(self.reward) == len(self.propensity) == len(self.target) > 0:
            raise DataError("rewards, propensities and target probabilities must be as many, and not none")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise DataError("a propensity must lie above 0 and not above 1: what was logged was possible")
        if not ((self.target >= 0) & (self.target <= 1) & np.isfinite(self.reward)).all():
            raise DataError("a target probability must lie between 0 and 1, and a reward must be finite")


@dataclass(frozen=True)
class Predicted:
    """A reward model's word, (n,) each: for the logged action, and for what the target policy would do."""

    logged: Floats
    target: Floats


@dataclass(frozen=True)
class PolicyValue:
    """The reward a row that the target policy would earn, and the rows that the weights are worth."""

    reward: Interval
    effective: float


def weights(logged: Logged, clip: float | None = None) -> Floats:
    """Return π / p of each row, at most `clip`."""
    ratio = logged.target / logged.propensity
    return ratio if clip is None else np.minimum(ratio, clip)


def effective_sample_size(weight: Floats) -> float:
    """Return (Σw)² / Σw²: how many equally weighted rows would vary as little (Kish 1965)."""
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def inverse_propensity(
    logged: Logged, clip: float | None = None, confidence: float = 0.95, resamples: int = 0, seed: int = 0
) -> PolicyValue:
    """Weigh the rewards by π / p; with `resamples`, the interval is a percentile bootstrap's."""
    weight = weights(logged, clip)
    return _value(logged, weight * logged.reward, np.ones_like(weight), weight, confidence, resamples, seed)


def self_normalised(
    logged: Logged, clip: float | None = None, confidence: float = 0.95, resamples: int = 0, seed: int = 0
) -> PolicyValue:
    """Weigh the rewards by π / p and divide by the sum of the weights."""
    weight = weights(logged, clip)
    return _value(logged, weight * logged.reward, weight, weight, confidence, resamples, seed)


def doubly_robust(
    logged: Logged,
    predicted: Predicted,
    clip: float | None = None,
    confidence: float = 0.95,
    resamples: int = 0,
    seed: int = 0,
) -> PolicyValue:
    """Predict what the target policy earns, and correct it by the weighted errors on what was logged."""
    weight = weights(logged, clip)
    terms = predicted.target + weight * (logged.reward - predicted.logged)
    return _value(logged, terms, np.ones_like(weight), weight, confidence, resamples, seed)


def _value(
    logged: Logged, top: Floats, bottom: Floats, weight: Floats, confidence: float, resamples: int, seed: int
) -> PolicyValue:
    effective = effective_sample_size(weight)
    if logged.units is not None:
        _, unit = np.unique(logged.units, return_inverse=True)
        top, bottom = (np.bincount(unit, part).astype(np.float64) for part in (top, bottom))
    if not bottom.sum():
        return PolicyValue(Interval(np.nan, -np.inf, np.inf), effective)
    value = float(top.sum() / bottom.sum())
    ends = (
        _bootstrap(top, bottom, confidence, resamples, seed)
        if resamples
        else _normal(top, bottom, confidence)
    )
    return PolicyValue(Interval(value, *ends), effective)


def _normal(top: Floats, bottom: Floats, confidence: float) -> tuple[float, float]:
    """Take the interval from the variance of the ratio's linear terms."""
    n, value = len(top), float(top.sum() / bottom.sum())
    if n < 2:
        return -np.inf, np.inf
    terms = (top - value * bottom) / bottom.mean()
    half = stats.norm.ppf((1 + confidence) / 2) * float(np.sqrt((terms**2).sum() / (n - 1) / n))
    return value - half, value + half


def _bootstrap(
    top: Floats, bottom: Floats, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Take the percentiles over resampled units."""
    found = np.fromiter(_resampled(top, bottom, resamples, seed), dtype=np.float64, count=resamples)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(found, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(top: Floats, bottom: Floats, resamples: int, seed: int) -> Iterator[float]:
    rng, n = np.random.default_rng(seed), len(top)
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        below = float(times @ bottom)
        yield float(times @ top) / below if below else np.nan
