"""What the ranker sees of a user and a video at a moment: one row of numbers a pair.

Columns stand on their own (none is relative to the other candidates of a request), so that a row means
the same in a logged slate of ten, among two hundred candidates, and alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.content import Encoder
from pipelines.cases.video_recommendation.interactions import DAY, Histories, codes
from pipelines.cases.video_recommendation.retrieval import YOUNG_DAYS, Retrieval
from pipelines.cases.video_recommendation.told import MOST_HISTORY
from pipelines.learning.popularity import daily_rate

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CHUNK_CELLS = 500_000
"""Requests times videos that are scored at once."""

USER_COLUMNS = (
    "user_impressions_1d", "user_watches_1d", "user_watch_rate_1d", "user_impressions_7d", "user_watches_7d",
    "user_watch_rate_7d", "user_impressions_28d", "user_watches_28d", "user_watch_rate_28d", "user_clicks_7d",
    "user_likes_28d", "user_mean_value_28d", "user_days_active_28d",
)  # fmt: skip
VIDEO_COLUMNS = (
    "video_watches_1d", "video_watches_7d", "video_watches_28d", "video_watches_90d", "video_watches_365d",
    "video_impressions_1d", "video_watch_rate_1d", "video_impressions_7d", "video_watch_rate_7d",
    "video_impressions_28d", "video_watch_rate_28d", "video_likes_28d", "video_mean_value_28d",
    "video_mean_value_365d", "video_watchers_28d",
)  # fmt: skip
RATES = (1, 7, 28, 90)
TRENDING_DAYS = (1, 7)
MATCH_COLUMNS = (
    "similar", "similar_best", "similar_rank", "similar_recent", "recent_best", "tower", "tower_standard",
    "tower_rank", "close", "close_rank", "popular_then", "then_best", "then_rank", "watched_rank",
    "genre_match", "creator_share", "language_share", "same_language", "watched", "history_length",
    "history_watched", "history_young",
    "video_age", "year", "year_gap", "duration", "device",
)  # fmt: skip
COLUMNS = (
    *USER_COLUMNS,
    "user_days_since",
    *VIDEO_COLUMNS,
    *(f"video_rate_{days}d" for days in RATES),
    *MATCH_COLUMNS,
)


@dataclass(frozen=True)
class Requests:
    """n requests as numbers: the user's own columns, and codes of words (-1 where unknown).

    `words` (n, 4) are country, language, language among those of videos, and device.
    """

    own: Floats
    words: Ints
    histories: Histories

    @classmethod
    def of(cls, encoder: Encoder, people: pl.DataFrame, histories: Histories) -> Requests:
        """Read them from user_country, user_language, device and the user's service features.

        The service features are absent where a protocol has no order of time.
        """
        words = np.column_stack([encoder.words(people), devices(encoder, people)])
        return cls(own_columns(people, histories.now), words, histories)

    def __len__(self) -> int:
        return len(self.histories.now)

    def part(self, low: int, high: int) -> Requests:
        """Take the requests [low, high)."""
        return Requests(self.own[low:high], self.words[low:high], self.histories.part(low, high))


def own_columns(people: pl.DataFrame, now: Floats) -> Floats:
    """Return users' own columns of the ranker, (n, USER_COLUMNS + 1); NaN where missing."""
    since = now - numbers(people, ("user_last_active",))[:, 0] / DAY
    return np.column_stack([numbers(people, USER_COLUMNS), since])


def devices(encoder: Encoder, people: pl.DataFrame) -> Ints:
    """Return the codes of the requests' devices, shape (n,)."""
    return codes(people["device"], list(encoder.devices))


@dataclass(frozen=True)
class Shelf:
    """A catalogue as it stood at one moment: service features of every video of the stage's catalogue."""

    stage: Retrieval
    day: float
    features: Floats
    vectors: NDArray[np.float32]

    @cached_property
    def watched_rank(self) -> Floats:
        """Rank of each video's watches among those that the stage was fitted on, shape (catalogue,)."""
        every = np.arange(len(self.stage.watched))
        watched = self.stage.watched[None, None, :].astype(np.float32)
        return _log_ranks(watched, np.zeros_like(every), every, self.stage.fitted)[0]

    @cached_property
    def orders(self) -> list[Ints]:
        """Order the catalogue, best first, by each source that is the same for everybody.

        Popular, trending and well received; a video on which a source is silent (0) is left out of it.
        """
        trending = [self.features[:, len(VIDEO_COLUMNS) + RATES.index(days)] for days in TRENDING_DAYS]
        shown = self.features[:, VIDEO_COLUMNS.index("video_impressions_7d")]
        received = np.where(shown > 0, self.features[:, VIDEO_COLUMNS.index("video_watch_rate_7d")], 0.0)
        sources = [self.stage.watched, *trending, received]
        return [_best_first(np.nan_to_num(each, nan=0.0)) for each in sources]

    @classmethod
    def at(cls, stage: Retrieval, day: float, videos: pl.DataFrame | None) -> Shelf:
        """Lay out a catalogue as of a day; `videos` has video_id and the service's columns."""
        return cls(stage, day, video_features(stage, videos, day), stage.item_vectors(day))


