"""Measures of probabilities against scikit-learn and plain loops, weighted and not."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.learning.bootstrap import resample
from pipelines.learning.probabilities import Auc, CalibrationError, NormalizedEntropy, log_losses


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return units, each row's unit, predictions with many ties, labels."""
    rng = np.random.default_rng(1)
    predicted = rng.integers(1, 12, 700) / 20
    labels = (rng.random(700) < predicted).astype(float)
    return np.arange(90), rng.integers(0, 90, 700), predicted, labels


def test_they_are_scikit_learns(rows) -> None:
    from sklearn.metrics import log_loss, roc_auc_score

    units, unit, predicted, labels = rows
    assert Auc(*rows).estimate() == pytest.approx(roc_auc_score(labels, predicted))
    constant = np.full(len(labels), labels.mean())
    wanted = log_loss(labels, predicted) / log_loss(labels, constant)
    assert NormalizedEntropy.of(*rows).estimate() == pytest.approx(wanted)
    assert NormalizedEntropy.of(units, unit, constant, labels).estimate() == pytest.approx(1.0)


def test_weights_are_repetitions(rows) -> None:
    """A unit of weight 3 counts as if its rows stood there three times; one at a time or all at once."""
    units, unit, predicted, labels = rows
    weights = np.random.default_rng(2).integers(0, 4, (5, len(units))).astype(float)
    for measure in (Auc, NormalizedEntropy.of, CalibrationError.of):
        statistic = measure(*rows)
        found = [statistic.estimate(each) for each in weights]
        if getattr(statistic, "vectorised", False):
            np.testing.assert_allclose(statistic.estimate(weights), found)
        if measure == CalibrationError.of:
            continue  # its bins are those of the whole sample
        for each, value in zip(weights, found, strict=True):
            again = np.repeat(np.arange(len(unit)), each[unit].astype(int))
            repeated = measure(units, unit[again], predicted[again], labels[again])
            assert value == pytest.approx(repeated.estimate())


def test_calibration_error_is_the_loop(rows) -> None:
    _, _, predicted, labels = rows
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, 11)[1:-1]))
    bins = np.searchsorted(edges, predicted)
    gaps = [abs((predicted - labels)[bins == each].sum()) for each in range(len(edges) + 1)]
    assert CalibrationError.of(*rows).estimate() == pytest.approx(sum(gaps) / len(labels))


def test_what_is_off_by_a_tenth_is_off_by_a_tenth(rows) -> None:
    units, unit, _, labels = rows
    assert CalibrationError.of(units, unit, np.full(len(unit), labels.mean() + 0.1), labels).estimate() == (
        pytest.approx(0.1)
    )


def test_one_label_alone_is_no_measure(rows) -> None:
    units, unit, predicted, labels = rows
    assert np.isnan(Auc(units, unit, predicted, np.zeros_like(labels)).estimate())
    assert np.isnan(NormalizedEntropy.of(units, unit, predicted, np.zeros_like(labels)).estimate())


def test_a_wrong_certainty_is_dear_but_finite() -> None:
    assert log_losses(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx([13.8, 13.8], abs=0.1)


def test_a_mask_shared_by_scorers_changes_nothing(rows) -> None:
    units, unit, predicted, labels = rows
    mask = units < 40
    one = NormalizedEntropy.of(*rows)
    other = NormalizedEntropy.of(units, unit, np.clip(predicted + 0.1, 0, 1), labels)
    both = resample({"a": (one, mask), "b": (one, None), "c": (other, mask)}, 50, 3)
    alone = resample({"c": (other, mask.copy())}, 50, 3)
    np.testing.assert_array_equal(both["c"].replicates, alone["c"].replicates)
    assert both["a"].n == 40 and both["b"].n == 90
