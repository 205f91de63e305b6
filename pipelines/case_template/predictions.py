"""What monitoring watches. Replace: the columns, where your label has others beside it."""

from __future__ import annotations

import polars as pl

from pipelines.case_study import Dataset
from pipelines.case_template.label import SHOWN
from pipelines.learning.explored import explored

MOST_ROWS = 25_000


def predictions(dataset: Dataset) -> pl.DataFrame:
    """Return impressions with features at their time, in order of time; at most 25,000, spread evenly.

    Where some were explored, only those: what a new champion chooses otherwise is no change of the world.
    """
    shown = explored(dataset.table("impressions"))
    step = -(-shown.select(pl.len()).collect().item() // MOST_ROWS) or 1
    # By a hash of the id, which no order of files can change.
    kept = shown.filter(pl.col("impression_id").hash(seed=0) % step == 0)
    rows = kept.select(*SHOWN, time="impression_time").collect()
    return dataset.historical(rows.sort("time", "impression_id").drop("explored"), "time")
