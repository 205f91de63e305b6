"""Fit: the text model and the trees by folds, so that each stage learns from scores that had not seen the answer.

The linear model learns from the shares of the reviewers' votes: a post that one of three called hateful tells
more than its verdict. The trees go on from its logits. Which posts are reviewed depends on reports and words,
which the model sees, and on chance: given those, reviewed posts are like any others, so learning needs no weights.
Thresholds speak of all posts, so they weigh each by one over the probability that it was reviewed, and of those that
are to come, so they weigh each by how new it is. Calibration and thresholds are chosen on the folds' own predictions;
then both stages are fitted to all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from pipelines.case_study import Card, Dataset, Fitted
from pipelines.cases.harmful_content.linear import LinearText
from pipelines.cases.harmful_content.model import (
    HarmModel,
    calibrated,
    moved,
    raw_scores,
    tree_columns,
    tree_rows,
)
from pipelines.cases.harmful_content.params import HarmParams
from pipelines.cases.harmful_content.posts import Bools, Floats, Ints, Levels, Reviewed, places
from pipelines.errors import DataError
from pipelines.learning.logistic import fit_logistic
from pipelines.learning.precision_recall import threshold_at_best_f1, threshold_at_precision
from pipelines.learning.text import count_ngrams

_EXAMPLES = ("time", "audience", "client", "reports", "text")


def fit(dataset: Dataset, params: HarmParams) -> Fitted:
    """Fit the classifier; raise DataError where no harm has enough reviewed examples."""
    reviewed = Reviewed.read(dataset)
    harms = reviewed.learnable(params.least_positives)
    if not harms:
        raise DataError(
            f"of {len(reviewed.labels)} reviewed posts in [{dataset.start.isoformat()}, {dataset.end.isoformat()}) "
            f"no harm has {params.least_positives} with and without it: ingest more days, or widen the window"
        )
    at = places(harms)
    job = _Job(
        reviewed.posts, reviewed.labels[:, at], reviewed.shares[:, at], reviewed.weights, params, dataset.seed
    )
    everyone = np.ones(len(job.labels), dtype=bool)
    linear = job.linear(everyone)
    cues = linear.cues(job.counts, params.trees.cues)
    rows, levels = job.unseen_rows(cues)
    text = rows[:, : len(harms)]
    base = job.calibration(text, job.shares)
    logits = job.unseen_logits(rows, moved(text, base), harms)
    calibration = job.calibration(logits, job.labels)
    trees = tuple(job.trees(rows, moved(text, base), column, harms, everyone) for column in range(len(harms)))
    chance = calibrated(logits, calibration)
    weights = job.weights * newness(reviewed.posts["time"], params.threshold_half_life)
    columns = [(chance[:, k], job.labels[:, k], weights) for k in range(len(harms))]
    remove = {
        h: threshold_at_precision(*each, params.precision) for h, each in zip(harms, columns, strict=True)
    }
    name = {h: threshold_at_best_f1(*each) for h, each in zip(harms, columns, strict=True)}
    model = HarmModel(harms, linear, cues, levels, trees, base, calibration, remove, name, params)
    return Fitted(model, _card(model, job), _examples(reviewed.posts))


class _Job:
    """Rows of one fit: posts, labels and vote shares (n, k), weights (n,), and each row's fold."""

    def __init__(
        self,
        posts: pl.DataFrame,
        labels: Floats,
        shares: Floats,
        weights: Floats,
        params: HarmParams,
        seed: int,
    ) -> None:
        self.posts, self.labels, self.shares, self.params, self.seed = posts, labels, shares, params, seed
        self.weights = weights
        self.counts = count_ngrams(posts["text"], params.text.ngrams())
        self.fold: Ints = (posts["example_id"].hash(seed=seed) % params.folds).to_numpy().astype(np.int64)

    def linear(self, chosen: Bools) -> LinearText:
        """Fit the text model to the chosen rows."""
        options, shares = self.params.text, self.shares[chosen]
        counts = self.counts[np.flatnonzero(chosen)]
        return LinearText.fit(counts, shares, np.ones_like(shares), options.ngrams(), options.strength)

    def unseen_rows(self, cues: Ints) -> tuple[Floats, Levels]:
        """Lay out the trees' columns, each row's text scored by a model that has not seen it."""
        levels = Levels.of(self.posts)
        table = levels.table(self.posts)
        found = np.zeros((len(table), self.labels.shape[1] + 2 + table.shape[1] + len(cues)))
        for fold in range(self.params.folds):
            inside = np.flatnonzero(self.fold == fold)
            found[inside] = tree_rows(
                self.linear(self.fold != fold), cues, self.counts[inside], table[inside]
            )
        return found, levels

    def unseen_logits(self, rows: Floats, base: Floats, harms: tuple[str, ...]) -> Floats:
        """Score each row by trees that have not seen it, (n, k), on top of `base`."""
        found = base.copy()
        for fold in range(self.params.folds):
            inside = self.fold == fold
            for column in range(len(harms)):
                found[inside, column] += raw_scores(
                    self.trees(rows, base, column, harms, ~inside), rows[inside]
                )
        return found

    def trees(self, rows: Floats, base: Floats, column: int, harms: tuple[str, ...], chosen: Bools) -> str:
        """Fit one harm's trees to the vote shares of the chosen rows, from `base` on; return them as text."""
        import lightgbm

        data = lightgbm.Dataset(
            rows[chosen].copy(),
            self.shares[chosen, column],
            init_score=base[chosen, column],
            feature_name=tree_columns(harms, rows.shape[1] - len(tree_columns(harms, 0))),
            categorical_feature=["client", "country"],
        )
        options = _tree_options(self.params, self.seed)
        text = lightgbm.train(options, data, self.params.trees.rounds).model_to_string()
        return text.partition("\nparameters:\n")[0] + "\n"  # without them, no trace of the machine

    def calibration(self, logits: Floats, targets: Floats) -> Floats:
        """Fit slope and shift of each harm's logit to the targets, (k, 2)."""
        from scipy.sparse import csr_matrix

        ones = np.ones((len(logits), 1))
        fits = [
            fit_logistic(csr_matrix(logits[:, [k]]), targets[:, [k]], ones, 100.0)
            for k in range(logits.shape[1])
        ]
        return np.array([[each.weights[0, 0], each.bias[0]] for each in fits])


