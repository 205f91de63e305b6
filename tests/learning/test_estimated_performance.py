"""What a model's own confidence leads to expect, held against what labels then say."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.learning.estimated_performance import EstimatedPerformance, estimate_performance
from pipelines.learning.probabilities import NormalizedEntropy

Floats = np.ndarray


def draw(
    rng: np.random.Generator, rows: int, level: float, spread: float = 1.0
) -> tuple[Floats, Floats, Floats]:
    """Draw logits, the probabilities they stand for, and labels."""
    logit = level + spread * rng.standard_normal(rows)
    chance = 1 / (1 + np.exp(-logit))
    return logit, chance, (rng.random(rows) < chance).astype(float)


def realised(chance: Floats, labels: Floats) -> float:
    rows = np.arange(len(labels))
    return NormalizedEntropy.of(rows, rows, chance, labels).estimate()


@pytest.mark.parametrize(("level", "spread"), [(-2.0, 1.0), (-2.0, 0.5), (-1.0, 1.0), (-1.5, 0.7)])
@pytest.mark.parametrize("distorted", [False, True])
def test_it_comes_near_to_what_labels_will_say(level: float, spread: float, distorted: bool) -> None:
    rng = np.random.default_rng(2)
    scores, _, labels = draw(rng, 8000, -2.0)
    newer, chance, outcome = draw(rng, 8000, level, spread)
    if distorted:  # scores need not be probabilities
        scores, newer = scores**3, newer**3
    found = estimate_performance(scores, labels, newer)
    assert found is not None
    assert found.now.value == pytest.approx(realised(chance, outcome), abs=0.025)
    assert found.rate == pytest.approx(outcome.mean(), rel=0.12)


def test_rows_that_are_harder_fell_and_equal_rows_did_not() -> None:
    rng = np.random.default_rng(3)
    scores, _, labels = draw(rng, 4000, -2.0)
    harder = estimate_performance(scores, labels, draw(rng, 4000, -2.0, 0.3)[0])
    assert harder is not None and harder.fell(0.05)
    for _ in range(20):
        same = estimate_performance(scores, labels, draw(rng, 2000, -2.0)[0])
        assert same is not None and not same.fell(0.02)


def test_it_is_blind_to_a_change_of_what_rows_mean() -> None:
    rng = np.random.default_rng(4)
    scores, _, labels = draw(rng, 4000, -2.0)
    newer, _, _ = draw(rng, 4000, -2.0)
    found = estimate_performance(scores, labels, newer)
    assert found is not None and not found.fell(0.02)
    assert realised(1 / (1 + np.exp(-newer)), (rng.random(4000) < 0.5).astype(float)) > 1.3


def test_labels_that_are_not_known_yet_are_left_out() -> None:
    rng = np.random.default_rng(5)
    scores, _, labels = draw(rng, 3000, -1.0)
    some = np.where(np.arange(3000) < 2000, labels, np.nan)
    with_gaps = estimate_performance(scores, some, scores)
    without = estimate_performance(scores[:2000], labels[:2000], scores)
    assert with_gaps == without


def test_where_it_is_not_applicable_it_says_nothing() -> None:
    rng = np.random.default_rng(6)
    scores, _, labels = draw(rng, 1000, -1.0)
    assert estimate_performance(scores, 3 * labels, scores) is None  # ratings
    assert estimate_performance(scores[:150], labels[:150], scores) is None
    assert estimate_performance(scores, np.zeros(1000), scores) is None
    assert estimate_performance(scores, labels, scores[:50]) is None


def test_scores_between_those_that_were_seen_have_the_chances_between_theirs() -> None:
    """Few leaves give few scores: of a score that none of them gave, something between is to be expected."""
    rng = np.random.default_rng(0)
    scores = rng.choice([0.02, 0.05, 0.1, 0.2, 0.4], 6000)
    labels = (rng.random(6000) < scores).astype(float)
    moved = np.where(scores == 0.4, 0.45, scores)
    found = estimate_performance(scores, labels, moved)
    assert found is not None and found.rate == pytest.approx(found.rate_then)


def test_it_is_read_as_it_was_written() -> None:
    rng = np.random.default_rng(7)
    scores, _, labels = draw(rng, 1000, -1.0)
    found = estimate_performance(scores, labels, scores)
    assert found is not None
    again = EstimatedPerformance.from_json(found.as_json())
    assert again.now.value == pytest.approx(found.now.value)
    assert again.rate == found.rate
