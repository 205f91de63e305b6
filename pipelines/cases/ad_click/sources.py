"""Real rows for ad click prediction: the WNS click prediction data, and the Open Bandit logs.

wns           `X.csv` (session_id, DateTime, user_id, product, campaign_id, …) and `y.csv`: 0 or 1, no header,
              aligned by row. Nobody observed positions, or when a click came: it counts as at once.
open-bandit   a folder `random/` or `bts/` a policy, or one policy's files by themselves: `all.csv`, `men.csv` or
              `women.csv` (timestamp, item_id, position, click, propensity_score, …) and `item_context.csv`.

Both name no ad. In wns an ad is what shares product, campaign and categories. Open Bandit's items are ads of
one campaign; hashed codes of the items differ from policy to policy, so those of the first folder are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import Batch, Location, Observed, Source
from pipelines.cases.ad_click.tables import PAGE_CONTEXT, USER_CONTEXT
from pipelines.errors import DataError
from pipelines.stores.location import reading

BATCH_ROWS = 100_000
FIRST_ROW = 2  # the line of the first row of data, below the header
NO_TEXT = pl.lit(None, dtype=pl.String)
NO_NUMBER = pl.lit(None, dtype=pl.Float64)

WNS_COLUMNS = (
    "session_id", "DateTime", "user_id", "product", "campaign_id", "webpage_id", "product_category_1",
    "product_category_2", "user_group_id", "gender", "age_level", "user_depth", "city_development_index", "var_1",
)  # fmt: skip
WNS_CONTEXT = {
    "site": "webpage_id",
    "audience": "user_group_id",
    "gender": "gender",
    "age": "age_level",
    "city_level": "city_development_index",
    "depth": "user_depth",
    "trait_0": "var_1",
}
BANDIT_COLUMNS = (
    "timestamp", "item_id", "position", "click", "propensity_score",
    *(f"user_feature_{number}" for number in range(4)),
)  # fmt: skip
BANDIT_ITEMS = ("item_id", "item_feature_1", "item_feature_2", "item_feature_3")
POLICIES = ("random", "bts")
ANSWERS = ("0", "1")
TIME = pl.Datetime("us", "UTC")
SOUND = {
    "position": pl.col("position").cast(pl.Int32, strict=False) >= 1,
    "propensity": pl.col("propensity").cast(pl.Float64, strict=False).is_between(0, 1, closed="right"),
    "affinity": pl.col("affinity").cast(pl.Float64, strict=False).is_infinite().not_(),
}
"""What the table of impressions takes, where it is told."""
CAMPAIGNS = ("all", "men", "women")


def read_wns(location: Location) -> Iterator[Batch]:
    """Map each row of X and y to a request with one impression, and to a click where y is 1."""
    shown, clicked = location.fetch("X.csv"), location.fetch("y.csv")
    rows = _scan(shown, WNS_COLUMNS).collect()
    with reading(clicked):
        answers = pl.read_csv(clicked, has_header=False, infer_schema=False, encoding="utf8-lossy")
    if answers.width != 1 or answers.height != rows.height:
        raise DataError(
            f"y.csv has {answers.height} rows of {answers.width} columns, X.csv has {rows.height} rows: y.csv must "
            "hold one 0 or 1 for each row of X.csv, and no header"
        )
    rows = rows.with_columns(
        answers.to_series().str.strip_chars().alias("click"),
        time=_naive(pl.col("DateTime")),
        moment=_moment(pl.col("DateTime")),
        ad_id=pl.concat_str(
            [
                pl.col(name).fill_null("")
                for name in ("product", "campaign_id", "product_category_1", "product_category_2")
            ],
            separator="-",
        ),
    )
    rows = _told_apart(rows)
    first = rows.group_by("ad_id", maintain_order=True).agg(
        pl.col("campaign_id", "product", "product_category_1", "product_category_2").first(),
        arrived_at=pl.col("moment").min(),
    )
    first = first.with_columns(pl.col("arrived_at").fill_null(pl.col("arrived_at").min()))
    yield Batch("ads", first.select(**_ad("product_category_1", "product_category_2", "product")), "X.csv")
    for start in range(0, rows.height, BATCH_ROWS):
        part = rows[start : start + BATCH_ROWS]
        known = part.with_columns(
            **_context(WNS_CONTEXT),
            category=pl.col("product_category_1"),
            position=NO_TEXT,
            propensity=NO_NUMBER,
            affinity=NO_NUMBER,
            policy=NO_TEXT,
        )
        yield from _events(known, "X.csv", FIRST_ROW + start)


def _told_apart(rows: pl.DataFrame) -> pl.DataFrame:
    """Name each row's request after its session; rows of one session that differ are numbered, whatever their order."""
    whole = pl.concat_str(pl.all().exclude("moment").fill_null(""), separator="\x1f")
    place = whole.rank("dense").over("session_id")
    name = pl.format("s{}", "session_id")
    return rows.with_columns(
        request_id=pl.when(place == 1).then(name).otherwise(pl.format("{}-{}", name, place))
    )


def read_open_bandit(location: Location) -> Iterator[Batch]:
    """Map each row to a request with one impression at its position, and to a click where there was one."""
    logs = _bandit_logs(location)
    yield _bandit_ads(location, logs)
    for log in logs:
        with reading(log.path):
            affinities = _affinities(log.path)
            batches = _scan(log.path, (*BANDIT_COLUMNS, *affinities)).collect_batches(
                chunk_size=BATCH_ROWS, maintain_order=True
            )
            start = 0
            for rows in batches:
                known = _bandit_rows(rows.with_row_index("_row", start), log, affinities)
                yield from _events(known, log.name, FIRST_ROW + start)
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


