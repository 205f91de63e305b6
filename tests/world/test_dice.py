"""Dice are fair, independent, and hang on their keys alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2, kstest

from pipelines.world.delays import Delay
from pipelines.world.streams import Dice, Purpose


def test_dice_are_fair_and_independent() -> None:
    request, item = (each.ravel() for each in np.meshgrid(np.arange(400), np.arange(100)))
    thrown = Dice(3, 20_000, Purpose.REACTIONS).throw(3, request, item)
    assert ((thrown >= 0) & (thrown < 1)).all()
    for column in thrown.T:
        assert kstest(column, "uniform").pvalue > 0.001
    cells = np.histogramdd(thrown, bins=8, range=[(0, 1)] * 3)[0]
    expected = len(thrown) / cells.size
    assert chi2.sf(((cells - expected) ** 2 / expected).sum(), cells.size - 1) > 0.001
    neighbours = np.corrcoef(thrown[:-1, 0], thrown[1:, 0])[0, 1]
    assert abs(neighbours) < 4 / np.sqrt(len(thrown))


def test_dice_hang_on_their_keys_alone() -> None:
    keys = np.arange(50), np.arange(50) % 7
    dice = Dice(3, 20_000, Purpose.REACTIONS)
    whole = dice.throw(4, *keys)
    np.testing.assert_array_equal(dice.throw(4, keys[0][10:20], keys[1][10:20]), whole[10:20])
    np.testing.assert_array_equal(dice.throw(2, *keys), whole[:, :2])
    for other in (Dice(4, 20_000, Purpose.REACTIONS), Dice(3, 20_001, Purpose.REACTIONS)):
        assert not np.isclose(other.throw(4, *keys), whole).any()
    assert not np.isclose(dice.throw(4, keys[1], keys[0])[8:], whole[8:]).any()


def test_delays_read_off_dice_are_those_that_are_drawn() -> None:
    delay = Delay(median=8.0, spread=1.0, slow_share=0.2, slow_mean=3600.0)
    rng = np.random.default_rng(5)
    drawn, read = delay.sample(20_000, rng), delay.read(rng.random((20_000, 2)))
    for share, tolerance in ((0.1, 0.06), (0.5, 0.06), (0.75, 0.06), (0.9, 0.25), (0.95, 0.25)):
        assert np.quantile(read, share) == pytest.approx(np.quantile(drawn, share), rel=tolerance)
