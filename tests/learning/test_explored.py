"""Explored impressions stand for all, wherever there are any."""

from __future__ import annotations

import polars as pl
import pytest

from pipelines.learning.explored import explored


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ([True, False, None, True], [0, 3]),
        ([False, None, False], [0, 1, 2]),  # none was
        ([None, None], [0, 1]),  # nobody knows
        ([], []),
    ],
)
def test_only_the_explored_are_kept_where_there_are_some(flags: list[bool | None], kept: list[int]) -> None:
    rows = pl.LazyFrame(
        {"n": range(len(flags)), "explored": flags}, schema={"n": pl.Int64, "explored": pl.Boolean}
    )
    assert explored(rows).collect()["n"].to_list() == kept
