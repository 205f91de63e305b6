"""How classifiers are judged: on reviewed posts, each by one over the probability that it was reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, EvaluationProtocol, Judge, Measured
from pipelines.cases.harmful_content.posts import Bools, Floats, Reviewed, places
from pipelines.cases.harmful_content.predictions import by_harm, decided_posts
from pipelines.cases.harmful_content.tables import HARMS
from pipelines.errors import DataError
from pipelines.learning.measures import RatioOf
from pipelines.learning.precision_recall import AveragePrecisionOf, F1Of, Ranking, RecallAtPrecisionOf
from pipelines.learning.probabilities import log_losses
from pipelines.learning.remembered import Remembered
from pipelines.learning.text import plain

PRECISION = 0.8
LEAST = 5
HELD_OUT = 0.1
QUEUE = 50
NEW_AUTHOR_DAYS = 14


@dataclass(frozen=True)
class Examined:
    """What all scorers are measured on: n reviewed posts, k harms that training knows, labels (n, k)."""

    posts: pl.DataFrame
    harms: tuple[str, ...]
    labels: Floats
    weights: Floats
    slices: Mapping[str, Bools]
    seen: Dataset

    @cached_property
    def submitted(self) -> pl.DataFrame:
        """All posts of whole days, reviewed or not; none where no times are told. Read when a judge asks for them."""
        if self.posts["time"].null_count():
            return self.posts.clear()
        return self.seen.historical(_whole_days(self.seen), "time")

    @property
    def units(self) -> NDArray[Any]:
        """The posts' ids."""
        return self.posts["example_id"].to_numpy()

    def rows(self, posts: pl.DataFrame) -> pl.DataFrame:
        """Ask for each post and harm."""
        return by_harm(posts).filter(pl.col("harm").is_in(self.harms))

    def scores(self, scorer: Any, posts: pl.DataFrame) -> Floats:
        """Let a scorer answer for posts, shape (n, k)."""
        found = np.asarray(scorer.predict(self.rows(posts)), dtype=np.float64)
        return found.reshape(posts.height, len(self.harms))


def prepare(train: Dataset, test: Dataset) -> Examined:
    """Read the reviewed, mature posts; raise DataError where there are none, or training knows no harm.

    Which harms are measured depends on training alone, so that figures of other days can be compared; one that
    does not occur leaves the figures without a value.
    """
    found, harms = Reviewed.read(test), Reviewed.read(train).learnable(LEAST)
    if not harms or not len(found.labels):
        raise DataError(
            f"{len(found.labels)} posts were reviewed and are mature in [{test.start.isoformat()}, "
            f"{test.end.isoformat()}), and {len(harms)} harms were found {LEAST} times in training: there must be "
            "some of each; widen the window"
        )
    slices = _slices(found.posts, train)
    return Examined(found.posts, harms, found.labels[:, places(harms)], found.weights, slices, test)


def measure(scorer: Any, train: Dataset, test: Dataset, judge: Judge | None) -> Measured:
    """Measure how a scorer orders posts, and, where it says what follows, what would have followed."""
    found = _prepared(train, test)
    scores = found.scores(scorer, found.posts)
    rankings = [Ranking.of(scores[:, k], found.labels[:, k], found.weights) for k in range(len(found.harms))]
    statistics: dict[str, Any] = {"pr_auc_macro": AveragePrecisionOf(found.units, tuple(rankings))}
    for harm, ranking in zip(found.harms, rankings, strict=True):
        statistics[f"pr_auc_{harm}"] = AveragePrecisionOf(found.units, (ranking,))
        statistics[f"recall_at_p80_{harm}"] = RecallAtPrecisionOf(found.units, ranking, PRECISION)
    if hasattr(scorer, "names") and (found.labels.sum(axis=1) <= 1).all():
        statistics |= _f1(found, _named(scorer, found, scores))
    if hasattr(scorer, "removes"):
        losses = log_losses(scores, found.labels).sum(axis=1)
        statistics["log_loss"] = RatioOf(found.units, found.weights * losses, found.weights)
        statistics |= _removals(found, scorer.removes(_learned(scorer, found, scores)))
    if judge is not None:
        statistics["oracle_share"] = _queue(scorer, found, judge)
    return Measured(statistics, found.slices)


def hold_out_posts(tables: Mapping[str, pl.LazyFrame], seed: int) -> Mapping[str, pl.DataFrame]:
    """Hold out a tenth of the posts with all that happened to them."""
    posts = tables["impressions"].select("impression_id", "request_id").collect().sort("impression_id")
    held = posts.filter(pl.Series(np.random.default_rng(seed).random(posts.height) < HELD_OUT))
    actions = tables["actions"].select("action_id", "impression_id").collect()
    return {
        "requests": held.select("request_id").unique(),
        "impressions": held.select("impression_id"),
        "actions": actions.join(held, on="impression_id", how="semi").select("action_id"),
    }


def _learned(scorer: Any, found: Examined, scores: Floats) -> Floats:
    """Lay the scores out by the scorer's own harms; one that is not measured counts as absent."""
    whole = np.zeros((len(scores), len(HARMS)))
    whole[:, places(found.harms)] = scores
    return whole[:, places(scorer.harms)]


def _named(scorer: Any, found: Examined, scores: Floats) -> NDArray[np.int64]:
    """Number the harm each post is filed under by its place in HARMS, from 1; 0 for none."""
    place = np.concatenate([[0], places(scorer.harms) + 1])
    return place[scorer.names(_learned(scorer, found, scores))]


