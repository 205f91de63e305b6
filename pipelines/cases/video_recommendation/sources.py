"""Real rows for video recommendation: MovieTweetings, as published and as comma-separated copies.

ratings   `ratings.dat`: user::movie::rating::unix seconds; or `ratings.csv`: user_id,item_id,rating,timestamp
films     `movies.dat`: movie::title (year)::Genre|Genre;   or `movies.csv`: item_id,title,genres

The publisher keeps snapshots in folders (`latest/`, `snapshots/100K/` …): name the folder that holds the
files. A rating says that a film was watched; nobody observed what was shown. `users.dat` holds handles
and no attributes, so it is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipelines.case_study import SPOILED, Batch, Location, Observed, Source
from pipelines.errors import DataError
from pipelines.stores.csv_text import is_utf8, scan_csv, unreadable
from pipelines.stores.location import reading

BATCH_ROWS = 100_000
EARLIEST, LATEST = 631_152_000, 4_102_444_800
"""1990 and 2100, in Unix seconds: what lies before or after is counted in something else, or from nothing."""
RATINGS = ("user_id", "item_id", "rating", "timestamp")
FILMS = ("item_id", "title", "genres")


@dataclass(frozen=True)
class _File:
    """A file in one of the two layouts; `first_row` is the number of its first line of data."""

    path: Path
    name: str
    columns: tuple[str, ...]
    published: bool

    @property
    def first_row(self) -> int:
        return 1 if self.published else 2


def read_movietweetings(location: Location) -> Iterator[Batch]:
    """Map ratings to `rate` actions and films to videos; memory is bounded by the batch."""
    ratings = _find(location, "ratings", RATINGS)
    films = _find(location, "movies", FILMS)
    known_since = _first_ratings(ratings)
    _require_films(ratings, films, known_since)
    for first, rows in _batches(films):
        yield Batch("videos", _videos(rows, known_since), films.name, first)
    for first, rows in _batches(ratings):
        yield Batch("actions", _actions(rows), ratings.name, first)


def _find(location: Location, stem: str, columns: tuple[str, ...]) -> _File:
    """Find a file in the publisher's layout, else in ours; raise DataError where there is neither."""
    if location.has(f"{stem}.dat"):
        return _File(location.fetch(f"{stem}.dat"), f"{stem}.dat", columns, published=True)
    if location.has(f"{stem}.csv"):
        return _File(location.fetch(f"{stem}.csv"), f"{stem}.csv", columns, published=False)
    raise DataError(
        f"there is neither '{stem}.dat' ({'::'.join(columns)}) nor '{stem}.csv' ({','.join(columns)}): name the "
        "folder that holds the files, such as 'latest' or 'snapshots/100K' of the published data"
    )


def _scan(file: _File) -> pl.LazyFrame:
    """Read the file as columns of text; a line with too few fields has nulls at its end."""
    with reading(file.path):
        if not file.published:
            return scan_csv(file.path, file.columns).select(*file.columns, SPOILED)
        lines = pl.scan_csv(
            file.path, has_header=False, new_columns=["line"], separator="\x1f", quote_char=None,
            infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True,
        )  # fmt: skip
        fields = pl.col("line").str.splitn("::", len(file.columns)).struct
        why = pl.lit(None, dtype=pl.String) if is_utf8(file.path) else unreadable(["line"])
        named = (fields.field(f"field_{n}").alias(name) for n, name in enumerate(file.columns))
        return lines.select(*named, why.alias(SPOILED))