def video_features(stage: Retrieval, videos: pl.DataFrame | None, day: float) -> Floats:
    """Return the videos' own columns, shape (catalogue, VIDEO_COLUMNS + RATES); NaN where missing."""
    ids = stage.catalogue.select("video_id")
    if videos is None:
        return np.full((ids.height, len(VIDEO_COLUMNS) + len(RATES)), np.nan)
    known = videos.unique("video_id", keep="first", maintain_order=True)
    rows = ids.join(known, on="video_id", how="left", maintain_order="left")
    return _video_columns(rows, np.full(ids.height, day))


def _video_columns(rows: pl.DataFrame, day: Floats) -> Floats:
    plain = numbers(rows, VIDEO_COLUMNS)
    age = day - numbers(rows, ("video_first_seen",))[:, 0] / DAY
    counts = {days: plain[:, VIDEO_COLUMNS.index(f"video_watches_{days}d")] for days in RATES}
    rates = [daily_rate(counts[days], float(days), age) for days in RATES]
    return np.column_stack([plain, *rates])


def numbers(rows: pl.DataFrame, columns: tuple[str, ...]) -> Floats:
    """Return columns as numbers, shape (n, columns); NaN where a value or a whole column is missing."""
    found = np.full((rows.height, len(columns)), np.nan)
    held = set(rows.columns)
    for place, name in enumerate(columns):
        if name in held:
            found[:, place] = rows[name].cast(pl.Float64).to_numpy()
    return found


class Scorer:
    """Match scores of some requests (a chunk) with a whole catalogue, from which pairs are picked."""

    def __init__(self, shelf: Shelf, requests: Requests) -> None:
        self.shelf, self.requests = shelf, requests
        self.stage, self.histories = shelf.stage, requests.histories
        self.told = self.stage.teller.tell(self.histories)
        self.length = self.histories.lengths.astype(np.float64)
        self.users = self._users()

    def _users(self) -> NDArray[np.float32]:
        """Compute a vector for each request, shape (n, d)."""
        length = np.minimum(self.length, MOST_HISTORY).astype(np.float32)
        mean = (self.told.taste / np.maximum(length, 1.0)[:, None]).astype(np.float32)
        return self.stage.towers.users(mean, length, self.stage.encoder.users(self.requests.words))

    @cached_property
    def similar(self) -> Floats:
        """Mean similarity of each video to the history, shape (n, catalogue)."""
        return self.told.similar / np.maximum(self.length, 1.0)[:, None]

    @cached_property
    def similar_recent(self) -> Floats:
        """The same, of a history that fades with a scale of 14 days from its newest watch."""
        return self.told.recent / np.maximum(self.told.faded, 1e-9)[:, None]

    @cached_property
    def close(self) -> Floats:
        """Mean similarity to the history where rare pairs are trusted more, shape (n, catalogue)."""
        return self.told.close / np.maximum(self.length, 1.0)[:, None]

    @cached_property
    def tower(self) -> NDArray[np.float32]:
        """Cosine of user and video, shape (n, catalogue)."""
        return self.users @ self.shelf.vectors.T

    def columns(self, request: Ints, item: Ints) -> NDArray[np.float32]:
        """Return the ranker's rows (COLUMNS) of pairs of a request (of this chunk) and a video."""
        found = np.empty((len(item), len(COLUMNS)), dtype=np.float32)
        shelf_from = self.requests.own.shape[1]
        match_from = shelf_from + self.shelf.features.shape[1]
        found[:, :shelf_from] = self.requests.own[request]
        found[:, shelf_from:match_from] = self.shelf.features[item]
        for place, values in enumerate(self._match_columns(request, item), start=match_from):
            found[:, place] = values
        return found

    def _match_columns(self, request: Ints, item: Ints) -> list[NDArray[Any]]:
        stage, told, length = self.stage, self.told, np.maximum(self.length, 1.0)
        tower, similar, recent, then = self.tower, self.similar, self.similar_recent, told.then
        # Held to the videos that the stage was fitted on: which others stand beside them must not matter.
        fitted = tower[:, : stage.fitted]
        spread = np.maximum(fitted.std(axis=1), 1e-6)
        standard = (tower - fitted.mean(axis=1, keepdims=True)) / spread[:, None]
        genres, languages, creators = (
            each / length[:, None] for each in (told.genres, told.languages, told.creators)
        )
        language, creator = stage.languages.code, stage.creators.code
        popular, years, dated = told.known.T
        day = self.histories.now
        entry = self.histories.items
        age_then = np.clip(self.histories.days - stage.first_day[entry], 0.0, YOUNG_DAYS)
        young = np.bincount(
            self.histories.rows(), np.nan_to_num(age_then, nan=YOUNG_DAYS), minlength=len(self.requests)
        )
        ranks = self._ranks([similar, tower, self.close, then], request, item)
        year = stage.year
        own_year = np.where(dated > 0, years / np.maximum(dated, 1.0), np.nan)
        return [
            similar[request, item],
            _of_best(similar, request, item, stage.fitted),
            ranks[0],
            recent[request, item],
            _of_best(recent, request, item, stage.fitted),
            tower[request, item],
            standard[request, item],
            ranks[1],
            self.close[request, item],
            ranks[2],
            then[request, item],
            _of_best(then, request, item, stage.fitted),
            ranks[3],
            self.shelf.watched_rank[item],
            np.einsum("pg,pg->p", genres[request], stage.genres[item]),
            _share(creators, request, creator[item]),
            _share(languages, request, language[item]),
            _same(self.requests.words[request, 2], language[item]),
            stage.popular[item],
            self.length[request],
            (popular / length)[request],
            (young / length)[request],
            day[request] - stage.first_day[item],
            year[item],
            year[item] - own_year[request],
            stage.duration[item],
            self.requests.words[request, 3],
        ]

    def _ranks(self, scores: Sequence[NDArray[Any]], request: Ints, item: Ints) -> Floats:
        """Rank pairs among what the stage was fitted on, for their request, by each of several scores (scores, pairs).

        What a request has watched comes last; log1p of the rank from 0.
        """
        unseen = np.array(scores, dtype=np.float32)
        unseen[:, self.histories.rows(), self.histories.items] = -np.inf
        return _log_ranks(unseen, request, item, self.stage.fitted)


