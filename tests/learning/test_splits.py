"""k-core, a share of time, a share of each user."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from pipelines.learning.splits import hold_out_share, k_core, moment_at_share


def pairs(seed: int = 7) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = pl.DataFrame({"user_id": rng.integers(0, 40, 900), "item_id": rng.zipf(1.6, 900) % 50})
    return rows.unique().sort("user_id", "item_id")


def test_everything_in_a_core_has_k_and_nothing_more_could_stay() -> None:
    kept = k_core(pairs(), 5)
    assert kept.height
    for column in ("user_id", "item_id"):
        assert kept[column].value_counts()["count"].min() >= 5
    again = pairs()
    while True:  # peel one offender at a time: the core is what is left, whatever the order
        for column in ("user_id", "item_id"):
            counts = again.group_by(column).len().filter(pl.col("len") < 5).sort(column)
            if counts.height:
                again = again.filter(pl.col(column) != counts[column][0])
                break
        else:
            break
    assert again.sort("user_id", "item_id").equals(kept.sort("user_id", "item_id"))


def test_the_moment_is_a_midnight_unless_a_side_would_be_empty() -> None:
    start = datetime(2026, 1, 1, 9, tzinfo=UTC)
    many = pl.Series([start + timedelta(hours=6 * n) for n in range(100)])
    moment = moment_at_share(many, 0.8)
    assert moment == datetime(2026, 1, 21, tzinfo=UTC)
    assert abs((many < moment).mean() - 0.8) < 0.03
    one_day = pl.Series([start + timedelta(minutes=n) for n in range(10)])
    assert moment_at_share(one_day, 0.8) == start + timedelta(minutes=8)


def test_a_quarter_of_each_user_is_held_out_whatever_the_order_of_rows() -> None:
    rows = pairs()
    held = hold_out_share(rows, 0.25, seed=3)
    assert held.equals(hold_out_share(rows.sample(fraction=1, shuffle=True, seed=1), 0.25, seed=3))
    assert not held.equals(hold_out_share(rows, 0.25, seed=4))
    had = rows.group_by("user_id").len()
    took = held.group_by("user_id").len(name="held")
    for total, count in had.join(took, on="user_id", how="left").select("len", "held").iter_rows():
        assert (count or 0) == (0 if total == 1 else max(1, round(total * 0.25)))
