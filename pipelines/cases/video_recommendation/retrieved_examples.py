"""Examples where a source shows no impressions: what was watched next, among retrieved candidates.

Positives are observed. Negatives are sampled from the candidates that stage one retrieves, and nobody
has seen them: the ranker's scores order, they are no probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.cases.video_recommendation.interactions import codes, moment_of, rows_histories
from pipelines.cases.video_recommendation.log import Examples, Log
from pipelines.cases.video_recommendation.model import retrieve
from pipelines.cases.video_recommendation.moments import user_moments, video_moments
from pipelines.cases.video_recommendation.pairs import COLUMNS, Requests, Scorer, Shelf, chunks
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.questions import Questions
from pipelines.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Ints = NDArray[np.int64]

NEGATIVES = 60
"""Sampled from each request's candidates."""
STAGE_WATCHES = 1_500_000
"""Watches that stage one may read over all cuts together: bounds the time on large sources."""
FEWEST_CUTS = 2
HORIZON = 0.25
"""After a cut at n watches, the next n / 4 are to be foreseen: as an 80/20 split asks of the whole."""
EARLIEST, LATEST = 0.4, 0.85
FOLDS = 4
SHOWN_PAIRS = 20_000


@dataclass(frozen=True)
class Cut:
    """What may be known, and what is to be foreseen from it. `day` is None where there is no order."""

    known: pl.DataFrame
    next: pl.DataFrame
    day: float | None


