"""Ranking measures against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.learning.measures import (
    CoverageOf,
    MeanOf,
    RatioOf,
    ndcg_of_lists,
    ndcg_of_rows,
    recall_of_lists,
)


def looped_ndcg(relevant: list[bool], positives: int, k: int) -> float:
    gained = sum(hit / np.log2(place + 2) for place, hit in enumerate(relevant[:k]))
    return gained / sum(1 / np.log2(place + 2) for place in range(min(positives, k)))


def test_ndcg_of_lists_is_the_loop() -> None:
    rng = np.random.default_rng(1)
    relevant = rng.random((50, 12)) < 0.2
    positives = relevant.sum(axis=1) + rng.integers(0, 5, 50)
    found = ndcg_of_lists(relevant, positives, 10)
    for row, wanted, value in zip(relevant.tolist(), positives.tolist(), found.tolist(), strict=True):
        assert np.isnan(value) if wanted == 0 else value == pytest.approx(looped_ndcg(row, wanted, 10))


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_ndcg_of_rows_is_scikit_learns_even_with_ties(k: int) -> None:
    from sklearn.metrics import ndcg_score

    rng = np.random.default_rng(2)
    groups = np.sort(rng.integers(0, 30, 600))
    scores = rng.integers(0, 6, 600) / 6.0
    labels = (rng.random(600) < 0.3).astype(float)
    mixed = rng.permutation(600)
    found = ndcg_of_rows(groups[mixed], scores[mixed], labels[mixed], k)
    for group in range(30):
        rows = groups == group
        if rows.sum() > 1 and labels[rows].any():
            assert found[group] == pytest.approx(ndcg_score([labels[rows]], [scores[rows]], k=k))
        elif not labels[rows].any():
            assert np.isnan(found[group])


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.randoms())
def test_ndcg_is_one_for_the_best_order_and_never_more(labels: list[bool], chance: object) -> None:
    truth = np.array(labels, dtype=float)
    groups = np.zeros(len(truth), dtype=np.int64)
    if truth.any():
        assert ndcg_of_rows(groups, truth, truth, 10)[0] == pytest.approx(1.0)
        other = np.random.default_rng(len(labels)).random(len(truth))
        assert 0 <= ndcg_of_rows(groups, other, truth, 10)[0] <= 1 + 1e-12


def test_recall_counts_what_the_list_holds() -> None:
    hits = np.array([[True, False, True], [False, False, False], [False, False, False]])
    assert recall_of_lists(hits, np.array([4, 2, 0])).tolist()[:2] == [0.5, 0.0]
    assert np.isnan(recall_of_lists(hits, np.array([4, 2, 0]))[2])


def test_a_weighted_mean_is_the_mean_of_repeated_units() -> None:
    rng = np.random.default_rng(3)
    values, weights = rng.random(20), rng.integers(0, 4, (5, 20))
    found = MeanOf(np.arange(20), values).estimate(weights)
    assert found == pytest.approx([np.repeat(values, row).mean() for row in weights])
    assert MeanOf(np.arange(20), values).estimate() == pytest.approx(values.mean())


def test_a_ratio_divides_sums_not_means_of_ratios() -> None:
    ratio = RatioOf(np.arange(2), np.array([1.0, 1.0]), np.array([1.0, 3.0]))
    assert ratio.estimate() == pytest.approx(0.5)
    assert ratio.estimate(np.array([[0, 2], [1, 0]])) == pytest.approx([1 / 3, 1.0])


def test_coverage_counts_each_item_once_and_no_empty_place() -> None:
    lists = np.array([[0, 1], [1, -1], [4, 0]])
    coverage = CoverageOf(np.arange(3), lists, 10)
    assert coverage.estimate() == pytest.approx(0.3)
    assert coverage.estimate(np.array([0, 5, 0])) == pytest.approx(0.1)
