"""How likely a place is looked at: told by explored slates, whoever was put first in the others."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipelines.learning.examination import examination_curve, explored_curve, position_offset
from pipelines.learning.ranker import HeldOut, RankerOptions, fit_ranker

EXAMINED = np.array([1.0, 0.6, 0.35])


def impressions(count: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Make impressions of items whose worth the logger knows: it puts the best first, save in one slate of five."""
    rng = np.random.default_rng(seed)
    worth, explored = rng.choice([0.05, 0.2, 0.5], count), rng.random(count) < 0.2
    best = np.select([worth == 0.5, worth == 0.2], [1, 2], 3)
    position = np.where(explored, rng.integers(1, 4, count), best)
    label = rng.random(count) < worth * EXAMINED[position - 1]
    return pl.DataFrame({"position": position, "explored": explored, "label": label.astype(int)}), worth


def test_explored_impressions_tell_the_curve() -> None:
    rows, _ = impressions(60_000, 0)
    assert explored_curve(rows) == pytest.approx(EXAMINED, abs=0.06)
    told = examination_curve(rows["position"].to_numpy(), rows["label"].cast(pl.Float64).to_numpy())
    assert told[2] < 0.2, "all rows would take the logger's taste for the places' doing"


def test_without_explored_impressions_it_is_flat() -> None:
    rows, _ = impressions(1_000, 0)
    silent = rows.with_columns(explored=pl.lit(None, pl.Boolean))
    curve = explored_curve(silent)
    assert curve.tolist() == [1.0]
    np.testing.assert_array_equal(position_offset(rows, curve), 0)


def test_unknown_positions_add_nothing() -> None:
    curve = np.array([1.0, 0.5])
    rows = pl.DataFrame({"position": [1, None, 2, 7]})
    np.testing.assert_allclose(position_offset(rows, curve), np.log([1, 1, 0.5, 0.5]))
    np.testing.assert_array_equal(position_offset(rows.drop("position"), curve), 0)


def test_an_offset_leaves_the_items_what_they_are_worth() -> None:
    """Learned beside the offset, an item's score is its worth where it is looked at, held-out rows included."""
    rows, worth = impressions(60_000, 1)
    labels, matrix = rows["label"].cast(pl.Float64).to_numpy(), worth.reshape(-1, 1)
    offset, cut = position_offset(rows, explored_curve(rows)), 40_000
    options = RankerOptions(rounds=300, learning_rate=0.2, leaves=4, minimum_rows=20, column_share=1.0)
    held = HeldOut(matrix[cut:], labels[cut:], offset[cut:])
    ranker, losses = fit_ranker(
        matrix[:cut], labels[:cut], np.zeros(cut, dtype=np.int64), ("worth",), options, 1, offset[:cut],
        held_out=held,
    )  # fmt: skip
    assert ranker.predict(np.array([[0.05], [0.2]])) == pytest.approx([0.05, 0.2], rel=0.15)
    assert min(losses) == pytest.approx(_loss(ranker, held), abs=1e-6)


def _loss(ranker: object, held: HeldOut) -> float:
    assert held.offset is not None
    odds = ranker.predict(held.rows)  # type: ignore[attr-defined]
    chance = 1 / (1 + np.exp(-(np.log(odds / (1 - odds)) + held.offset)))
    return float(-(held.labels * np.log(chance) + (1 - held.labels) * np.log1p(-chance)).mean())
