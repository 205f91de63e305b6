"""Rows as they were, or would have been, scored: what monitoring watches."""

from __future__ import annotations

import polars as pl

from pipelines.case_study import Dataset
from pipelines.cases.ad_click.label import AD_CONTEXT, SHOWN
from pipelines.cases.ad_click.tables import PAGE_CONTEXT, USER_CONTEXT
from pipelines.learning.explored import explored

MOST_ROWS = 25_000


def predictions(dataset: Dataset) -> pl.DataFrame:
    """Return impressions of the data set with their context, and features at their time.

    Where some were explored, only those: of the others the model chose itself what is among them, and a new
    champion with another taste would look like a change of the world. At most 25,000 rows, spread evenly over
    the window; in order of time.
    """
    rows = _thin(explored(dataset.table("impressions")).select(*SHOWN, time="impression_time"))
    wanted = rows.lazy().select("request_id").unique()
    asked = dataset.entities("requests").select("request_id", *PAGE_CONTEXT, *USER_CONTEXT)
    context = asked.join(wanted, on="request_id", how="semi").collect()
    ads = dataset.entities("ads").select("ad_id", *AD_CONTEXT).collect()
    joined = rows.join(context, on="request_id", how="left").join(ads, on="ad_id", how="left")
    return dataset.historical(joined.sort("time", "impression_id").drop("explored"), "time")


def _thin(shown: pl.LazyFrame) -> pl.DataFrame:
    """Keep every n-th row by a hash of its id, which no order of files can change."""
    step = max(1, -(-shown.select(pl.len()).collect().item() // MOST_ROWS))
    return shown.filter(pl.col("impression_id").hash(seed=0) % step == 0).collect()
