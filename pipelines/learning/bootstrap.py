"""Paired bootstrap over exchangeable units: one set of draws, shared by everything that is compared."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pipelines.case_study import Statistic

BLOCK_CELLS = 250_000
"""Weights held at once, units times resamples: few enough to stay in a core's cache from one statistic to the next."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and the number of units it rests on."""

    value: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float | int | None]:
        """Return `{value, low, high, n}`; a figure that does not exist is null, never NaN."""
        return {
            "value": _finite(self.value),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "n": self.n,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Estimate:
        """Read what `as_json` wrote."""
        value, low, high = (
            math.nan if content[key] is None else float(content[key]) for key in ("value", "low", "high")
        )
        return cls(value, low, high, int(content["n"]))


@dataclass(frozen=True)
class Resampled:
    """A statistic on the units as they are, and on each resample: shape (resamples,)."""

    value: float
    replicates: np.ndarray
    n: int

    def __sub__(self, other: Resampled) -> Resampled:
        """Subtract in pairs: both must come from the same draws."""
        if self.replicates.shape != other.replicates.shape:
            raise ValueError("only statistics on the same draws can be subtracted in pairs")
        n = min(self.n, other.n)
        return Resampled(self.value - other.value, self.replicates - other.replicates, n)

    def estimate(self, confidence: float) -> Estimate:
        """Take the percentile interval of the resamples in which the statistic exists.

        The resamples are first centred on the value. It changes nothing for a mean; but a statistic that
        counts distinct things (a coverage) is always smaller on a resample, which repeats some units, and
        its interval would lie below its value.
        """
        known = self.replicates[np.isfinite(self.replicates)]
        if not known.size or not math.isfinite(self.value):
            return Estimate(self.value, math.nan, math.nan, self.n)
        known = known - known.mean() + self.value
        tail = (1 - confidence) / 2
        low, high = np.quantile(known, [tail, 1 - tail])
        return Estimate(self.value, float(low), float(high), self.n)


def resample(
    statistics: Mapping[Key, tuple[Statistic, np.ndarray | None]], resamples: int, seed: int
) -> dict[Key, Resampled]:
    """Resample statistics that share their units, each over all units or a mask of them (a slice).

    Every statistic sees the same multinomial weights, so that differences pair up. The weights
    depend on the seed and the number of units alone. A statistic whose `estimate` accepts weights of
    shape (resamples, units) and returns (resamples,) says so by a true `vectorised` attribute.
    """
    if not statistics:
        return {}
    sizes = {len(statistic.units) for statistic, _ in statistics.values()}
    if len(sizes) > 1:
        raise ValueError(f"statistics over {sorted(sizes)} units cannot share their draws")
    size = sizes.pop()
    parts: dict[Key, list[np.ndarray]] = {key: [] for key in statistics}
    # Scorers share their slices' masks: taken one after the other, each is laid on the weights once.
    ordered = sorted(statistics.items(), key=lambda item: id(item[1][1]))
    for weights in _weights(size, resamples, seed):
        last, drawn = None, weights
        for key, (statistic, mask) in ordered:
            if mask is not last:
                last, drawn = mask, weights if mask is None else weights * mask
            parts[key].append(_replicate(statistic, drawn))
    return {
        key: Resampled(
            float(statistic.estimate(None if mask is None else mask.astype(float))) if size else math.nan,
            np.concatenate(parts[key]) if parts[key] else np.empty(0),
            size if mask is None else int(mask.sum()),
        )
        for key, (statistic, mask) in statistics.items()
    }


def _weights(size: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks of multinomial counts, shape (some, size); blocks change nothing but memory."""
    if not size:
        return
    generator = np.random.default_rng(seed)
    block = max(1, BLOCK_CELLS // size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        weights = np.empty((rows, size))
        for row in weights:
            row[:] = np.bincount(generator.integers(0, size, size), minlength=size)
        yield weights


def _replicate(statistic: Statistic, weights: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        if getattr(statistic, "vectorised", False):
            return np.asarray(statistic.estimate(weights), dtype=float)
        return np.array([statistic.estimate(row) for row in weights], dtype=float)


def _finite(value: float) -> float | None:
    return round(value, 12) if math.isfinite(value) else None