def newness(times: pl.Series, half_life: float) -> Floats:
    """Weigh rows by how new they are, (n,): half as much each `half_life` days; alike where no time is told."""
    time = pl.col("time")
    days = (time.max() - time).dt.total_seconds().fill_null(0) / 86_400
    return pl.DataFrame({"time": times}).select(0.5 ** (days / half_life)).to_series().to_numpy()


def _tree_options(params: HarmParams, seed: int) -> dict[str, Any]:
    return {
        "objective": "cross_entropy",
        "learning_rate": params.learning_rate,
        "num_leaves": params.trees.leaves,
        "min_data_in_leaf": params.trees.minimum_rows,
        "feature_fraction": params.trees.column_share,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "cat_smooth": 20.0,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }


def _card(model: HarmModel, job: _Job) -> Card:
    metrics = {"posts": float(len(job.labels)), "text_columns": float(len(model.linear.tfidf.columns))}
    notes = [f"learned: {', '.join(model.harms)}"]
    for column, harm in enumerate(model.harms):
        metrics[f"positives_{harm}"] = float(job.labels[:, column].sum())
        at = model.remove[harm]
        if at is None:
            notes.append(f"{harm}: no score is sure enough to remove a post by itself")
        else:
            metrics[f"remove_{harm}"] = at
    return Card(metrics=metrics, importance=model.importance(), notes=tuple(notes))


def _examples(posts: pl.DataFrame) -> pl.DataFrame:
    """Keep what a service would send: a row a post and harm."""
    from pipelines.cases.harmful_content.predictions import by_harm

    features = [name for name in posts.columns if name.startswith("author_") and name != "author_id"]
    return by_harm(posts.select(*_EXAMPLES, *features))
