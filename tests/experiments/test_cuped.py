"""Moments that add up, and differences that agree with the textbook, with tea-tasting, and with simulation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipelines.errors import DataError
from pipelines.experiments.cuped import compare
from pipelines.experiments.declaration import Metric
from pipelines.experiments.fixed_horizon import compare_arms
from pipelines.experiments.moments import Moments, read_outcomes

MEAN = Metric(name="m", numerator="clicks")
RATIO = Metric(name="m", numerator="clicks", denominator="impressions")
MEAN_BEFORE = Metric(name="m", numerator="clicks", covariate="clicks_before")
RATIO_BEFORE = Metric(
    name="m",
    numerator="clicks",
    denominator="impressions",
    covariate="clicks_before",
    covariate_denominator="impressions_before",
)


def users(units: int, seed: int, lift: float = 0.0) -> pl.DataFrame:
    """Draw users with a click rate of their own, seen before and during the experiment."""
    rng = np.random.default_rng(seed)
    rate = rng.beta(0.6, 3, units)
    impressions, before = 1 + rng.poisson(10, units), 1 + rng.poisson(10, units)
    treated = rng.random(units) < 0.5
    return pl.DataFrame(
        {
            "arm": np.where(treated, "challenger", "champion"),
            "clicks": rng.binomial(impressions, np.minimum(rate * (1 + lift * treated), 1)),
            "impressions": impressions,
            "clicks_before": rng.binomial(before, rate),
            "impressions_before": before,
        }
    )


def moments(rows: pl.DataFrame, metric: Metric, arm: str) -> Moments:
    return Moments.of(read_outcomes(rows.filter(pl.col("arm") == arm), metric))


@given(st.integers(0, 30), st.integers(0, 30), st.floats(-1e6, 1e6))
def test_moments_of_parts_add_up_to_those_of_the_whole(first: int, second: int, far: float) -> None:
    outcomes = far + np.random.default_rng(first * 31 + second).normal(size=(first + second, 4))
    joined, whole = Moments.of(outcomes[:first]) + Moments.of(outcomes[first:]), Moments.of(outcomes)
    assert joined.n == whole.n
    np.testing.assert_allclose(joined.mean, whole.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(joined.spread, whole.spread, rtol=1e-6, atol=1e-6)


def test_many_experiments_are_one_array() -> None:
    outcomes = np.random.default_rng(0).normal(2, 1, size=(5, 3, 40, 4))
    many = Moments.of(outcomes)
    one = Moments.of(outcomes[4, 1])
    np.testing.assert_allclose(many[4, 1].spread, one.spread)
    assert compare(many, many).error.shape == (5, 3)
    np.testing.assert_allclose(compare(many, many).error[4, 1], compare(one, one).error)


@pytest.mark.parametrize("metric", [MEAN, RATIO])
def test_without_covariate_it_is_welchs_test(metric: Metric) -> None:
    rows = users(4000, 1, lift=0.1)
    found = compare(moments(rows, metric, "champion"), moments(rows, metric, "challenger"))
    theirs = compare_arms(rows, [metric], "champion")["m"]
    assert float(found.value) == pytest.approx(theirs.effect.value, rel=1e-9)
    half = (theirs.effect.high - theirs.effect.low) / 2
    assert float(found.error) * stats.norm.ppf(0.975) == pytest.approx(half, rel=1e-3)  # they: Student's t


@pytest.mark.parametrize("metric", [MEAN_BEFORE, RATIO_BEFORE])
def test_with_covariate_it_agrees_with_tea_tasting(metric: Metric) -> None:
    rows = users(8000, 2, lift=0.1)
    found = compare(moments(rows, metric, "champion"), moments(rows, metric, "challenger"))
    theirs = compare_arms(rows, [metric], "champion")["m"]
    # They take one slope for both arms from all rows; ours weighs the arms by their size.
    assert float(found.value) == pytest.approx(theirs.effect.value, abs=0.05 * float(found.error))
    half = (theirs.effect.high - theirs.effect.low) / 2
    assert float(found.error) * stats.norm.ppf(0.975) == pytest.approx(half, rel=5e-3)


@pytest.mark.parametrize("plain, adjusted", [(MEAN, MEAN_BEFORE), (RATIO, RATIO_BEFORE)])
def test_the_error_is_the_spread_over_experiments_and_cuped_makes_it_smaller(
    plain: Metric, adjusted: Metric
) -> None:
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "adjusted": []}
    for seed in range(300):
        rows = users(1000, 100 + seed)
        for name, metric in (("plain", plain), ("adjusted", adjusted)):
            difference = compare(moments(rows, metric, "champion"), moments(rows, metric, "challenger"))
            found[name].append((float(difference.value), float(difference.error)))
    for values in found.values():
        differences, errors = np.array(values).T
        assert errors.mean() == pytest.approx(differences.std(), rel=0.15)
        assert abs(differences.mean()) < 4 * differences.std() / np.sqrt(300)
    assert np.std(found["adjusted"], axis=0)[0] < 0.85 * np.std(found["plain"], axis=0)[0]


@pytest.mark.parametrize("plain, adjusted", [(MEAN, MEAN_BEFORE), (RATIO, RATIO_BEFORE)])
def test_a_past_that_nobody_has_changes_nothing(plain: Metric, adjusted: Metric) -> None:
    nothing = pl.lit(None, dtype=pl.Int64)
    rows = users(1000, 3).with_columns(clicks_before=nothing, impressions_before=nothing)
    without, found = (
        compare(moments(rows, metric, "champion"), moments(rows, metric, "challenger"))
        for metric in (plain, adjusted)
    )
    assert (float(found.value), float(found.error)) == (float(without.value), float(without.error))


def test_a_past_of_one_unit_an_arm_tells_nothing() -> None:
    """Its variance is nil; what rounding leaves of it is no divisor."""
    for seed in range(300):
        rng = np.random.default_rng(seed)
        arms = []
        for _ in range(2):
            impressions = 1.0 + rng.poisson(10, 200)
            clicks = rng.binomial(impressions.astype(int), 0.3)
            past = np.zeros((200, 2))
            before = int(rng.integers(7, 40))
            past[0] = rng.binomial(before, 0.3), before
            arms.append(np.column_stack([clicks, impressions, past]))
        plain = [Moments.of(np.column_stack([arm[:, :2], np.tile([0.0, 1.0], (200, 1))])) for arm in arms]
        found, without = compare(*map(Moments.of, arms)), compare(*plain)
        assert float(found.value) == pytest.approx(float(without.value)), seed


def test_too_few_units_are_nan_not_zero() -> None:
    one = Moments.of(np.array([[1.0, 1.0, 0.0, 1.0]]))
    assert np.isnan(compare(one, one).error)


def test_outcomes_that_are_not_known_are_refused_but_a_missing_past_is_none() -> None:
    rows = pl.DataFrame({"clicks": [1, None], "clicks_before": [1, None]})
    with pytest.raises(DataError, match="null or not finite"):
        read_outcomes(rows, MEAN)
    with pytest.raises(DataError, match="no column 'impressions'"):
        read_outcomes(rows[:1], RATIO)
    known = read_outcomes(rows.with_columns(clicks=pl.lit(2)), MEAN_BEFORE)
    assert known.tolist() == [[2, 1, 1, 1], [2, 1, 0, 1]]
