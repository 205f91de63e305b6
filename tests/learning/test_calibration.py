"""Calibration mends what is wrong, trusts what is shown, and answers the rate where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.learning.calibration import Calibration, fit_calibration, logit, sigmoid

RATE = 0.06


def truth(count: int, seed: int = 0, spread: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = logit(RATE) + spread * rng.standard_normal(count)
    return logits, (rng.random(count) < sigmoid(logits)).astype(float)


def test_an_overconfident_model_is_mended() -> None:
    logits, labels = truth(200_000)
    found = fit_calibration(2.5 * (logits - logit(RATE)) + logit(RATE) + 0.5, labels, RATE)
    assert found.slope == pytest.approx(0.4, abs=0.02)
    assert found.level == pytest.approx(-0.2, abs=0.03)
    assert found.trust > 0.99
    predicted = found.apply(2.5 * (logits - logit(RATE)) + logit(RATE) + 0.5)
    assert predicted.mean() == pytest.approx(labels.mean(), rel=0.01)
    assert np.abs(predicted - sigmoid(logits)).mean() < 0.002


def test_noise_becomes_the_rate() -> None:
    kept = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = (rng.random(3000) < RATE).astype(float)
        found = fit_calibration(logit(RATE) + rng.standard_normal(3000), labels, RATE)
        predicted = found.apply(logit(RATE) + rng.standard_normal(3000))
        kept.append(found.trust > 0)
        if found.trust == 0:
            assert (predicted == RATE).all(), "to the last bit"
    assert np.mean(kept) < 0.05


def test_a_model_upside_down_is_not_turned_over() -> None:
    logits, labels = truth(50_000)
    found = fit_calibration(2 * logit(RATE) - logits, labels, RATE)
    assert found.slope == 0
    assert np.ptp(found.apply(logits)) == 0


def test_rows_without_a_click_do_not_say_never() -> None:
    found = fit_calibration(np.full(1000, logit(0.005)), np.zeros(1000), 0.005)
    assert found.apply(np.full(1, logit(0.005)))[0] > 0.001


def test_it_reads_what_it_wrote_and_says_what_it_does() -> None:
    found = fit_calibration(*truth(5000), RATE)
    assert Calibration.from_json(found.as_json()) == found
    assert "slope" in found.words() and "the rate itself" not in found.words()
    noise = Calibration(RATE, 0.1, 0.2, 0.0, 1.2, 500)
    assert "no more than chance" in noise.words()
