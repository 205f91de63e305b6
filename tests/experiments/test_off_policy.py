"""Off-policy estimates against a known truth: a small bandit with contexts, logged by one policy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.errors import DataError
from pipelines.experiments.off_policy import (
    Logged,
    PolicyValue,
    Predicted,
    doubly_robust,
    effective_sample_size,
    inverse_propensity,
    self_normalised,
)

REWARD = np.array([[0.1, 0.4, 0.2, 0.3], [0.5, 0.1, 0.3, 0.2], [0.2, 0.2, 0.6, 0.1]])
LOGGING = np.array([[0.4, 0.1, 0.3, 0.2], [0.1, 0.4, 0.25, 0.25], [0.4, 0.3, 0.1, 0.2]])
TARGET = np.array([[0.05, 0.8, 0.05, 0.1], [0.7, 0.1, 0.1, 0.1], [0.1, 0.0, 0.8, 0.1]])
TRUTH = float((TARGET * REWARD).sum(axis=1).mean())
WRONG = REWARD[:, ::-1].copy()


def drawn(n: int, seed: int) -> tuple[Logged, np.ndarray, np.ndarray]:
    """Log n rows of the bandit; return them with their contexts and actions."""
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 3, n)
    action = (rng.random(n)[:, None] > LOGGING[context].cumsum(axis=1)).sum(axis=1).clip(max=3)
    reward = (rng.random(n) < REWARD[context, action]).astype(float)
    return Logged(reward, LOGGING[context, action], TARGET[context, action]), context, action


def robust(n: int, seed: int, model: np.ndarray) -> PolicyValue:
    logged, context, action = drawn(n, seed)
    return doubly_robust(logged, Predicted(model[context, action], (TARGET * model).sum(axis=1)[context]))


ESTIMATORS: dict[str, Callable[[int, int], PolicyValue]] = {
    "ips": lambda n, seed: inverse_propensity(drawn(n, seed)[0]),
    "snips": lambda n, seed: self_normalised(drawn(n, seed)[0]),
    "dr, right model": lambda n, seed: robust(n, seed, REWARD),
    "dr, wrong model": lambda n, seed: robust(n, seed, WRONG),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased_with_intervals_that_cover(name: str) -> None:
    values = [ESTIMATORS[name](1500, seed).reward for seed in range(600)]
    estimates = np.array([value.value for value in values])
    assert abs(estimates.mean() - TRUTH) < 4 * estimates.std() / np.sqrt(len(values))
    covered = np.mean([value.low <= TRUTH <= value.high for value in values])
    assert 0.92 <= covered <= 0.975


def test_a_right_model_and_self_normalising_narrow_the_interval() -> None:
    def width(name: str) -> float:
        reward = ESTIMATORS[name](20_000, 1).reward
        return reward.high - reward.low

    assert width("dr, right model") < width("snips") < width("ips")


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    logged = drawn(5000, 3)[0]
    normal, bootstrap = self_normalised(logged).reward, self_normalised(logged, resamples=2000, seed=1).reward
    assert bootstrap.value == normal.value
    assert bootstrap.high - bootstrap.low == pytest.approx(normal.high - normal.low, rel=0.08)


def test_clipping_gives_up_value_for_a_larger_effective_sample() -> None:
    logged = drawn(20_000, 4)[0]
    plain, clipped = inverse_propensity(logged), inverse_propensity(logged, clip=2)
    assert clipped.effective > plain.effective
    assert clipped.reward.high < TRUTH
    assert clipped.reward.high - clipped.reward.low < plain.reward.high - plain.reward.low


def test_the_logging_policy_estimates_itself_as_its_mean() -> None:
    logged = drawn(1000, 5)[0]
    own = Logged(logged.reward, logged.propensity, logged.propensity)
    assert inverse_propensity(own).reward.value == pytest.approx(logged.reward.mean())
    assert inverse_propensity(own).effective == pytest.approx(1000)


def test_rows_of_one_unit_count_once() -> None:
    logged = drawn(800, 6)[0]
    twice = [np.repeat(column, 2) for column in (logged.reward, logged.propensity, logged.target)]
    units = np.repeat(np.arange(800), 2)
    for estimate in (inverse_propensity, self_normalised):
        once, blind, told = estimate(logged), estimate(Logged(*twice)), estimate(Logged(*twice, units=units))
        assert told.reward.value == pytest.approx(once.reward.value)
        assert told.reward.high == pytest.approx(once.reward.high)
        assert blind.reward.high < once.reward.high


def test_effective_sample_size() -> None:
    assert effective_sample_size(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_sample_size(np.array([1.0, 0, 0])) == pytest.approx(1)
    assert effective_sample_size(np.zeros(3)) == 0


def test_a_target_that_was_never_logged_is_not_known() -> None:
    found = self_normalised(Logged(np.ones(3), np.full(3, 0.5), np.zeros(3)))
    assert found.effective == 0 and found.reward.as_json() == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize(
    "reward, propensity, target",
    [
        ([1.0], [0.0], [0.5]),
        ([1.0], [1.5], [0.5]),
        ([np.nan], [0.5], [0.5]),
        ([1.0], [0.5], [2.0]),
        ([], [], []),
    ],
)
def test_what_is_no_log_is_refused(reward: list[float], propensity: list[float], target: list[float]) -> None:
    with pytest.raises(DataError):
        Logged(np.array(reward), np.array(propensity), np.array(target))
