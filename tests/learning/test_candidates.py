"""Candidate lists against sorting, and fusion against its formula."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.learning.candidates import fuse, top_k


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 40))
def test_top_k_is_a_stable_sort_cut_off(seed: int, k: int, columns: int) -> None:
    scores = np.random.default_rng(seed).integers(0, 4, (3, columns)).astype(float)
    scores[scores == 0] = -np.inf
    for row, found in zip(scores, top_k(scores, k), strict=True):
        order = [item for item in np.argsort(-row, kind="stable") if row[item] > -np.inf][:k]
        assert found[: len(order)].tolist() == order
        assert (found[len(order) :] == -1).all()


def test_fusion_adds_reciprocal_ranks() -> None:
    first = np.array([[2, 0, -1]])
    second = np.array([[0, 3, 2]])
    # 0: 1/62 + 1/61, 2: 1/61 + 1/63, 3: 1/62; 1 stands in no list.
    assert fuse([first, second], 4, 4).tolist() == [[0, 2, 3, -1]]


def test_empty_places_of_a_list_earn_nothing() -> None:
    assert fuse([np.array([[-1, -1], [1, -1]])], 3, 2).tolist() == [[-1, -1], [1, -1]]
