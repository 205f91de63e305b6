"""Windows of features: alike where nothing shifts, and shifted as they are told."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import ks_2samp, kstest

from pipelines.errors import UsageError
from pipelines.world.frames import COLUMNS, Shift, windows


def test_windows_repeat_and_differ() -> None:
    first, again = (list(windows(5, 3, 200)) for _ in range(2))
    assert first[0].columns == list(COLUMNS)
    for left, right in zip(first, again, strict=True):
        assert_frame_equal(left, right)
    assert not first[0].equals(first[1])


def test_stationary_windows_reject_as_often_as_they_should() -> None:
    drawn = [window["skewed"].to_numpy() for window in windows(1, 120, 300)]
    values = [ks_2samp(left, right).pvalue for left, right in zip(drawn[::2], drawn[1::2], strict=True)]
    assert kstest(values, "uniform").pvalue > 0.001


def test_shifts_begin_with_their_window() -> None:
    shifts = (
        Shift("normal", "mean", 0.5),
        Shift("skewed", "unit", 0.5),
        Shift("heavy", "spread", 1.0),
        Shift("share", "nulls", 0.3),
        Shift("few", "mix", 0.4),
        Shift("many", "nulls", 1.0),
    )
    plain = list(windows(2, 2, 20_000))
    before, after = windows(2, 2, 20_000, shifts, since=1)
    assert_frame_equal(before, plain[0])
    untouched = ["count", "mostly_zero", "with_nulls", "constant"]
    assert_frame_equal(after.select(untouched), plain[1].select(untouched))
    np.testing.assert_allclose(after["normal"] - plain[1]["normal"], 0.5)
    assert (after["skewed"] == 1000 * plain[1]["skewed"]).mean() == pytest.approx(0.5, abs=0.02)
    assert after["heavy"].std() > 3 * plain[1]["heavy"].std()
    assert after["share"].null_count() / after.height == pytest.approx(0.3, abs=0.02)
    last = pl.Series(["few_04"])[0]
    assert (after["few"] == last).mean() - (plain[1]["few"] == last).mean() == pytest.approx(0.36, abs=0.03)
    assert after["many"].null_count() == after.height


def test_unknown_names_are_explained() -> None:
    with pytest.raises(UsageError, match="did you mean 'skewed'"):
        Shift("skwed", "mean", 1.0)
    with pytest.raises(UsageError, match="no shift 'mean' of column 'few'"):
        Shift("few", "mean", 1.0)
