"""Gradient-boosted ranking on logged slates or on retrieved candidates (LightGBM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RankerOptions:
    """The trees. `objective` is 'binary' or 'lambdarank' (orders within groups).

    `probability` false says that binary labels were sampled, so that scores order and are no probabilities.
    `patience`, where rows are held out, ends learning after so many rounds that do not help them.
    """

    objective: str = "binary"
    probability: bool = True
    rounds: int = 150
    learning_rate: float = 0.05
    leaves: int = 15
    minimum_rows: int = 100
    column_share: float = 0.7
    truncation: int = 20
    patience: int = 30


@dataclass(frozen=True)
class HeldOut:
    """Rows (n, features) and binary labels (n,) apart from those learned from, with the offset (n,) of their logit."""

    rows: NDArray[Any]
    labels: Floats
    offset: Floats | None = None


class Ranker:
    """A fitted ranker over named feature columns; `base` is added to the trees' scores."""

    def __init__(self, text: str, features: Sequence[str], probability: bool, base: float = 0.0) -> None:
        import lightgbm

        self.base = base
        self.text = text
        self.features = tuple(features)
        self.probability = probability
        self._booster = lightgbm.Booster(model_str=text)

    def predict(self, rows: NDArray[Any]) -> Floats:
        """Score feature rows (n, features): P(label | examined) where the objective is binary."""
        if not len(rows):
            return np.zeros(0)
        scores = self._booster.predict(rows, raw_score=True, num_threads=1)
        raw = np.asarray(scores, dtype=np.float64) + self.base
        return 1.0 / (1.0 + np.exp(-raw)) if self.probability else raw

    def importance(self) -> dict[str, float]:
        """Return each feature's total gain."""
        gain = self._booster.feature_importance("gain")
        return {name: float(value) for name, value in zip(self.features, gain, strict=True)}

    def save(self, path: Path) -> None:
        """Write the trees (LightGBM text)."""
        path.write_text(self.text)


def fit_ranker(
    rows: NDArray[Any],
    labels: Floats,
    groups: Ints,
    features: Sequence[str],
    options: RankerOptions,
    seed: int,
    offset: Floats | None = None,
    categories: Sequence[str] = (),
    held_out: HeldOut | None = None,
) -> tuple[Ranker, list[float]]:
    """Fit the trees to rows (n, features); return them and the training loss (or nDCG@10) by round.

    `groups` (n,) are non-decreasing numbers of requests; `offset` (n,) is added to the logit while
    learning. `categories` names the features that are codes from 0 (NaN or negative: none). Learning ends where
    it stops helping rows that are `held_out`; the curve is then theirs. Raise DataError where all labels are
    alike: nothing can be told apart.
    """
    import lightgbm

    if not len(labels) or labels.min() == labels.max():
        raise DataError(
            f"all {len(labels)} labels are alike, so there is nothing to learn: widen the window, or check "
            "that actions reach the log"
        )
    sizes = np.unique(groups, return_counts=True)[1]
    probability = options.objective == "binary" and options.probability
    # LightGBM does not start from the average where there is an offset: the offset then holds it.
    base = float(np.log(labels.mean() / (1 - labels.mean()))) if offset is not None else 0.0
    data = lightgbm.Dataset(
        rows,
        labels,
        group=sizes if options.objective == "lambdarank" else None,
        init_score=None if offset is None else offset + base,
        feature_name=list(features),
        categorical_feature=list(categories),
        free_raw_data=True,
    )
    watched = data
    if held_out is not None:
        start = None if held_out.offset is None else held_out.offset + base
        watched = lightgbm.Dataset(held_out.rows, held_out.labels, reference=data, init_score=start)
    stop = [lightgbm.early_stopping(options.patience, verbose=False)] if held_out is not None else []
    curve: dict[str, Any] = {}
    booster = lightgbm.train(
        _parameters(options, seed),
        data,
        options.rounds,
        valid_sets=[watched],
        valid_names=["watched"],
        callbacks=[lightgbm.record_evaluation(curve), *stop],
    )
    text = _without_machine(booster.model_to_string())
    measured = next(iter(curve["watched"].values()))
    return Ranker(text, features, probability, base), [float(value) for value in measured]


def _parameters(options: RankerOptions, seed: int) -> Mapping[str, Any]:
    return {
        "objective": options.objective,
        "metric": "binary_logloss" if options.objective == "binary" else "ndcg",
        "eval_at": [10],
        "learning_rate": options.learning_rate,
        "num_leaves": options.leaves,
        "min_data_in_leaf": options.minimum_rows,
        "feature_fraction": options.column_share,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "lambdarank_truncation_level": options.truncation,
        "boost_from_average": True,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }


def _without_machine(text: str) -> str:
    """Keep the trees of a model text, without the list of parameters that follows them."""
    head, found, _ = text.partition("\nparameters:\n")
    return head + "\n" if found else text