def _bandit_logs(location: Location) -> list[_Log]:
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


def _bandit_ads(location: Location, logs: Sequence[_Log]) -> Batch:
    """Make an ad of each item of each campaign, known since the campaign's first impression."""
    parts = []
    for campaign in dict.fromkeys(log.campaign for log in logs):
        own = [log for log in logs if log.campaign == campaign]
        first = min(
            (time for log in own if (time := _first(log.path)) is not None),
            default=None,
        )
        items = _scan(location.fetch(own[0].items), BANDIT_ITEMS).collect()
        parts.append(
            items.with_columns(
                ad_id=pl.format(f"{campaign}-{{}}", "item_id"),
                campaign_id=pl.lit(campaign),
                arrived_at=pl.lit(first, dtype=TIME),
            ).select(**_ad("item_feature_3", "item_feature_2", "item_feature_1"))
        )
    return Batch("ads", pl.concat(parts), logs[0].items, FIRST_ROW)


def _bandit_rows(rows: pl.DataFrame, log: _Log, affinities: Sequence[str]) -> pl.DataFrame:
    policy = log.folder.rstrip("/")
    line = pl.col("_row").cast(pl.String).str.zfill(8)
    own: pl.Expr = NO_TEXT
    for name in affinities:
        own = pl.when(pl.col("item_id") == name.rpartition("_")[2]).then(pl.col(name)).otherwise(own)
    return rows.with_columns(
        **_context({f"trait_{number}": f"user_feature_{number}" for number in range(4)}),
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


def _events(rows: pl.DataFrame, origin: str, first_row: int) -> Iterator[Batch]:
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
        *PAGE_CONTEXT, *USER_CONTEXT, pl.col("time").alias("arrived_at"),
    )  # fmt: skip
    impressions = told.select(
        impression.alias("impression_id"), "request_id", pl.col("time").alias("impression_time"), "position",
        "propensity", *shared, pl.col("policy").replace_strict({"random": True}, default=None).alias("explored"),
        "affinity", pl.col("time").alias("arrived_at"),
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
    )
    yield Batch("requests", requests, origin, first_row)
    if told.height == rows.height:
        yield Batch("impressions", impressions, origin, first_row)
    else:
        yield Batch("impressions", impressions, f"{origin} (rows whose click is 0 or 1)")
    if clicks.height:
        yield Batch("actions", clicks, f"{origin} (rows with a click)")


def _ad(category: str, subcategory: str, product: str) -> dict[str, Any]:
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


def _context(columns: dict[str, str]) -> dict[str, pl.Expr]:
    names = (*PAGE_CONTEXT, *USER_CONTEXT)
    return {name: pl.col(columns[name]) if name in columns else NO_TEXT for name in names}


def _scan(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    """Read a file's columns as text; a missing one is named."""
    with reading(path):
        rows = pl.scan_csv(path, infer_schema=False, truncate_ragged_lines=True, encoding="utf8-lossy")
        names = rows.collect_schema().names()
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(
            f"{path.name} has no column {', '.join(map(repr, missing))}: its first line must name "
            f"{', '.join(columns[:9])}{' …' if len(columns) > 9 else ''}; it reads {','.join(names)[:120]!r}"
        )
    return rows.select(columns)


def _affinities(path: Path) -> list[str]:
    with reading(path):
        names = pl.scan_csv(path, infer_schema=False).collect_schema().names()
    return [name for name in names if name.startswith("user-item_affinity_")]


def _first(path: Path) -> datetime | None:
    with reading(path):
        moments = _scan(path, BANDIT_COLUMNS).select(_moment(pl.col("timestamp")).min())
        found: datetime | None = moments.collect(engine="streaming").item()
    return found


def _moment(text: pl.Expr) -> pl.Expr:
    """Read a time, of UTC where it names no zone; null where it is none."""
    clean = text.str.strip_chars()
    aware = clean.str.to_datetime("%+", time_zone="UTC", time_unit="us", strict=False)
    layouts = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%.f")
    naive = [clean.str.to_datetime(each, time_unit="us", strict=False) for each in layouts]
    return pl.coalesce(aware, *(each.dt.replace_time_zone("UTC") for each in naive))


def _naive(text: pl.Expr) -> pl.Expr:
    """Write times as `2017-07-02 00:01:00`; what is no time stays as it is, for quarantine to name."""
    read = text.str.strip_chars().str.to_datetime("%Y-%m-%d %H:%M", strict=False)
    return pl.coalesce(read.dt.strftime("%Y-%m-%d %H:%M:%S"), text)


WNS = Source(
    name="wns",
    describe="ad impressions of six days with user, campaign, product and page, and whether they were clicked",
    observed=Observed(positions=False, propensities=False),
    protocols=("time",),
    read=read_wns,
    zone="UTC",
)
"""The publisher does not say in which zone its times are; UTC keeps its days and hours as they are written."""

OPEN_BANDIT = Source(
    name="open-bandit",
    describe="items shown on a fashion shop's page by two policies, with position, propensity and click",
    observed=Observed(authors=False),
    protocols=("time",),
    read=read_open_bandit,
)