def _f1(found: Examined, named: NDArray[np.int64]) -> dict[str, Any]:
    """Compute F1 over the measured harms and none, where every post has one of them."""
    class_of = np.zeros(len(HARMS) + 1, dtype=np.int64)
    class_of[places(found.harms) + 1] = np.arange(len(found.harms)) + 1
    truth = (found.labels @ (np.arange(len(found.harms)) + 1)).astype(np.int64)
    count = len(found.harms) + 1
    averages: dict[str, str | int] = {"f1_weighted": "weighted", "f1_macro": "macro"}
    averages |= {f"f1_{harm}": k + 1 for k, harm in enumerate(found.harms)}
    return {name: F1Of(found.units, truth, class_of[named], count, how) for name, how in averages.items()}


def _removals(found: Examined, removed: Bools) -> dict[str, Any]:
    """Compute what people would still see, and whom removals would wrong; by views, expected ones."""
    harmful = found.labels.max(axis=1) > 0
    views = found.weights * found.posts["audience"].fill_null(1.0).to_numpy()
    units, gone = found.units, removed * found.weights
    statistics = {
        "harmful_view_share": RatioOf(units, views * (harmful & ~removed), views * ~removed),
        "harmful_view_share_unmoderated": RatioOf(units, views * harmful, views),
        "removed_share": RatioOf(units, gone, found.weights),
        "removals_overturned": RatioOf(units, gone * ~harmful, gone),
    }
    appealed = found.posts["appealed"].fill_null(False).to_numpy()
    if appealed.any():
        overturned = found.posts["overturned"].fill_null(False).to_numpy()
        statistics["appeals_upheld"] = RatioOf(units, gone * overturned, gone * appealed)
    return statistics


def _queue(scorer: Any, found: Examined, judge: Judge) -> RatioOf:
    """Fill each day's queue from all posts submitted, and compare the harm in it with the best queue's."""
    expected = found.scores(scorer, found.submitted).sum(axis=1)
    day = pl.col("request_time").dt.strftime("%Y-%m-%d")
    rows = found.submitted.select("request_id", "author_id", "text", "time", unit=day)
    rows = rows.with_columns(pl.Series("expected", expected))
    rows = rows.sort(["unit", "expected", "request_id"], descending=[False, True, False])
    share = judge.best_share(rows, QUEUE).sort("unit")
    return RatioOf(share["unit"].to_numpy(), share["reward"].to_numpy(), share["best"].to_numpy())


def _whole_days(test: Dataset) -> pl.DataFrame:
    """Read the posts of the days all of whose decisions lie in the data set."""
    day = pl.col("request_time").dt.truncate("1d")
    return decided_posts(test).filter((day >= test.start) & (day + timedelta(days=2) <= test.end))


def _slices(posts: pl.DataFrame, train: Dataset) -> dict[str, Bools]:
    """Mark posts by their author's age, by reports, by words that training never saw, and by day."""
    marks: dict[str, Bools] = {}
    age = pl.col("time").dt.epoch("s") - pl.col("author_since")
    flags = posts.select(
        new_authors=age < NEW_AUTHOR_DAYS * 86_400,
        reported=pl.col("reports") > 0,
        quiet=pl.col("reports") == 0,
    )
    for name in flags.columns:
        if flags[name].null_count() < flags.height:
            marks[name] = flags[name].fill_null(False).to_numpy()
    seen = _words(train.table("requests").select("text").collect()["text"])["word"].unique()
    fresh = _words(posts["text"]).filter(~pl.col("word").is_in(seen.implode()))["row"].unique()
    marks["unseen_words"] = np.isin(np.arange(posts.height), fresh.to_numpy())
    days = posts["time"].dt.date()
    for day in days.drop_nulls().unique().sort():
        marks[f"day={day}"] = (days == day).to_numpy()
    return marks


def _words(texts: pl.Series) -> pl.DataFrame:
    frame = plain(texts).str.split(" ").alias("word").to_frame().with_row_index("row")
    return frame.explode("word").filter(pl.col("word") != "")


_prepared = Remembered(prepare)

_DETAILS = {
    "unit": "a reviewed post whose verdict came within 4 days of the decision",
    "weights": "one over the probability that the post was reviewed, where the source tells it: reported posts "
    "are always reviewed, others by chance, and only so do the figures speak of all posts",
    "pr_auc": "average precision; macro: the mean over the harms that were found at least 5 times in training",
    "recall_at_p80": "the greatest recall at any threshold with a precision of at least 0.8",
    "log_loss": "of a post's probabilities, summed over the harms; for models that give such",
    "removals": "what the model's own thresholds, chosen on training rows, would remove; views are expected ones",
}

LOGGED = EvaluationProtocol(
    name="logged",
    describe={
        **_DETAILS,
        "oracle_share": f"each day {QUEUE} of all posts submitted are queued by their summed probabilities; "
        "the harms expected in the queue over those in the best queue",
    },
    measure=measure,
)
RANDOM = EvaluationProtocol(
    name="random",
    describe={
        "split": "a random tenth of the posts is held out, with all that happened to them",
        **_DETAILS,
        "f1": "where no post has two harms: each is filed under one harm or none; macro and weighted over all three",
    },
    measure=measure,
    hold_out=hold_out_posts,
)
