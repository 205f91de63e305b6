"""The protocol for logged slates: those drawn uniformly at random, which favour no policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, EvaluationProtocol, Judge, Measured
from pipelines.cases.video_recommendation.interactions import codes, day_of, read_catalogue, served_histories
from pipelines.cases.video_recommendation.moments import USER_FEATURES, video_moments
from pipelines.cases.video_recommendation.questions import Questions
from pipelines.errors import DataError
from pipelines.learning.measures import (
    CoverageOf,
    MeanOf,
    RatioOf,
    ndcg_of_rows,
    recall_of_lists,
)
from pipelines.learning.remembered import Remembered

LISTED, RETRIEVED = 10, 100
LIVE_DAYS = 2
NEW_USER_WATCHES = 3
NEW_VIDEO_DAYS = 3.0
MOST_REQUESTS = 20_000


@dataclass(frozen=True)
class Day:
    """One day's requests, as questions, and for each what was watched of its slate (row, video)."""

    asked: Questions
    requests: list[str]
    times: pl.Series
    positives: list[list[int]]


@dataclass(frozen=True)
class Logged:
    """What all scorers are measured on: explored impressions with features, and the requests by day.

    `rows` are sorted by request; `group` numbers the requests of `units`, all of which have a positive.
    `answered` tells for each explored request whether it had one.
    """

    rows: pl.DataFrame
    group: NDArray[np.int64]
    units: NDArray[Any]
    days: list[Day]
    catalogue: list[str]
    answered: NDArray[np.float64]
    slices: Mapping[str, NDArray[np.bool_]]


def prepare(train: Dataset, test: Dataset) -> Logged:
    """Read the explored, mature impressions; raise DataError where there are none to judge by."""
    labels = test.labels()
    explored = labels.filter(pl.col("explored").fill_null(False) & pl.col("request_id").is_not_null())
    explored = explored.sort("request_id", "position", "example_id")
    positive = pl.col("label").max().over("request_id") > 0
    judged = explored.filter(positive)
    if judged.is_empty():
        raise DataError(
            f"of {labels.height} mature impressions in [{test.start.isoformat()}, {test.end.isoformat()}) none "
            "was explored and watched: serve some slates at random, or widen evaluate_days"
        )
    chosen = draw_requests(judged["request_id"], test.seed)
    rows = test.historical(judged.filter(pl.col("request_id").is_in(chosen.implode())), "time")
    units = rows["request_id"].unique().sort()
    group = codes(rows["request_id"], units.to_list())
    days, catalogue = _days(train, test, rows)
    asked = explored.group_by("request_id").agg(pl.col("label").max()).sort("request_id")
    return Logged(
        rows,
        group,
        units.to_numpy(),
        days,
        catalogue,
        asked["label"].cast(pl.Float64).to_numpy(),
        _slices(rows),
    )


def draw_requests(requests: pl.Series, seed: int) -> pl.Series:
    """Choose which requests are judged: at most so many, of all days alike, though ids may tell the time."""
    known = requests.unique().sort()
    if len(known) <= MOST_REQUESTS:
        return known
    drawn = np.random.default_rng([seed, 1]).choice(len(known), MOST_REQUESTS, replace=False)
    return known.gather(np.sort(drawn))


def measure_logged(model: Any, train: Dataset, test: Dataset, judge: Judge | None) -> Measured:
    """Measure a scorer on shown rows, and, where it can answer requests, its lists."""
    found = _prepared(train, test)
    labels = found.rows["label"].cast(pl.Float64).to_numpy()
    scores = np.asarray(model.predict(found.rows), dtype=np.float64)
    statistics: dict[str, Any] = {
        "ndcg_at_10": MeanOf(found.units, ndcg_of_rows(found.group, scores, labels, LISTED)),
        "requests_with_watch": MeanOf(np.arange(len(found.answered)), found.answered),
    }
    if hasattr(model, "rank"):
        statistics |= _lists(model, found, judge)
    return Measured(statistics, found.slices)


def _lists(model: Any, found: Logged, judge: Judge | None) -> dict[str, Any]:
    """Let a scorer answer each day's requests from what was live, and measure the lists."""
    place = {video: row for row, video in enumerate(found.catalogue)}
    units: list[str] = []
    recall, shown, served = [], [], []
    for day in found.days:
        ids = day.asked.catalogue["video_id"]
        listed, retrieved = model.rank(day.asked, LISTED), model.retrieve(day.asked, RETRIEVED)
        hits = np.array([np.isin(row, wanted) for row, wanted in zip(retrieved, day.positives, strict=True)])
        recall.append(recall_of_lists(hits, np.array([len(each) for each in day.positives])))
        whole = np.array([place[video] for video in ids])
        shown.append(np.where(listed >= 0, whole[np.maximum(listed, 0)], -1))
        served.append(_served(day, listed, ids))
        units += day.requests
    order = np.argsort(units)
    names = np.array(units)[order]
    statistics: dict[str, Any] = {
        "recall_at_100": MeanOf(names, np.concatenate(recall)[order]),
        "coverage_at_10": CoverageOf(names, np.concatenate(shown)[order], len(found.catalogue)),
    }
    if judge is not None:
        share = judge.best_share(pl.concat(served), LISTED).sort("unit")
        reward, best = share["reward"].to_numpy(), share["best"].to_numpy()
        statistics["oracle_share"] = RatioOf(share["unit"].to_numpy(), reward, best)
    return statistics


