"""Real rows for harmful content: Davidson et al. (2017), tweets with annotators' votes.

`labeled_data.csv`: [row], count, hate_speech, offensive_language, neither, class, tweet. The middle columns count
votes; class is the majority's: 0 hate, 1 offensive, 2 neither. Nobody knows when or by whom a tweet was
written, so times and authors are null; the platform could first have read the file when it was published.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.case_study import SPOILED, Batch, Location, Observed, Source
from pipelines.stores.csv_text import scan_csv
from pipelines.stores.location import reading

FILE = "labeled_data.csv"
BATCH_ROWS = 20_000
PUBLISHED = datetime(2017, 3, 11, tzinfo=UTC)
VOTES = {"hate_speech": ["hate"], "offensive_language": ["offensive"], "neither": []}
VERDICTS = {"0": ["hate"], "1": ["offensive"], "2": []}
NUMBER = ("", "Unnamed: 0", "id", "index")
_COLUMNS = (*VOTES, "class", "tweet")
_HARMS = pl.List(pl.String)


def read_davidson(location: Location) -> Iterator[Batch]:
    """Map each tweet to a post that was reviewed, its votes and its class to votes and a verdict."""
    path = location.fetch(FILE)
    first = 2
    for rows in _batches(path):
        yield Batch("requests", _posts(rows), FILE, first)
        yield Batch("impressions", _decisions(rows), FILE, first)
        yield Batch("actions", _verdicts(rows), FILE, first)
        for column, harms in VOTES.items():
            yield Batch("actions", _votes(rows, column, harms), f"{FILE} ({column})", 1)
        first += rows.height


def _batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yield rows of text with an `id`: the file's own number where each row has another, else the place in the file."""
    with reading(path):
        frame = scan_csv(path, _COLUMNS).collect()
    sound = frame.filter(pl.col(SPOILED).is_null()).unique()
    numbered = frame.columns[0] in NUMBER and sound[frame.columns[0]].is_unique().all()
    number = frame.columns[0] if numbered else None
    place = pl.int_range(pl.len()).cast(pl.String)
    name = place if number is None else pl.coalesce(pl.col(number), place)
    frame = frame.select(pl.format("t{}", name).alias("id"), *_COLUMNS, SPOILED)
    for start in range(0, frame.height, BATCH_ROWS):
        yield frame[start : start + BATCH_ROWS]


def _posts(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(
        request_id="id",
        request_time=None,
        policy=None,
        model_version=None,
        author_id=None,
        text=pl.col("tweet"),
        audience=None,
        client=None,
        arrived_at=pl.lit(PUBLISHED),
        **{SPOILED: SPOILED},
    )


def _decisions(rows: pl.DataFrame) -> pl.DataFrame:
    """Every tweet was sent to annotators; with what probability it was drawn, nobody tells."""
    return rows.select(
        impression_id="id",
        request_id="id",
        impression_time=None,
        position=None,
        propensity=None,
        decision=pl.lit("review"),
        reports=None,
        arrived_at=pl.lit(PUBLISHED),
        **{SPOILED: SPOILED},
    )


def _verdicts(rows: pl.DataFrame) -> pl.DataFrame:
    """Read the class; what is none is left for quarantine to name."""
    word = pl.col("class").str.strip_chars().str.strip_suffix(".0")
    known = word.is_in(list(VERDICTS)).fill_null(False)
    found = word.replace_strict(VERDICTS, default=None, return_dtype=_HARMS)
    action = pl.when(known).then(pl.lit("verdict")).otherwise(pl.format("class {}", word.fill_null("")))
    return _actions(rows, pl.format("{}-verdict", "id"), action, found)


def _votes(rows: pl.DataFrame, column: str, harms: list[str]) -> pl.DataFrame:
    """Write one vote for each that was counted; a count that is no number is one vote for quarantine to name."""
    count = pl.col(column).str.strip_chars().str.strip_suffix(".0").cast(pl.Int64, strict=False)
    sound = count.is_between(0, 100).fill_null(False)
    times = pl.int_ranges(0, pl.when(sound).then(count).otherwise(1))
    spread = rows.with_columns(sound.alias("sound"), times.alias("n")).explode("n").drop_nulls("n")
    wrong = pl.format("{} {}", pl.lit(column), pl.col(column).fill_null(""))
    action = pl.when("sound").then(pl.lit("vote")).otherwise(wrong)
    name = pl.format("{}-{}-{}", "id", pl.lit(column), "n")
    return _actions(spread, name, action, pl.lit(harms, dtype=_HARMS))


def _actions(rows: pl.DataFrame, name: pl.Expr, action: pl.Expr, harms: pl.Expr) -> pl.DataFrame:
    return rows.select(
        action_id=name,
        impression_id="id",
        action=action,
        value=None,
        action_time=None,
        author_id=None,
        harms=harms,
        arrived_at=pl.lit(PUBLISHED),
        **{SPOILED: SPOILED},
    )


DAVIDSON = Source(
    name="davidson",
    describe="24,783 tweets of Davidson et al. (2017) with annotators' votes: hate, offensive or neither",
    observed=Observed(positions=False, propensities=False, times=False, authors=False),
    protocols=("random",),
    read=read_davidson,
)
