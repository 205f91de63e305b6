"""Tests at one moment named beforehand, through tea-tasting: Welch, ratios, CUPED, power and A/A.

They are for planning, and for experiments that are read once. What is looked at every day needs `sequences`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.experiments.declaration import Metric
from pipelines.experiments.interval import Interval

if TYPE_CHECKING:
    import tea_tasting as tt


@dataclass(frozen=True)
class Tested:
    """The difference (treatment minus control) with its interval, and the two-sided p-value."""

    effect: Interval
    p: float


def compare_arms(
    rows: pl.DataFrame, metrics: Sequence[Metric], control: str, confidence: float = 0.95
) -> Mapping[str, Tested]:
    """Compare two arms by Welch's test: `rows` has one row a unit, with its `arm` and the metrics' columns."""
    found = _experiment(metrics, confidence_level=confidence).analyze(_filled(rows, metrics), control=control)
    return {
        metric.name: Tested(
            Interval(
                float(found[metric.name].effect_size),
                float(found[metric.name].effect_size_ci_lower),
                float(found[metric.name].effect_size_ci_upper),
            ),
            float(found[metric.name].pvalue),
        )
        for metric in metrics
    }


def units_needed(
    rows: pl.DataFrame, metric: Metric, effect: float, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Size a test, both arms together and equal, from past `rows`: one a unit, without arms."""
    solved = _metric(metric, effect_size=effect, alpha=alpha, power=power).solve_power(
        _filled(rows, [metric]), "n_obs"
    )
    return math.ceil(solved[0].n_obs)


def power_at(rows: pl.DataFrame, metric: Metric, effect: float, units: int, alpha: float = 0.05) -> float:
    """Foresee the power of a test with `units` in both arms together, from past `rows`."""
    asked = _metric(metric, effect_size=effect, alpha=alpha, n_obs=units)
    return float(asked.solve_power(_filled(rows, [metric]), "power")[0].power)


def false_positives(rows: pl.DataFrame, metric: Metric, runs: int, seed: int, alpha: float = 0.05) -> float:
    """Split past `rows` at random `runs` times (A/A) and return the share of tests that found a difference."""
    found = _experiment([metric]).simulate(_filled(rows, [metric]), runs, rng=seed).to_polars()
    return float((found["pvalue"] < alpha).mean())


def _experiment(metrics: Sequence[Metric], **options: Any) -> tt.Experiment:
    import tea_tasting as tt  # late: it takes seconds to import

    return tt.Experiment({metric.name: _metric(metric, **options) for metric in metrics}, variant="arm")


def _metric(metric: Metric, **options: Any) -> tt.Mean | tt.RatioOfMeans:
    import tea_tasting as tt

    if metric.denominator is None and metric.covariate_denominator is None:
        return tt.Mean(metric.numerator, metric.covariate, **options)
    return tt.RatioOfMeans(
        metric.numerator, metric.denominator, metric.covariate, metric.covariate_denominator, **options
    )


def _filled(rows: pl.DataFrame, metrics: Sequence[Metric]) -> pl.DataFrame:
    """Count a covariate that is null as 0, as `moments.read_outcomes` does."""
    names = {name for metric in metrics for name in (metric.covariate, metric.covariate_denominator) if name}
    return rows.with_columns(pl.col(sorted(names)).fill_null(0)) if names else rows
