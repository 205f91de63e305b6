"""Posts as a model reads them: examples laid side by side by harm, and everything about a post but its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset
from pipelines.cases.harmful_content.tables import HARMS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

AUTHOR_COUNTS = (
    "author_posts_7d", "author_reports_7d", "author_reviews_7d", "author_harmful_7d", "author_posts_28d",
    "author_reports_28d", "author_reviews_28d", "author_harmful_28d", "author_harm_rate_28d",
    *(f"author_{harm}_28d" for harm in HARMS), "author_overturned_28d",
)  # fmt: skip
_KINDS: dict[str, pl.DataType] = {
    "text": pl.String(), "time": pl.Datetime("us", "UTC"), "audience": pl.Float64(), "reports": pl.Int64(),
    "client": pl.String(), "author_country": pl.String(), "author_since": pl.Int64(),
    **{name: pl.Float64() if name.endswith("rate_28d") else pl.Int64() for name in AUTHOR_COUNTS},
}  # fmt: skip
SIGNS = ("characters", "words", "capitals", "digits", "marks", "links", "names")
COLUMNS = ("audience", "reports", "report_rate", *AUTHOR_COUNTS, "author_days", "client", "country", *SIGNS)


@dataclass(frozen=True)
class Reviewed:
    """Reviewed posts, sorted by id: `posts` (n rows), and by harm, in the order of HARMS, shape (n, 4).

    `shares` are shares of the reviewers' votes, the label itself where nobody voted. `weights` (n,) is one
    over the probability that the post was reviewed: reviewed posts are no fair sample of all.
    """

    posts: pl.DataFrame
    labels: Floats
    shares: Floats
    weights: Floats

    @classmethod
    def read(cls, dataset: Dataset) -> Reviewed:
        """Read the mature examples of a data set with their features."""
        labels = dataset.labels().sort("example_id", pl.col("harm").replace_strict(_PLACE))
        shape = (labels.height // len(HARMS), len(HARMS))
        label = labels["label"].cast(pl.Float64)
        share = labels["vote_share"].fill_null(label)
        posts = labels.gather_every(len(HARMS)).drop("harm", "label", "vote_share")
        weights = 1 / posts["propensity"].fill_null(1.0).to_numpy()
        found = [each.to_numpy().reshape(shape) for each in (label, share)]
        return cls(dataset.historical(posts, "time"), found[0], found[1], weights)

    def learnable(self, least: int) -> tuple[str, ...]:
        """Name the harms that at least `least` posts have, and as many have not."""
        some = self.labels.sum(axis=0)
        return tuple(h for h, n in zip(HARMS, some, strict=True) if least <= n <= len(self.labels) - least)


def places(harms: Sequence[str]) -> Ints:
    """Number harms by their place in HARMS."""
    return np.array([_PLACE[harm] for harm in harms], dtype=np.int64)


def distinct(rows: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
    """Return the distinct posts among rows of post and harm, with all columns a model reads, and each row's place."""
    asked = rows.select(
        pl.col(name).cast(kind) if name in rows.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in _KINDS.items()
    )
    _, first, place = np.unique(asked.hash_rows(seed=0).to_numpy(), return_index=True, return_inverse=True)
    return asked[first], place


@dataclass(frozen=True)
class Levels:
    """The values of the categorical columns that training saw, each numbered by its place."""

    client: tuple[str, ...]
    author_country: tuple[str, ...]

    @classmethod
    def of(cls, posts: pl.DataFrame) -> Levels:
        """List the values, sorted."""
        found = [posts[name].drop_nulls().unique().sort().to_list() for name in ("client", "author_country")]
        return cls(tuple(found[0]), tuple(found[1]))

    def table(self, posts: pl.DataFrame) -> Floats:
        """Lay out COLUMNS as numbers, shape (n, COLUMNS); NaN where something is unknown."""
        now = pl.col("time").dt.epoch("s")
        reach = (1 + pl.col("audience")).log()
        frame = posts.select(
            reach.alias("audience"),
            pl.col("reports"),
            (pl.col("reports") / (1 + reach)).alias("report_rate"),
            *AUTHOR_COUNTS,
            ((now - pl.col("author_since")) / 86_400).alias("author_days"),
            _code("client", self.client),
            _code("author_country", self.author_country).alias("country"),
            *_signs(),
        )
        return frame.select(pl.all().cast(pl.Float64).fill_null(np.nan)).to_numpy()


def _code(column: str, levels: tuple[str, ...]) -> pl.Expr:
    known = dict(zip(levels, range(len(levels)), strict=True))
    return pl.col(column).replace_strict(known, default=None, return_dtype=pl.Int64)


def _signs() -> list[pl.Expr]:
    """Describe how a text is written, whatever it says."""
    text = pl.col("text").fill_null("")
    length = text.str.len_chars()
    share = {
        name: text.str.count_matches(pattern) / pl.max_horizontal(length, 1)
        for name, pattern in (("capitals", r"\p{Lu}"), ("digits", r"\d"), ("marks", r"[!?]"))
    }
    return [
        length.alias("characters"),
        text.str.count_matches(r"\S+").alias("words"),
        *(each.alias(name) for name, each in share.items()),
        text.str.count_matches(r"https?://|www\.").alias("links"),
        text.str.count_matches("@").alias("names"),
    ]


_PLACE = {harm: place for place, harm in enumerate(HARMS)}
