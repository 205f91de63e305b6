"""Counts within windows, and rates of what is new."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.learning.popularity import daily_rate


def test_a_rate_divides_by_the_days_lived_not_by_the_window() -> None:
    counts = np.array([30.0, 30.0, 30.0, 30.0])
    ages = np.array([3.0, 100.0, 0.1, np.nan])
    # Three days old, long there, born today (one day at least), unknown (as long as the window).
    assert daily_rate(counts, 28.0, ages) == pytest.approx([10.0, 30 / 28, 30.0, 30 / 28])
