"""Logistic regression finds the minimum that a general optimiser finds, and the truth where it can."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from pipelines.learning.logistic import fit_logistic


def drawn(seed: int, rows: int = 400, columns: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < 0.4)
    truth = rng.standard_normal((columns, 2))
    chance = 1 / (1 + np.exp(-(x @ truth + np.array([-1.0, 0.5]))))
    return x, chance, (rng.random(chance.shape) < chance).astype(float)


def loss(found: np.ndarray, x: np.ndarray, y: np.ndarray, w: np.ndarray, strength: float) -> float:
    logits = x @ found[:-1] + found[-1]
    return float(
        strength * (w * (np.logaddexp(0, logits) - y * logits)).sum() + 0.5 * (found[:-1] ** 2).sum()
    )


@pytest.mark.parametrize("strength", [0.1, 10.0])
def test_the_minimum_is_found(strength: float) -> None:
    x, chance, labels = drawn(1)
    targets = np.column_stack([labels[:, 0], chance[:, 1]])  # hard ones, and shares of votes
    weights = np.random.default_rng(2).uniform(0.5, 3, targets.shape)
    fitted = fit_logistic(csr_matrix(x), targets, weights, strength)
    for k in range(2):
        given = (x, targets[:, k], weights[:, k], strength)
        best = minimize(loss, np.zeros(13), args=given, method="BFGS").fun
        mine = np.append(fitted.weights[:, k], fitted.bias[k])
        assert loss(mine, *given) == pytest.approx(best, rel=1e-4)


def test_the_truth_is_found() -> None:
    x, chance, labels = drawn(3, rows=20_000)
    fitted = fit_logistic(csr_matrix(x), labels, np.ones_like(labels), 1.0)
    np.testing.assert_allclose(1 / (1 + np.exp(-fitted.logits(csr_matrix(x)))), chance, atol=0.1)


def test_each_outcome_is_fitted_by_itself() -> None:
    x, _, labels = drawn(4)
    both = fit_logistic(csr_matrix(x), labels, np.ones_like(labels), 2.0)
    one = fit_logistic(csr_matrix(x), labels[:, [1]], np.ones((len(x), 1)), 2.0)
    np.testing.assert_allclose(both.weights[:, 1], one.weights[:, 0], atol=1e-3)


def test_one_sided_labels_stay_finite() -> None:
    x, _, _ = drawn(5)
    fitted = fit_logistic(csr_matrix(x), np.zeros((len(x), 1)), np.ones((len(x), 1)), 10.0)
    assert np.isfinite(fitted.weights).all() and fitted.logits(csr_matrix(x)).max() < -5
