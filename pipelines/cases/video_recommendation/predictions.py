"""Rows as they were, or would have been, scored: what monitoring watches."""

from __future__ import annotations

import polars as pl

from pipelines.case_study import Dataset
from pipelines.cases.video_recommendation.interactions import read_users
from pipelines.learning.explored import explored

MOST_ROWS = 25_000


def predictions(dataset: Dataset) -> pl.DataFrame:
    """Return the impressions of the data set (without any: its ratings) with features at their time.

    Where some were explored, only those: of the others the model chose itself what is among them, and a new
    champion with another taste would look like a change of the world. At most 25,000 rows, spread evenly over
    the window; in order of time.
    """
    rows = _sample(dataset)
    people = rows.join(read_users(dataset), on="user_id", how="left", maintain_order="left")
    return dataset.historical(people, "time")


def _sample(dataset: Dataset) -> pl.DataFrame:
    shown = explored(dataset.table("impressions"))
    shown = shown.select("request_id", "user_id", "video_id", time="impression_time")
    total = shown.select(pl.len()).collect().item()
    if total:
        kept = _thin(shown, total)
        asked = dataset.entities("requests").select("request_id", "device")
        devices = asked.join(kept.lazy().select("request_id"), on="request_id", how="semi").collect()
        found = kept.join(devices.unique("request_id"), on="request_id", how="left")
    else:
        rated = dataset.table("actions").filter(pl.col("action") == "rate")
        rows = rated.select("user_id", "video_id", time="action_time")
        found = _thin(rows, rows.select(pl.len()).collect().item())
        found = found.with_columns(device=pl.lit(None, dtype=pl.String))
    return found.sort("time", "user_id", "video_id").select("user_id", "video_id", "time", "device")


def _thin(rows: pl.LazyFrame, total: int) -> pl.DataFrame:
    """Keep every n-th row by a hash of its content, which no order of files can change."""
    step = max(1, -(-total // MOST_ROWS))
    if step == 1:
        return rows.collect()
    mark = pl.concat_str("user_id", "video_id", pl.col("time").dt.epoch("us").cast(pl.String), separator="|")
    return rows.filter(mark.hash(seed=0) % step == 0).collect()