def _served(day: Day, listed: NDArray[np.int64], ids: pl.Series) -> pl.DataFrame:
    """Lay out slates as a judge reads them: unit, user_id, video_id, time, position."""
    request, place = np.nonzero(listed >= 0)
    return pl.DataFrame(
        {
            "unit": pl.Series(day.requests, dtype=pl.String).gather(request),
            "user_id": day.asked.people["user_id"].gather(request),
            "video_id": ids.gather(listed[request, place]),
            "time": day.times.gather(request),
            "position": place + 1,
        }
    )


def _days(train: Dataset, test: Dataset, rows: pl.DataFrame) -> tuple[list[Day], list[str]]:
    catalogue = read_catalogue(test)
    shown = pl.concat([_shown_days(train), _shown_days(test)]).unique()
    midnight = rows["time"].dt.truncate("1d")
    days = [
        _day(test, rows.filter(midnight == moment), catalogue, shown, moment)
        for moment in midnight.unique().sort()
    ]
    everything = sorted({video for day in days for video in day.asked.catalogue["video_id"].to_list()})
    return days, everything


def _shown_days(dataset: Dataset) -> pl.DataFrame:
    """List which videos were shown on which days."""
    rows = dataset.table("impressions").select("video_id", day=pl.col("impression_time").dt.truncate("1d"))
    return rows.unique().collect()


def _day(
    test: Dataset, rows: pl.DataFrame, catalogue: pl.DataFrame, shown: pl.DataFrame, midnight: datetime
) -> Day:
    """Ask for one day's requests, from the videos that were live: shown lately, or just published."""
    from scipy.sparse import csr_matrix

    since = midnight - timedelta(days=LIVE_DAYS)
    lately = shown.filter((pl.col("day") >= since) & (pl.col("day") < midnight))["video_id"].unique()
    published = pl.from_epoch("published_at", "s").dt.replace_time_zone("UTC")
    fresh = (published >= since) & (published < midnight)
    live = catalogue.filter(pl.col("video_id").is_in(lately.implode()) | fresh.fill_null(False))
    requests = rows.unique("request_id", keep="first", maintain_order=True).sort("request_id")
    people = requests.select("user_id", "device", "user_country", "user_language", *USER_FEATURES)
    now = requests["time"].dt.epoch("us").to_numpy() / 86_400e6
    ids: list[str] = live["video_id"].to_list()
    histories = served_histories(people, ids, now)
    ones = np.ones(len(histories.items))
    seen = csr_matrix((ones, histories.items, histories.starts), shape=(people.height, len(ids)))
    videos = video_moments(test, live["video_id"], midnight)
    watched = rows.filter(pl.col("label") > 0).select("request_id", "video_id")
    place = dict(zip(ids, range(len(ids)), strict=True))
    positives: dict[str, list[int]] = {}
    for request, video in watched.iter_rows():
        # A video that is no candidate still counts as one to be found: -2 stands in no list.
        positives.setdefault(request, []).append(place.get(video, -2))
    names: list[str] = requests["request_id"].to_list()
    asked = Questions(people, live, videos, day_of(midnight), now, seen)
    return Day(asked, names, requests["time"], [positives[name] for name in names])


def _slices(rows: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Mark requests by the user's history and by what was watched; in the order of request ids."""
    age = pl.col("time").dt.epoch("s") - pl.col("published_at")
    head = pl.col("video_watches_7d").fill_null(0) >= rows["video_watches_7d"].fill_null(0).quantile(0.8)
    taken = pl.col("label") > 0
    found = rows.group_by("request_id").agg(
        history=pl.col("recent_videos").list.len().fill_null(0).first(),
        new=((age <= NEW_VIDEO_DAYS * 86_400) & taken).any(),
        head=(head & taken).any(),
        day=pl.col("time").first().dt.date(),
    ).sort("request_id")  # fmt: skip
    marks = {
        "new_users": found["history"].to_numpy() <= NEW_USER_WATCHES,
        "new_videos": found["new"].fill_null(False).to_numpy(),
        "head": found["head"].to_numpy(),
        "tail": ~found["head"].to_numpy(),
    }
    for day in found["day"].unique().sort():
        marks[f"day={day}"] = (found["day"] == day).to_numpy()
    return marks


_prepared = Remembered(prepare)

LOGGED = EvaluationProtocol(
    name="logged",
    describe={
        "unit": "an explored request (its slate drawn uniformly at random) with mature labels and at least one "
        "watch; requests without one are left out, and counted by requests_with_watch",
        "relevant": "watched at least half within 24 hours of the impression",
        "ties": "tied scores share the discounts of the ranks they span",
        "features": "as they stood at the midnight before each request",
        "lists": f"recall_at_100, coverage_at_10, oracle_share: the scorer answers the same requests from all "
        f"videos shown within {LIVE_DAYS} days or just published, without those the user has watched",
    },
    measure=measure_logged,
)
