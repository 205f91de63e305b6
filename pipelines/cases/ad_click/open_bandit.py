"""The Open Bandit logs as requests, impressions and clicks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from pipelines.case_study import SPOILED, Batch, Location
from pipelines.cases.ad_click.log_rows import (
    BATCH_ROWS,
    FIRST_ROW,
    NO_TEXT,
    TIME,
    ad_columns,
    context_columns,
    events_of,
    moment_of,
)
from pipelines.errors import DataError
from pipelines.stores.csv_text import scan_csv
from pipelines.stores.location import reading

COLUMNS = (
    "timestamp", "item_id", "position", "click", "propensity_score",
    *(f"user_feature_{number}" for number in range(4)),
)  # fmt: skip
ITEM_COLUMNS = ("item_id", "item_feature_1", "item_feature_2", "item_feature_3")
POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")


def read_open_bandit(location: Location) -> Iterator[Batch]:
    """Map each row to a request with one impression at its position, and to a click where there was one."""
    logs = _logs(location)
    yield _ads(location, logs)
    for log in logs:
        with reading(log.path):
            affinities = _affinities(log.path)
            read = scan_csv(log.path, COLUMNS).select(*COLUMNS, *affinities, SPOILED)
            batches = read.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
            start = 0
            for rows in batches:
                known = _rows(rows.with_row_index("_row", start), log, affinities)
                yield from events_of(known, log.name, FIRST_ROW + start)
                start += rows.height


@dataclass(frozen=True)
class _Log:
    """One policy's log of one campaign; `folder` is '' where the files stand by themselves."""

    path: Path
    name: str
    folder: str
    campaign: str

    @property
    def items(self) -> str:
        return f"{self.folder}item_context.csv"


def _logs(location: Location) -> list[_Log]:
    folders = [f"{policy}/" for policy in POLICIES] + [""]
    names = [(folder, name) for folder in folders for name in CAMPAIGNS]
    found = [
        _Log(location.fetch(f"{folder}{name}.csv"), f"{folder}{name}.csv", folder, name)
        for folder, name in names
        if location.has(f"{folder}{name}.csv")
    ]
    if not found:
        raise DataError(
            "there is neither 'random/' nor 'bts/' with one of all.csv, men.csv, women.csv, nor one of these files "
            "by itself: name the folder that holds the policies' folders"
        )
    return found


def _ads(location: Location, logs: Sequence[_Log]) -> Batch:
    """Make an ad of each item of each campaign, known since the campaign's first impression."""
    parts = []
    for campaign in dict.fromkeys(log.campaign for log in logs):
        own = [log for log in logs if log.campaign == campaign]
        first = min(
            (time for log in own if (time := _first(log.path)) is not None),
            default=None,
        )
        items = scan_csv(location.fetch(own[0].items), ITEM_COLUMNS).collect()
        parts.append(
            items.with_columns(
                ad_id=pl.format(f"{campaign}-{{}}", "item_id"),
                campaign_id=pl.lit(campaign),
                arrived_at=pl.lit(first, dtype=TIME),
            ).select(SPOILED, **ad_columns("item_feature_3", "item_feature_2", "item_feature_1"))
        )
    return Batch("ads", pl.concat(parts), logs[0].items, FIRST_ROW)


def _rows(rows: pl.DataFrame, log: _Log, affinities: Sequence[str]) -> pl.DataFrame:
    policy = log.folder.rstrip("/")
    line = pl.col("_row").cast(pl.String).str.zfill(8)
    own: pl.Expr = NO_TEXT
    for name in affinities:
        own = pl.when(pl.col("item_id") == name.rpartition("_")[2]).then(pl.col(name)).otherwise(own)
    return rows.with_columns(
        **context_columns({f"trait_{number}": f"user_feature_{number}" for number in range(4)}),
        request_id=pl.format("{}-{}-{}", pl.lit(policy or "log"), pl.lit(log.campaign), line),
        time=pl.col("timestamp"),
        user_id=NO_TEXT,
        ad_id=pl.format(f"{log.campaign}-{{}}", "item_id"),
        campaign_id=pl.lit(log.campaign),
        category=NO_TEXT,
        propensity=pl.col("propensity_score"),
        affinity=own,
        policy=pl.lit(policy or None, dtype=pl.String),
    )


def _affinities(path: Path) -> list[str]:
    with reading(path):
        names = pl.scan_csv(path, infer_schema=False, encoding="utf8-lossy").collect_schema().names()
    return [name for name in names if name.startswith("user-item_affinity_")]


def _first(path: Path) -> datetime | None:
    with reading(path):
        moments = (
            scan_csv(path, COLUMNS)
            .filter(pl.col(SPOILED).is_null())
            .select(moment_of(pl.col("timestamp")).min())
        )
        found: datetime | None = moments.collect(engine="streaming").item()
    return found