def pair_columns(shelf: Shelf, requests: Requests, request: Ints, item: Ints) -> NDArray[np.float32]:
    """Compute the ranker's rows of pairs, in chunks of requests; `request` must not decrease."""
    parts = [np.zeros((0, len(COLUMNS)), dtype=np.float32)]
    for low, high, part in chunks(requests, len(shelf.vectors)):
        begin, end = np.searchsorted(request, [low, high])
        if begin < end:
            parts.append(Scorer(shelf, part).columns(request[begin:end] - low, item[begin:end]))
    return np.concatenate(parts)


def chunk_size(catalogue: int) -> int:
    """Return how many requests are scored at once."""
    return max(16, CHUNK_CELLS // max(catalogue, 1))


def chunks(requests: Requests, catalogue: int) -> Iterator[tuple[int, int, Requests]]:
    """Yield (low, high, those requests) in parts that fit into memory."""
    size = chunk_size(catalogue)
    for low in range(0, len(requests), size):
        high = min(low + size, len(requests))
        yield low, high, requests.part(low, high)


def _of_best(scores: NDArray[Any], request: Ints, item: Ints, first: int) -> Floats:
    """Divide scores by the best of their request among the `first` items: what a refit on more data does not move."""
    best = scores[:, :first].max(axis=1)
    return np.asarray(scores[request, item] / np.maximum(best, 1e-9)[request])


def _log_ranks(scores: NDArray[np.float32], request: Ints, item: Ints, first: int) -> Floats:
    """Return log1p of how many of the `first` of their request's scores (kinds, n, catalogue) are greater.

    Shape (kinds, pairs).
    """
    costs = -scores
    lower = np.sort(costs[:, :, :first], axis=2)
    starts = np.searchsorted(request, np.arange(scores.shape[1] + 1))
    greater = np.zeros((len(scores), len(request)))
    for row, (low, high) in enumerate(pairwise(starts)):
        for kind, ordered in enumerate(lower[:, row]):
            greater[kind, low:high] = ordered.searchsorted(costs[kind, row, item[low:high]])
    return np.log1p(greater)


def _best_first(scores: Floats) -> Ints:
    known = np.flatnonzero(scores > 0)
    return known[np.lexsort((known, -scores[known]))]


def _share(held: Floats, request: Ints, word: Ints) -> Floats:
    return np.where(word >= 0, held[request, np.maximum(word, 0)], 0.0)


def _same(own: Ints, word: Ints) -> Floats:
    return np.where((own >= 0) & (word >= 0), (own == word).astype(np.float64), np.nan)
