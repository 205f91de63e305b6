"""Properties of re-ranking that hold for any list."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.learning.rerank import marginal_relevance, refresh

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 30), st.integers(1, 12), st.floats(0, 3))
def test_marginal_relevance_chooses_k_different_items_and_starts_with_the_best(
    seed: int, n: int, k: int, trade: float
) -> None:
    rng = np.random.default_rng(seed)
    scores, vectors = rng.random(n), rng.standard_normal((n, 4))
    found = marginal_relevance(scores, vectors, k, trade)
    assert len(found) == min(n, k) == len(set(found.tolist()))
    assert found[0] == np.argmax(scores)


@given(SEEDS, st.integers(1, 30), st.integers(1, 12))
def test_without_a_trade_it_is_a_sort(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, n).astype(float)
    found = marginal_relevance(scores, rng.standard_normal((n, 3)), k, 0.0)
    assert found.tolist() == np.argsort(-scores, kind="stable")[:k].tolist()


def test_each_step_is_the_greedy_one() -> None:
    rng = np.random.default_rng(6)
    scores, vectors = rng.random(15), rng.standard_normal((15, 3))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    taken: list[int] = []
    for item in marginal_relevance(scores, vectors, 6, 0.7).tolist():
        worth = [
            -np.inf
            if other in taken
            else scores[other] - 0.7 * max([0.0, *(unit[other] @ unit[each] for each in taken)])
            for other in range(15)
        ]
        assert item == int(np.argmax(worth))
        taken.append(item)


def test_a_copy_of_the_best_waits_for_something_else() -> None:
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert marginal_relevance(np.array([1.0, 0.99, 0.5]), vectors, 3, 1.0).tolist() == [0, 2, 1]


@given(SEEDS, st.integers(0, 30), st.integers(1, 10), st.integers(0, 5))
def test_refresh_keeps_length_order_and_as_many_fresh_as_there_are(
    seed: int, n: int, k: int, places: int
) -> None:
    rng = np.random.default_rng(seed)
    ranked, fresh = rng.permutation(n), rng.random(n) < 0.3
    found = refresh(ranked, fresh, k, places)
    assert len(found) == min(n, k) == len(set(found.tolist()))
    had = int(fresh[ranked[:k]].sum())
    assert int(fresh[found].sum()) == max(had, min(places, len(found), int(fresh.sum())))
    rank = {item: place for place, item in enumerate(ranked.tolist())}
    order = [rank[item] for item in found.tolist()]
    assert order == sorted(order)
