"""What the ad logs share: rows that hold request, impression and click side by side, and a catalogue beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from pipelines.case_study import SPOILED, Batch
from pipelines.cases.ad_click.tables import PAGE_CONTEXT, USER_CONTEXT

BATCH_ROWS = 100_000
FIRST_ROW = 2  # the line of the first row of data, below the header
NO_TEXT = pl.lit(None, dtype=pl.String)
NO_NUMBER = pl.lit(None, dtype=pl.Float64)
ANSWERS = ("0", "1")
TIME = pl.Datetime("us", "UTC")
SOUND = {
    "position": pl.col("position").cast(pl.Int32, strict=False) >= 1,
    "propensity": pl.col("propensity").cast(pl.Float64, strict=False).is_between(0, 1, closed="right"),
    "affinity": pl.col("affinity").cast(pl.Float64, strict=False).is_infinite().not_(),
}
"""What the table of impressions takes, where it is told."""


def events_of(rows: pl.DataFrame, origin: str, first_row: int) -> Iterator[Batch]:
    """Yield requests, impressions and clicks of rows that hold them side by side.

    Where nobody tells whether there was a click there is no impression: without one it would be taken for a no.
    """
    rows = rows.with_columns(pl.col("click").fill_null("").str.strip_chars().str.strip_suffix(".0"))
    told = rows.filter(pl.col("click").is_in(ANSWERS))
    # Nor is there a click on what quarantine will keep: rates would count clicks on nothing.
    unfit = [pl.col(name).is_not_null() & ~sound.fill_null(False) for name, sound in SOUND.items()]
    clicked = rows.filter(~pl.any_horizontal(unfit) & (pl.col("click") != "0"))
    shared = ("user_id", "ad_id", "campaign_id", "category")
    impression = pl.format("{}-1", "request_id")
    requests = rows.select(
        "request_id", pl.col("time").alias("request_time"), "policy", NO_TEXT.alias("model_version"), "user_id",
        *PAGE_CONTEXT, *USER_CONTEXT, pl.col("time").alias("arrived_at"), SPOILED,
    )  # fmt: skip
    impressions = told.select(
        impression.alias("impression_id"), "request_id", pl.col("time").alias("impression_time"), "position",
        "propensity", *shared, pl.col("policy").replace_strict({"random": True}, default=None).alias("explored"),
        "affinity", pl.col("time").alias("arrived_at"), SPOILED,
    )  # fmt: skip
    clicks = clicked.select(  # what is neither 0 nor 1 quarantine names
        pl.format("{}-click", impression).alias("action_id"),
        impression.alias("impression_id"),
        pl.when(pl.col("click") == "1")
        .then(pl.lit("click"))
        .otherwise(pl.format("click: {}", "click"))
        .alias("action"),
        NO_NUMBER.alias("value"),
        pl.col("time").alias("action_time"),
        *shared,
        pl.col("time").alias("arrived_at"),
        SPOILED,
    )
    yield Batch("requests", requests, origin, first_row)
    if told.height == rows.height:
        yield Batch("impressions", impressions, origin, first_row)
    else:
        yield Batch("impressions", impressions, f"{origin} (rows whose click is 0 or 1)")
    if clicks.height:
        yield Batch("actions", clicks, f"{origin} (rows with a click)")


def ad_columns(category: str, subcategory: str, product: str) -> dict[str, Any]:
    """Name a catalogue row's columns, in the order of the table."""
    return {
        "ad_id": "ad_id",
        "campaign_id": "campaign_id",
        "category": category,
        "subcategory": subcategory,
        "product": product,
        "bid": NO_NUMBER,
        "created_at": pl.lit(None, dtype=pl.Datetime("us", "UTC")),
        "arrived_at": "arrived_at",
    }


def context_columns(columns: dict[str, str]) -> dict[str, pl.Expr]:
    """Name what is known of page and user, from the file's own columns; null where the file has none."""
    names = (*PAGE_CONTEXT, *USER_CONTEXT)
    return {name: pl.col(columns[name]) if name in columns else NO_TEXT for name in names}


def moment_of(text: pl.Expr) -> pl.Expr:
    """Read a time, of UTC where it names no zone; null where it is none."""
    clean = text.str.strip_chars()
    aware = clean.str.to_datetime("%+", time_zone="UTC", time_unit="us", strict=False)
    layouts = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f")
    naive = [clean.str.to_datetime(each, time_unit="us", strict=False) for each in layouts]
    return pl.coalesce(aware, *(each.dt.replace_time_zone("UTC") for each in naive))
