"""Always-valid intervals: the theorem's boundary, tightest where planned, and right at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from pipelines.experiments.cuped import Difference, compare
from pipelines.experiments.moments import Moments
from pipelines.experiments.sequences import boundary, half_width, inflation, tightest

alphas = st.floats(0.001, 0.2)


@given(alphas, st.floats(1, 1e6), st.floats(1, 1e6))
def test_it_is_the_boundary_of_the_theorem(alpha: float, t: float, planned: float) -> None:
    rho2 = tightest(alpha) / planned
    theirs = math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))
    assert float(boundary(np.array(t), planned, alpha)) / math.sqrt(t) == pytest.approx(theirs)


@given(alphas)
def test_it_is_tightest_at_the_planned_size(alpha: float) -> None:
    def width(log_scale: float) -> float:
        """Take the width at t = 1 for a plan of another size."""
        return float(boundary(np.array(1.0), math.exp(log_scale), alpha))

    best = optimize.minimize_scalar(width, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert best.x == pytest.approx(0, abs=1e-3)
    assert width(0) == pytest.approx(math.sqrt(tightest(alpha) + 1))
    assert width(0) > stats.norm.ppf(1 - alpha / 2)


def looks(runs: int, days: int, daily: int, seed: int, lift: float = 0.0) -> tuple[Difference, int]:
    """Compare skewed outcomes (0, or lognormal) on each day of many experiments: shape (runs, days)."""
    rng = np.random.default_rng(seed)
    joined: list[list[Moments]] = []
    for arm in (0.0, lift):
        shape = (runs, days, daily)
        values = np.broadcast_to([0.0, 1, 0, 1], (*shape, 4)).copy()
        values[..., 0] = rng.lognormal(0, 1, shape) * (rng.random(shape) < 0.3) + arm
        by_day = Moments.of(values)
        total, sums = by_day[:, 0], []
        sums.append(total)
        for day in range(1, days):
            total = total + by_day[:, day]
            sums.append(total)
        joined.append(sums)
    differences = [compare(*pair) for pair in zip(*joined, strict=True)]
    stacked = Difference(
        *(
            np.stack([getattr(d, part) for d in differences], axis=1)
            for part in ("value", "error", "information")
        )
    )
    return stacked, days * daily // 2


def test_a_look_every_day_errs_as_seldom_as_promised_where_a_z_test_does_not() -> None:
    difference, planned = looks(runs=600, days=20, daily=60, seed=0)
    outside = np.abs(difference.value) > half_width(difference, planned, 0.05)
    assert outside.any(axis=1).mean() <= 0.05
    peeked = np.abs(difference.value) > stats.norm.ppf(0.975) * difference.error
    assert peeked.any(axis=1).mean() > 0.15


def test_the_designed_size_has_its_power() -> None:
    alpha, power, lift = 0.05, 0.8, 0.25
    deviation = math.sqrt(0.3 * math.e**2 - 0.3**2 * math.e)
    fixed = 4 * ((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) * deviation / lift) ** 2
    daily = round(fixed * inflation(alpha, power) / 2 / 20)
    difference, planned = looks(runs=400, days=20, daily=daily, seed=1, lift=lift)
    assert difference.error[:, -1].mean() == pytest.approx(deviation * math.sqrt(2 / (daily * 20)), rel=0.1)
    found = difference.value > half_width(difference, planned, alpha)
    assert found.any(axis=1).mean() >= power
    assert found[:, -1].mean() == pytest.approx(power, abs=0.08)


def test_nothing_is_known_of_no_units() -> None:
    nothing = Moments.of(np.zeros((0, 4)))
    assert np.isnan(half_width(compare(nothing, nothing), 10, 0.05))
