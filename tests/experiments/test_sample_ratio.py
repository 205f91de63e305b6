"""The sample-ratio check: exact, quiet where nothing was lost, and loud where 2 % were."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipelines.experiments.sample_ratio import check_sample_ratio

HALVES = {"a": 0.5, "b": 0.5}


def test_the_p_value_is_that_of_the_chi_square_test() -> None:
    found = check_sample_ratio({"a": 4850, "b": 1700}, {"a": 3, "b": 1})
    theirs = stats.chisquare([4850, 1700], [6550 * 0.75, 6550 * 0.25])
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.expected == {"a": 4912.5, "b": 1637.5}


def test_a_loss_of_two_percent_at_100000_an_arm_is_found() -> None:
    rng = np.random.default_rng(0)
    kept = rng.binomial(200_000, 0.5, 500)
    lost = rng.binomial(200_000 - kept, 0.98)
    found = [
        check_sample_ratio({"a": int(a), "b": int(b)}, HALVES).mismatch
        for a, b in zip(kept, lost, strict=True)
    ]
    assert np.mean(found) >= 0.8


def test_sound_experiments_pass() -> None:
    control = np.random.default_rng(1).binomial(20_000, 0.5, 2000)
    found = [check_sample_ratio({"a": int(a), "b": 20_000 - int(a)}, HALVES).mismatch for a in control]
    assert sum(found) <= stats.binom.ppf(1 - 1e-6, 2000, 0.001)


def test_an_arm_without_units_is_a_mismatch_and_no_units_are_none() -> None:
    assert check_sample_ratio({"a": 100, "b": 0}, HALVES).mismatch
    assert not check_sample_ratio({"a": 0, "b": 0}, HALVES).mismatch
