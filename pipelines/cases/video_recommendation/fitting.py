"""Fit: stage one on the earlier part, the ranker on what came after, stage one again on all.

The ranker must not learn from scores that have seen its answers: stage one (towers, co-watch, counts) is
first fitted to watches before a cut, the ranker to examples after it, with features as they stood at
each example's own time. Then stage one is fitted to the whole window. Where examples carry no order, the
inner cut mirrors the outer one: a random quarter of each user's watches, in several folds.
"""

from __future__ import annotations

import numpy as np

from pipelines.case_study import Card, Dataset, Fitted
from pipelines.cases.video_recommendation.log import Examples, Log
from pipelines.cases.video_recommendation.logged_examples import logged_examples
from pipelines.cases.video_recommendation.model import VideoModel
from pipelines.cases.video_recommendation.pairs import COLUMNS
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.retrieved_examples import retrieved_examples
from pipelines.learning.ranker import fit_ranker


def fit(dataset: Dataset, params: VideoParams) -> Fitted:
    """Fit the whole system to a data set: from logged slates where there are any, else from watches."""
    log = Log.read(dataset)
    labels = dataset.labels()
    impressions = labels.filter(labels["request_id"].is_not_null())
    if dataset.timeless or impressions.is_empty():
        examples = retrieved_examples(log, params)
    else:
        examples = logged_examples(log, impressions, params)
    order = np.argsort(examples.groups, kind="stable")
    ranker, learning = fit_ranker(
        examples.rows[order],
        examples.labels[order],
        examples.groups[order],
        COLUMNS,
        params.ranker_options(probability=examples.observed),
        dataset.seed,
        None if examples.offset is None else examples.offset[order],
    )
    stage, losses = log.stage(log.watches, params)
    card = _card(log, examples, ranker.importance(), learning, losses)
    return Fitted(VideoModel(stage, ranker, params), card, examples.shown)


def _card(
    log: Log, examples: Examples, importance: dict[str, float], learning: list[float], losses: list[float]
) -> Card:
    curves = {"ranker_log_loss": learning, "towers_loss": losses}
    if examples.examination is not None:
        curves["examination"] = examples.examination.tolist()
    metrics = {
        "examples": float(len(examples.labels)),
        "positives": float(examples.labels.sum()),
        "watches": float(log.watches.height),
        "videos": float(log.catalogue.height),
        "users": float(log.watches["user_id"].n_unique()),
        "ranker_log_loss": learning[-1],
    }
    if losses:
        metrics["towers_loss"] = losses[-1]
    return Card(metrics=metrics, curves=curves, importance=importance, notes=examples.notes)
