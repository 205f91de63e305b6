"""What the model reads of a data set: who watched what when, the catalogue, and features at a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset
from pipelines.cases.video_recommendation.features import WATCHED_SHARE

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DAY = 86_400.0
TITLE_YEAR = r"\((1[89]\d\d|20\d\d)\)\s*$"
FEW = 1000
"""Up to so many values are looked up one by one: a request waits for its own alone."""
PROFILE = ("published_at", "duration_seconds", "genres", "creator_id", "language")


def read_watches(dataset: Dataset) -> pl.DataFrame:
    """Read the data set's watches and ratings: user_id, video_id, day (UTC days since 1970, fractional).

    Sorted by time and ids, so that neither files nor engines decide an order.
    """
    seen = (pl.col("action") == "watch") & (pl.col("value") >= WATCHED_SHARE)
    rows = dataset.table("actions").filter(seen | (pl.col("action") == "rate"))
    day = pl.col("action_time").dt.epoch("us") / (DAY * 1e6)
    found = rows.select("user_id", "video_id", day=day).collect()
    return found.sort("day", "user_id", "video_id")


def read_catalogue(dataset: Dataset, watches: pl.DataFrame | None = None) -> pl.DataFrame:
    """Read every video known by the data set's end: video_id, profile (published in Unix seconds), year.

    Films carry the year of their release in the title; `year` is null where a title has none.
    A video that was watched but never described is one without a profile.
    """
    rows = described(dataset.entities("videos").collect())
    if watches is not None:
        absent = watches.select("video_id").unique().join(rows, on="video_id", how="anti")
        rows = pl.concat([rows, absent], how="diagonal")
    return rows.unique("video_id", keep="first", maintain_order=True).sort("video_id")


def described(videos: pl.DataFrame) -> pl.DataFrame:
    """Take what the model reads of rows of the videos table: video_id, profile, year."""
    published = pl.col("published_at").dt.epoch("s").cast(pl.Int64)
    year = pl.col("title").str.extract(TITLE_YEAR).cast(pl.Float64)
    return videos.select("video_id", published, *PROFILE[1:], year=year)


def read_users(dataset: Dataset) -> pl.DataFrame:
    """Read every user known by the end: user_id, user_country, user_language."""
    rows = dataset.entities("users").select("user_id", user_country="country", user_language="language")
    return rows.collect().unique("user_id", keep="first", maintain_order=True).sort("user_id")


def day_of(moment: datetime) -> float:
    """Return a moment as fractional UTC days since 1970."""
    return moment.timestamp() / DAY


def moment_of(day: float) -> datetime:
    """Return fractional UTC days since 1970 as a moment."""
    return datetime.fromtimestamp(round(day * DAY, 3), UTC)


def codes(values: pl.Series, known: Sequence[str] | Mapping[str, int]) -> Ints:
    """Return each value's place in `known` (a list, or places by value), -1 where it is unknown or null."""
    place = known if isinstance(known, Mapping) else dict(zip(known, range(len(known)), strict=True))
    if len(values) <= FEW:
        return np.array([place.get(value, -1) for value in values.to_list()], dtype=np.int64)
    return values.replace_strict(place, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()


@dataclass(frozen=True)
class Histories:
    """What each of n requests' users had watched before: CSR over a catalogue, newest first.

    `items` are rows of the catalogue, `days` when each was watched (NaN where unknown), `starts` (n + 1,)
    where each request's entries begin. `now` (n,) is each request's own time.
    """

    starts: Ints
    items: Ints
    days: Floats
    now: Floats

    @property
    def lengths(self) -> Ints:
        return np.diff(self.starts)

    def part(self, low: int, high: int) -> Histories:
        """Take the requests [low, high)."""
        begin, end = self.starts[low], self.starts[high]
        return Histories(
            self.starts[low : high + 1] - begin,
            self.items[begin:end],
            self.days[begin:end],
            self.now[low:high],
        )

    def rows(self) -> Ints:
        """Number each entry's request."""
        return np.repeat(np.arange(len(self.now)), self.lengths)

    def newest(self, most: int) -> Histories:
        """Keep the newest entries of each history."""
        if self.lengths.max(initial=0) <= most:
            return self
        kept = np.arange(len(self.items)) - np.repeat(self.starts[:-1], self.lengths) < most
        starts = np.concatenate([[0], np.cumsum(np.minimum(self.lengths, most))])
        return Histories(starts, self.items[kept], self.days[kept], self.now)

    def matrix(self, items: int, values: NDArray[Any] | None = None) -> csr_matrix:
        """Return the histories as a sparse matrix (n, items), of ones or of the given values."""
        from scipy.sparse import csr_matrix

        data = np.ones(len(self.items)) if values is None else values
        return csr_matrix((data, self.items, self.starts), shape=(len(self.now), items))


def served_histories(rows: pl.DataFrame, ids: Sequence[str] | Mapping[str, int], now: Floats) -> Histories:
    """Read histories from the columns `recent_videos` and `recent_times` of service rows."""
    (lengths, videos), (_, times) = (_flat(rows[name]) for name in ("recent_videos", "recent_times"))
    return _histories(lengths, codes(videos, ids), times.to_numpy() / DAY, now)


def _flat(lists: pl.Series) -> tuple[Ints, pl.Series]:
    """Return how long each list is (0: null), and all that they hold, end to end."""
    if len(lists) <= FEW:
        held = [each or [] for each in lists.to_list()]
        inner = getattr(lists.dtype, "inner", pl.Null())
        values = [value for each in held for value in each]
        return np.array([len(each) for each in held], dtype=np.int64), pl.Series(values, dtype=inner)
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    return lengths, lists.explode(keep_nulls=False, empty_as_null=False)


def rows_histories(
    watches: pl.DataFrame, users: pl.Series, ids: list[str], now: Floats, most: int | None = None
) -> Histories:
    """Read histories from watches themselves: all of them, newest first, or the `most` newest."""
    asked = pl.DataFrame({"user_id": users}).with_row_index("_request")
    found = watches.join(asked, on="user_id").sort(
        ["_request", "day", "video_id"], descending=[False, True, False]
    )
    if most is not None:
        found = found.group_by("_request", maintain_order=True).head(most)
    lengths = np.bincount(found["_request"].to_numpy(), minlength=len(users))
    return _histories(lengths, codes(found["video_id"], ids), found["day"].to_numpy(), now)


def _histories(lengths: Ints, items: Ints, days: Floats, now: Floats) -> Histories:
    """Leave out items that the catalogue does not know."""
    request = np.repeat(np.arange(len(now)), lengths)
    known = items >= 0
    kept = np.bincount(request[known], minlength=len(now))
    return Histories(np.concatenate([[0], np.cumsum(kept)]), items[known], days[known], now)