def _batches(file: _File) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield (number of the first line, rows of text)."""
    first = file.first_row
    with reading(file.path):
        for rows in _scan(file).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            for start in range(0, rows.height, BATCH_ROWS):
                part = rows[start : start + BATCH_ROWS]
                yield first, part
                first += part.height


def _first_ratings(ratings: _File) -> pl.DataFrame:
    """Find when each film was first rated: since then the platform could have known of it."""
    with reading(ratings.path):
        rows = (
            _scan(ratings)
            .filter(pl.col(SPOILED).is_null())
            .select("item_id", "timestamp", _moment(pl.col("timestamp")).alias("first"))
        )
        firsts = (
            rows.group_by("item_id").agg(pl.col("first").min(), pl.col("timestamp").first()).sort("item_id")
        )
        found = firsts.collect(engine="streaming")
    if found.height and found["first"].null_count() == found.height:
        raise DataError(
            f"{ratings.name}: no 'timestamp' is a time in Unix seconds of 1990 to 2099 (such as "
            f"{found['timestamp'][0]!r}): write seconds since 1970"
        )
    return found.drop("timestamp")


def _require_films(ratings: _File, films: _File, known_since: pl.DataFrame) -> None:
    """Refuse files of which no rating is of a film that the other names: their ids are written in two ways."""
    with reading(films.path):
        named = _scan(films).select("item_id").collect(engine="streaming")["item_id"].drop_nulls()
    rated = known_since["item_id"].drop_nulls()
    if len(named) and len(rated) and not rated.is_in(named.implode()).any():
        raise DataError(
            f"{ratings.name} rates no film of {films.name}: its 'item_id' reads {rated[0]!r}, there it reads "
            f"{named.min()!r}; write them alike (leading zeros count)"
        )


def _actions(rows: pl.DataFrame) -> pl.DataFrame:
    """Make a `rate` action of each rating. Text that is no number stays text, for quarantine to name."""
    read = _moment(pl.col("timestamp"))
    unread = rows.select((read.is_null() & pl.col("timestamp").is_not_null()).any()).item()
    # What is no time stays as it is written, for quarantine to name.
    moment = pl.coalesce(read.dt.to_string("iso:strict"), pl.col("timestamp")) if unread else read
    number = pl.col("rating").str.strip_chars()
    inside = number.cast(pl.Float64, strict=False).is_between(0, 10)
    return rows.select(
        action_id=pl.concat_str(pl.lit("rate"), "user_id", "item_id", "timestamp", separator="-"),
        impression_id=pl.lit(None, dtype=pl.String),
        action=pl.when(inside)
        .then(pl.lit("rate"))
        .otherwise(pl.format("rate: {}", pl.col("rating").fill_null(""))),
        value=number,
        action_time=moment,
        user_id=pl.col("user_id"),
        video_id=pl.col("item_id"),
        arrived_at=moment,
        **{SPOILED: SPOILED},
    )


def _videos(rows: pl.DataFrame, known_since: pl.DataFrame) -> pl.DataFrame:
    """Make a video of each film; one that nobody rated is known from the first rating of any."""
    earliest = known_since["first"].min()
    found = rows.join(known_since, on="item_id", how="left", maintain_order="left")
    genres = pl.col("genres").str.split("|").list.eval(pl.element().str.strip_chars()).list.drop_nulls()
    genres = genres.list.eval(pl.element().filter(pl.element() != ""))
    return found.select(
        video_id="item_id",
        published_at=pl.lit(None, dtype=pl.Datetime("us", "UTC")),
        title=pl.col("title"),
        creator_id=pl.lit(None, dtype=pl.String),
        genres=genres,
        language=pl.lit(None, dtype=pl.String),
        duration_seconds=pl.lit(None, dtype=pl.Float64),
        arrived_at=pl.col("first").fill_null(pl.lit(earliest)),
        **{SPOILED: SPOILED},
    )


def _moment(seconds: pl.Expr) -> pl.Expr:
    """Read Unix seconds as a time; null where they are none."""
    number = seconds.str.strip_chars().str.strip_suffix(".0").cast(pl.Int64, strict=False)
    plausible = pl.when(number.is_between(EARLIEST, LATEST)).then(number)
    return pl.from_epoch(plausible, "s").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


MOVIETWEETINGS = Source(
    name="movietweetings",
    describe="ratings of films that people posted (user, film, rating 0-10, time) and the films' genres",
    observed=Observed(impressions=False, positions=False, propensities=False),
    protocols=("time", "random"),
    read=read_movietweetings,
)
