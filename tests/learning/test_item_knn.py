"""Sparse neighbours against a dense computation of the same formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from pipelines.learning import item_knn
from pipelines.learning.item_knn import neighbours


def dense(watched: np.ndarray, k: int, shrinkage: float) -> np.ndarray:
    activity = watched.sum(axis=1)
    weighted = watched / np.log2(2 + activity)[:, None]
    norm = np.sqrt((weighted**2).sum(axis=0))
    mean = np.mean(1 / np.log2(2 + activity[activity > 0]) ** 2)
    similar = (weighted.T @ weighted) / (norm[:, None] * norm[None, :] + shrinkage * mean + 1e-300)
    np.fill_diagonal(similar, 0)
    for row in similar:
        row[np.argsort(-row, kind="stable")[k:]] = 0
    return similar


@pytest.mark.parametrize(("k", "shrinkage"), [(3, 0.0), (5, 10.0), (100, 2.0)])
def test_neighbours_are_the_dense_ones(monkeypatch: pytest.MonkeyPatch, k: int, shrinkage: float) -> None:
    monkeypatch.setattr(item_knn, "_BLOCK", 7)  # several blocks, the last one short
    watched = (np.random.default_rng(4).random((60, 23)) < 0.15).astype(float)
    watched[:, 5] = 0
    (found,) = neighbours(csr_matrix(watched), k, shrinkage)
    assert found.toarray() == pytest.approx(dense(watched, k, shrinkage))
    assert np.diff(found.indptr).max() <= k


def test_the_order_of_users_does_not_matter() -> None:
    watched = (np.random.default_rng(5).random((40, 12)) < 0.3).astype(float)
    (one,), (other,) = (neighbours(csr_matrix(rows), 4, 1.0) for rows in (watched, watched[::-1]))
    assert one.toarray() == pytest.approx(other.toarray())


def test_nothing_watched_has_no_neighbours() -> None:
    assert [found.nnz for found in neighbours(csr_matrix((3, 4)), 2, 1.0, 0.5)] == [0, 0]


def test_a_second_shrinkage_speaks_of_the_pairs_that_the_first_chose() -> None:
    watched = (np.random.default_rng(6).random((50, 15)) < 0.2).astype(float)
    first, second = neighbours(csr_matrix(watched), 3, 5.0, 0.0)
    assert (first.indices == second.indices).all() and (first.indptr == second.indptr).all()
    kept = first.toarray() > 0
    assert second.toarray()[kept] == pytest.approx(dense(watched, 100, 0.0)[kept])
