"""Exploration: slates hold nothing twice, and propensities are how often it really happens."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.case_study import Answer
from pipelines.errors import UsageError
from pipelines.serving.explore import explore


def answers(n: int, m: int, depth: int) -> Answer:
    ranked = np.full((n, depth), -1, dtype=np.int64)
    ranked[:, : min(depth, m)] = np.arange(min(depth, m))
    return Answer(pl.DataFrame({"item_id": [f"i{each}" for each in range(m)]}), ranked, -ranked.astype(float))


@given(st.integers(0, 8), st.integers(1, 12), st.integers(1, 6), st.floats(0, 1), st.integers(0, 2**32))
def test_an_answer_holds_nothing_twice_and_every_place_its_propensity(
    n: int, m: int, places: int, share: float, seed: int
) -> None:
    found = explore(answers(n, m, places + 2), places, share, np.random.default_rng(seed))
    assert found.items.shape == found.propensity.shape == found.scores.shape == (n, places)
    for row in found.items:
        shown = row[row >= 0]
        assert len(set(shown)) == len(shown) == min(places, m)
    assert ((found.propensity > 0) == (found.items >= 0)).all() or share in (0.0, 1.0)
    assert np.isnan(found.scores[~found.own]).all()
    if share == 0.0:
        assert (found.propensity[found.items >= 0] == 1.0).all()
        assert not found.explored.any()


def test_propensities_are_frequencies() -> None:
    n, m, share = 40_000, 5, 0.4
    found = explore(answers(n, m, 3), 3, share, np.random.default_rng(7))
    for place in range(3):
        seen = np.bincount(found.items[:, place], minlength=m) / n
        expected = np.full(m, share / m)
        expected[place] += 1 - share
        assert np.abs(seen - expected).max() < 4 * np.sqrt(0.25 / n)
        told = {
            int(item): chance
            for item, chance in zip(found.items[:, place], found.propensity[:, place], strict=True)
        }
        np.testing.assert_allclose([told[item] for item in range(m)], expected)


def test_inverse_propensities_recover_what_any_other_policy_would_have_earned() -> None:
    n, m = 60_000, 6
    reward = np.linspace(0.0, 1.0, m)
    found = explore(answers(n, m, 1), 1, 0.5, np.random.default_rng(3))
    earned = np.random.default_rng(4).random(n) < reward[found.items[:, 0]]
    target = 5  # the policy that always shows the best item, which the logging policy rarely does
    weights = (found.items[:, 0] == target) / found.propensity[:, 0]
    assert abs((weights * earned).mean() - reward[target]) < 0.05


def test_chances_of_their_own_are_drawn_and_logged() -> None:
    chances = np.array([0.0, 0.2, 0.8])
    answer = answers(20_000, 3, 1)
    found = explore(
        Answer(answer.pool, answer.ranked, answer.scores, chances), 1, 0.5, np.random.default_rng(1)
    )
    seen = np.bincount(found.items[:, 0], minlength=3) / 20_000
    assert np.abs(seen - [0.5, 0.1, 0.4]).max() < 0.02
    with pytest.raises(UsageError, match="one place"):
        explore(Answer(answer.pool, answer.ranked, answer.scores, chances), 2, 0.5, np.random.default_rng(1))
