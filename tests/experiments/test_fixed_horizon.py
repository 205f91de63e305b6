"""Fixed-horizon tests through tea-tasting: sizes that give their power, and A/A that finds nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from pipelines.experiments.declaration import Metric
from pipelines.experiments.fixed_horizon import compare_arms, false_positives, power_at, units_needed

SPENT = Metric(name="spent", numerator="spent")
BEFORE = Metric(name="spent", numerator="spent", covariate="before")
PER_VISIT = Metric(name="per_visit", numerator="spent", denominator="visits")


def users(units: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    taste = rng.normal(10, 2, units)
    visits = 1 + rng.poisson(3, units)
    spent = taste + rng.normal(0, 1, units)
    return pl.DataFrame({"spent": spent, "before": taste, "visits": visits})


def test_the_size_is_the_textbooks_and_gives_its_power() -> None:
    rows = users(20_000, 0)
    needed = units_needed(rows, SPENT, 0.2)
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert needed == pytest.approx(4 * rows["spent"].var() * (z / 0.2) ** 2, rel=0.01)
    assert power_at(rows, SPENT, 0.2, needed) == pytest.approx(0.8, abs=0.005)
    assert power_at(rows, SPENT, 0.2, needed // 2) < 0.6


def test_cuped_needs_fewer_units() -> None:
    rows = users(20_000, 1)
    assert units_needed(rows, BEFORE, 0.2) < 0.3 * units_needed(rows, SPENT, 0.2)


def test_a_difference_is_found_with_its_interval() -> None:
    rows = users(4000, 2).with_columns(arm=pl.Series(["champion", "challenger"] * 2000))
    lifted = rows.with_columns(spent=pl.col("spent") + 0.5 * (pl.col("arm") == "challenger"))
    found = compare_arms(lifted, [BEFORE, PER_VISIT], "champion")
    assert found["spent"].effect.low < 0.5 < found["spent"].effect.high
    assert found["spent"].p < 1e-6
    own = stats.ttest_ind(
        lifted.filter(pl.col("arm") == "challenger")["spent"],
        lifted.filter(pl.col("arm") == "champion")["spent"],
        equal_var=False,
    )
    assert compare_arms(lifted, [SPENT], "champion")["spent"].p == pytest.approx(own.pvalue, rel=1e-6)


def test_a_covariate_that_is_missing_counts_as_nothing() -> None:
    rows = users(400, 3).with_columns(
        arm=pl.Series(["a", "b"] * 200), before=pl.when(pl.col("before") > 9).then("before")
    )
    found = compare_arms(rows, [BEFORE], "a")["spent"].effect
    filled = compare_arms(rows.with_columns(pl.col("before").fill_null(0)), [BEFORE], "a")["spent"].effect
    # Not to the bit: sums depend on the order of threads.
    assert (found.low, found.high) == pytest.approx((filled.low, filled.high), rel=1e-9)


def test_an_a_a_finds_as_little_as_promised() -> None:
    found = false_positives(users(600, 4), PER_VISIT, runs=80, seed=5, alpha=0.1)
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 80, 0.1) / 80
    assert low <= found <= high
