"""Rows as they were, or would have been, scored: what monitoring watches."""

from __future__ import annotations

import polars as pl

from pipelines.case_study import Dataset
from pipelines.cases.harmful_content.label import CONTEXT
from pipelines.cases.harmful_content.tables import HARMS

MOST_POSTS = 8_000


def decided_posts(dataset: Dataset) -> pl.DataFrame:
    """Read every decision of the data set with its post, reviewed or not: example_id, times and context."""
    shown = dataset.table("impressions").select(
        "request_id", "reports", "propensity", example_id="impression_id", time="impression_time"
    )
    asked = dataset.entities("requests").select(
        "request_id", "request_time", "author_id", "text", "audience", "client"
    )
    rows = shown.collect().join(asked.collect(), on="request_id", how="inner")
    return rows.select("example_id", "time", "request_time", *CONTEXT).sort("time", "example_id")


def by_harm(posts: pl.DataFrame) -> pl.DataFrame:
    """Repeat each post's row for each harm, in the order of HARMS."""
    return posts.join(pl.DataFrame({"harm": HARMS}), how="cross")


def predictions(dataset: Dataset) -> pl.DataFrame:
    """Return the decided posts of the data set, one row a harm, with features at their time.

    At most some 8,000 posts: every n-th by a hash of its id, which no order of files can change.
    """
    posts = decided_posts(dataset)
    step = max(1, -(-posts.height // MOST_POSTS))
    kept = posts.filter(pl.col("example_id").hash(seed=0) % step == 0)
    return dataset.historical(by_harm(kept.drop("request_time")), "time")
