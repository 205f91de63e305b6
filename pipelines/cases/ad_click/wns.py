"""The WNS click prediction data as requests, impressions and clicks."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from pipelines.case_study import SPOILED, Batch, Location
from pipelines.cases.ad_click.log_rows import (
    BATCH_ROWS,
    FIRST_ROW,
    NO_NUMBER,
    NO_TEXT,
    ad_columns,
    context_columns,
    events_of,
    moment_of,
)
from pipelines.errors import DataError
from pipelines.stores.csv_text import scan_csv
from pipelines.stores.location import reading

COLUMNS = (
    "session_id", "DateTime", "user_id", "product", "campaign_id", "webpage_id", "product_category_1",
    "product_category_2", "user_group_id", "gender", "age_level", "user_depth", "city_development_index", "var_1",
)  # fmt: skip
CONTEXT = {
    "site": "webpage_id",
    "audience": "user_group_id",
    "gender": "gender",
    "age": "age_level",
    "city_level": "city_development_index",
    "depth": "user_depth",
    "trait_0": "var_1",
}


def read_wns(location: Location) -> Iterator[Batch]:
    """Map each row of X and y to a request with one impression, and to a click where y is 1."""
    shown, clicked = location.fetch("X.csv"), location.fetch("y.csv")
    with reading(shown):
        rows = scan_csv(shown, COLUMNS).select(*COLUMNS, SPOILED).collect()
    with reading(clicked):
        answers = pl.read_csv(clicked, has_header=False, infer_schema=False, encoding="utf8-lossy")
    if answers.width != 1 or answers.height != rows.height:
        raise DataError(
            f"y.csv has {answers.height} rows of {answers.width} columns, X.csv has {rows.height} rows: y.csv must "
            "hold one 0 or 1 for each row of X.csv, and no header"
        )
    rows = rows.with_columns(
        answers.to_series().str.strip_chars().alias("click"),
        moment=moment_of(pl.col("DateTime")),
        ad_id=pl.concat_str(
            [
                pl.col(name).fill_null("")
                for name in ("product", "campaign_id", "product_category_1", "product_category_2")
            ],
            separator="-",
        ),
    )
    written = pl.col("moment").dt.strftime("%Y-%m-%d %H:%M:%S%.f")
    # What is no time stays as it is, for quarantine to name.
    rows = _told_apart(rows.with_columns(time=pl.coalesce(written, pl.col("DateTime"))))
    first = (
        rows.filter(pl.col(SPOILED).is_null())
        .group_by("ad_id", maintain_order=True)
        .agg(
            pl.col("campaign_id", "product", "product_category_1", "product_category_2").first(),
            arrived_at=pl.col("moment").min(),
        )
    )
    first = first.with_columns(pl.col("arrived_at").fill_null(pl.col("arrived_at").min()))
    yield Batch(
        "ads", first.select(**ad_columns("product_category_1", "product_category_2", "product")), "X.csv"
    )
    for start in range(0, rows.height, BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        known = part.with_columns(
            **context_columns(CONTEXT),
            category=pl.col("product_category_1"),
            position=NO_TEXT,
            propensity=NO_NUMBER,
            affinity=NO_NUMBER,
            policy=NO_TEXT,
        )
        yield from events_of(known, "X.csv", FIRST_ROW + start)


def _told_apart(rows: pl.DataFrame) -> pl.DataFrame:
    """Name each row's request after its session; rows of one session that differ are numbered, whatever their order."""
    whole = pl.concat_str(pl.all().exclude("moment").fill_null(""), separator="\x1f")
    place = whole.rank("dense").over("session_id")
    name = pl.format("s{}", "session_id")
    return rows.with_columns(
        request_id=pl.when(place == 1).then(name).otherwise(pl.format("{}-{}", name, place))
    )
