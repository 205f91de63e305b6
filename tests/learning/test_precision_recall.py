"""PR-AUC, recall at a precision, F1 and thresholds: against their definitions, and under weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.learning.precision_recall import (
    AveragePrecisionOf,
    F1Of,
    Ranking,
    RecallAtPrecisionOf,
    threshold_at_best_f1,
    threshold_at_precision,
)

ROWS = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(1, 3)), min_size=1, max_size=25)


def points(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[tuple[float, float]]:
    """Compute (precision, recall) at each threshold, highest first, from the definition."""
    found = []
    for at in sorted(set(scores.tolist()), reverse=True):
        above = scores >= at
        hits = (weights * labels * above).sum()
        found.append((hits / (weights * above).sum(), hits / (weights * labels).sum()))
    return found


def columns(rows: list[tuple[int, bool, int]]) -> list[np.ndarray]:
    return [np.array(each, dtype=float) for each in zip(*rows, strict=True)]


@given(ROWS)
def test_measures_are_their_definitions(rows: list[tuple[int, bool, int]]) -> None:
    scores, labels, weights = columns(rows)
    ranking, units = Ranking.of(scores, labels, weights), np.arange(len(rows))
    average = AveragePrecisionOf(units, (ranking,)).estimate()
    if not labels.any():
        assert np.isnan(average)
        return
    found = points(scores, labels, weights)
    steps = np.diff([0, *(recall for _, recall in found)])
    assert average == pytest.approx(sum(p * step for (p, _), step in zip(found, steps, strict=True)))
    recall = RecallAtPrecisionOf(units, ranking, 0.6).estimate()
    assert recall == pytest.approx(max([r for p, r in found if p >= 0.6], default=0.0))


@given(ROWS, st.integers(0, 9))
def test_a_weight_is_a_row_repeated(rows: list[tuple[int, bool, int]], seed: int) -> None:
    scores, labels, weights = columns(rows)
    again = np.random.default_rng(seed).integers(0, 3, len(rows))
    many = [np.repeat(each, (again * weights).astype(int)) for each in (scores, labels)]
    units = np.arange(len(rows))
    ranking = Ranking.of(scores, labels, weights)
    whole = Ranking.of(*many, np.ones(len(many[0]))) if len(many[0]) else None
    for make in (lambda u, r: AveragePrecisionOf(u, (r,)), lambda u, r: RecallAtPrecisionOf(u, r, 0.5)):
        alone, together = (make(units, ranking).estimate(each) for each in (again, np.stack([again, again])))
        expected = make(np.arange(len(many[0])), whole).estimate() if whole is not None else np.nan
        np.testing.assert_allclose([alone, *together], [expected] * 3)


def test_macro_is_the_mean_over_outcomes() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random((2, 50)), (rng.random((2, 50)) < 0.3).astype(float)
    rankings = tuple(Ranking.of(*each, np.ones(50)) for each in zip(scores, labels, strict=True))
    single = [AveragePrecisionOf(np.arange(50), (each,)).estimate() for each in rankings]
    assert AveragePrecisionOf(np.arange(50), rankings).estimate() == pytest.approx(np.mean(single))


def test_no_order_of_tied_rows_can_win() -> None:
    labels = np.array([1.0, 0, 0, 1, 0])
    for order in (np.arange(5), np.arange(5)[::-1]):
        ranking = Ranking.of(np.zeros(5), labels[order], np.ones(5))
        assert AveragePrecisionOf(np.arange(5), (ranking,)).estimate() == pytest.approx(0.4)


def test_f1_is_its_definition() -> None:
    truth, named = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 1, 2, 0, 2])
    each = [0.5, 0.8, 0.8]
    units = np.arange(7)
    assert F1Of(units, truth, named, 3, "macro").estimate() == pytest.approx(np.mean(each))
    assert F1Of(units, truth, named, 3, "weighted").estimate() == pytest.approx(np.dot([2, 2, 3], each) / 7)
    for place in range(3):
        assert F1Of(units, truth, named, 3, place).estimate() == pytest.approx(each[place])
    weights = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 1, 1, 0, 1]])
    assert F1Of(units, truth, named, 3, "macro").estimate(weights) == pytest.approx([np.mean(each), 1.0])


def test_thresholds_keep_what_they_promise() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(4000)
    labels = (rng.random(4000) < scores**2).astype(float)
    weights = rng.uniform(1, 5, 4000)
    at = threshold_at_precision(scores, labels, weights, 0.8)
    assert at is not None
    for bar, enough in ((at, True), (np.sort(scores)[np.searchsorted(np.sort(scores), at) - 1], False)):
        above = scores >= bar
        assert ((weights * labels * above).sum() / (weights * above).sum() >= 0.8) == enough
    best = threshold_at_best_f1(scores, labels, weights)
    f1 = {bar: _f1(scores >= bar, labels, weights) for bar in (best, *np.linspace(0, 0.99, 34))}
    assert max(f1.values()) == pytest.approx(f1[best])


def test_no_threshold_is_made_up() -> None:
    ones = np.ones(30)
    assert threshold_at_precision(np.arange(30.0), np.zeros(30), ones, 0.5) is None
    few = (np.arange(30) >= 25).astype(float)
    assert threshold_at_precision(np.arange(30.0), few, ones, 0.9) is None  # five rows prove nothing
    assert threshold_at_precision(np.arange(30.0), few, ones, 0.9, least=5) == 25.0
    assert threshold_at_best_f1(np.arange(30.0), np.zeros(30), ones) == float("inf")


def _f1(named: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    hits = (weights * labels * named).sum()
    return float(2 * hits / ((weights * labels).sum() + (weights * named).sum()))