def retrieved_examples(log: Log, params: VideoParams) -> Examples:
    """Make examples at several cuts: retrieve candidates from what was known, label what came next."""
    affordable = max(FEWEST_CUTS, min(params.ranker.cuts, STAGE_WATCHES // max(log.watches.height, 1)))
    cuts = list(_folds(log, affordable) if log.dataset.timeless else _moments(log, affordable))
    rng = np.random.default_rng([log.dataset.seed, 5])
    parts = [_at(log, cut, params, params.ranker.pairs // max(len(cuts), 1), rng) for cut in cuts]
    parts = [part for part in parts if len(part[1])]
    if not parts:
        raise DataError(
            "no user watched anything that could have been retrieved from what was watched before: there are "
            f"{log.watches.height} watches of {log.catalogue.height} videos; read more data"
        )
    shift = np.cumsum([0, *(int(part[2].max()) + 1 for part in parts)])
    labels = np.concatenate([part[1] for part in parts])
    shown = pl.concat([part[3] for part in parts], how="diagonal_relaxed")
    return Examples(
        rows=np.concatenate([part[0] for part in parts]),
        labels=labels,
        groups=np.concatenate([part[2] + move for part, move in zip(parts, shift, strict=False)]),
        observed=False,
        shown=shown.gather_every(max(1, -(-shown.height // SHOWN_PAIRS))),
        notes=(
            f"The source shows no impressions. The ranker learned from {int(labels.sum())} observed watches "
            f"among {len(labels) - int(labels.sum())} negatives sampled from retrieved candidates, at "
            f"{len(parts)} {'random folds' if log.dataset.timeless else 'moments'}: its scores order, they "
            "are no probabilities, and there is no position to correct for.",
        ),
    )


def _moments(log: Log, count: int) -> Iterator[Cut]:
    """Cut at midnights by which some share of all watches had come; foresee a quarter as many."""
    day = log.watches["day"].to_numpy()
    shares = np.linspace(EARLIEST, LATEST, count) if count > 1 else np.array([0.75])
    for at in dict.fromkeys(float(np.floor(day[int(share * len(day))])) for share in shares):
        before = int(np.searchsorted(day, at))
        until = min(len(day), int(np.ceil(before * (1 + HORIZON))))
        if 0 < before < until:
            yield Cut(log.watches[:before], log.watches[before:until], at)


def _folds(log: Log, count: int) -> Iterator[Cut]:
    """Hide a quarter of each user's watches, another one in each fold."""
    rng = np.random.default_rng([log.dataset.seed, 6])
    watches = log.watches.sort("user_id", "video_id", "day")
    place = watches.with_columns(chance=pl.Series(rng.random(watches.height))).select(
        pl.col("chance").rank("ordinal").over("user_id").cast(pl.Int64),
        turn=pl.col("user_id").rank("dense").cast(pl.Int64),
    )
    fold = ((place["chance"] + place["turn"]) % FOLDS).to_numpy()
    for each in range(min(count, FOLDS)):
        hidden = pl.Series(fold == each)
        yield Cut(
            watches.filter(~hidden).sort("day", "user_id", "video_id"),
            watches.filter(hidden).sort("day", "user_id", "video_id"),
            None,
        )


def _at(
    log: Log, cut: Cut, params: VideoParams, most: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64], Ints, pl.DataFrame]:
    """Make the examples of one cut: rows, labels, requests and the rows that a service would send."""
    stage, _ = log.stage(cut.known, params)
    known = cut.known.select("user_id").unique().sort("user_id")
    asked = cut.next.select("user_id").unique().join(known, on="user_id", how="semi").sort("user_id")
    wanted = max(1, most // (NEGATIVES + 1))
    if asked.height > wanted:
        asked = asked[np.sort(rng.choice(asked.height, wanted, replace=False))]
    questions = _questions(log, cut, stage.catalogue.filter(pl.Series(stage.watched > 0)), asked)
    shelf = Shelf.at(stage, questions.day, questions.videos)
    placed = questions.placed(stage.ids)
    requests = Requests.of(stage.encoder, questions.people, questions.histories(stage.ids))
    answers = _answers(cut.next, asked, stage.ids)
    rows, labels, groups, items = [np.zeros((0, len(COLUMNS)), dtype=np.float32)], [], [], []
    for low, high, part in chunks(requests, len(stage.known)):
        scorer = Scorer(shelf, part)
        allowed = placed.part(low, high).matrix()
        found = retrieve(scorer, allowed, params.candidates.per_source, params.candidates.ranked)
        request, item, label = _sampled(found, np.asarray(answers[low:high].todense()) > 0, rng)
        rows.append(scorer.columns(request, item))
        labels.append(label)
        groups.append(request + low)
        items.append(item)
    group, item = np.concatenate(groups), np.concatenate(items)
    return (
        np.concatenate(rows),
        np.concatenate(labels),
        _dense(group),
        _shown(questions, stage.ids, group, item),
    )


def _questions(log: Log, cut: Cut, catalogue: pl.DataFrame, asked: pl.DataFrame) -> Questions:
    """Ask for everybody's next watches at the cut, among videos watched before, without those seen."""
    from scipy.sparse import csr_matrix

    people = asked.join(log.users, on="user_id", how="left", maintain_order="left").with_columns(
        device=pl.lit(None, dtype=pl.String)
    )
    videos = None
    day = float(np.ceil(log.watches["day"][-1])) if cut.day is None else cut.day
    if cut.day is not None:
        moment = moment_of(cut.day)
        people = user_moments(
            log.dataset, people.with_columns(time=pl.lit(moment).cast(pl.Datetime("us", "UTC")))
        )
        videos = video_moments(log.dataset, catalogue["video_id"], moment)
    ids: list[str] = catalogue["video_id"].to_list()
    histories = rows_histories(cut.known, people["user_id"], ids, np.full(people.height, day))
    ones = np.ones(len(histories.items))
    seen = csr_matrix((ones, histories.items, histories.starts), shape=(people.height, len(ids)))
    return Questions(people, catalogue, videos, day, np.full(people.height, day), seen, cut.known)


def _answers(coming: pl.DataFrame, asked: pl.DataFrame, ids: list[str]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    user = codes(coming["user_id"], asked["user_id"].to_list())
    item = codes(coming["video_id"], ids)
    both = (user >= 0) & (item >= 0)
    return csr_matrix((np.ones(int(both.sum())), (user[both], item[both])), shape=(asked.height, len(ids)))


def _sampled(
    found: Ints, answers: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Keep the positives among candidates and up to NEGATIVES others, of requests with a positive."""
    held = found >= 0
    positive = held & np.take_along_axis(answers, np.maximum(found, 0), axis=1)
    chance = np.where(held & ~positive, rng.random(found.shape), 2.0)
    bound = np.sort(chance, axis=1)[:, min(NEGATIVES, found.shape[1]) - 1]
    kept = positive | ((chance < 2.0) & (chance <= bound[:, None]))
    kept &= np.any(positive, axis=1, keepdims=True)
    request, place = np.nonzero(kept)
    return request, found[request, place], positive[request, place].astype(np.float64)


def _dense(group: Ints) -> Ints:
    return np.unique(group, return_inverse=True)[1].astype(np.int64)


def _shown(questions: Questions, ids: list[str], group: Ints, item: Ints) -> pl.DataFrame:
    """Lay out pairs as feature rows: context, user features, video features."""
    step = max(1, -(-len(group) // SHOWN_PAIRS))
    group, item = group[::step], item[::step]
    people = questions.people[group]
    videos = pl.DataFrame({"video_id": [ids[each] for each in item]}, schema={"video_id": pl.String})
    known = questions.catalogue if questions.videos is None else questions.videos
    rows = pl.concat(
        [people, videos.join(known, on="video_id", how="left", maintain_order="left")], how="horizontal"
    )
    moment = pl.lit(moment_of(questions.day)).cast(pl.Datetime("us", "UTC"))
    return rows if "time" in rows.columns else rows.with_columns(time=moment)
