"""What a model has to beat: TF-IDF with logistic regression, the number of reports, and the base rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.case_study import Dataset
from pipelines.cases.harmful_content.linear import LinearText, balanced
from pipelines.cases.harmful_content.model import file_under
from pipelines.cases.harmful_content.params import HarmParams
from pipelines.cases.harmful_content.posts import Floats, Ints, Reviewed, distinct
from pipelines.cases.harmful_content.tables import HARMS
from pipelines.learning.text import count_ngrams
from pipelines.stores.files import write_json


@dataclass(frozen=True)
class TfidfLogistic:
    """Words and subwords, one logistic regression a harm, both classes weighing alike."""

    linear: LinearText
    params: HarmParams
    harms: tuple[str, ...] = HARMS

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Score rows of post and harm, shape (n,)."""
        posts, place = distinct(rows)
        counts = count_ngrams(posts["text"], self.params.text.ngrams())
        column = rows["harm"].replace_strict({h: k for k, h in enumerate(HARMS)}, return_dtype=pl.Int64)
        found: Floats = 1 / (1 + np.exp(-self.linear.logits(counts)[place, column.to_numpy()]))
        return found

    def names(self, scores: Floats) -> Ints:
        """File posts under the likeliest harm, (n,): its place from 1, or 0 where none is likelier than not."""
        return file_under(scores, np.full(scores.shape[1], 0.5))

    def save(self, folder: Path) -> None:
        """Write the weights (safetensors)."""
        self.linear.save(folder / "text.safetensors")


@dataclass(frozen=True)
class Reports:
    """The more reports by the time of the decision, the worse; the same for every harm."""

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Score rows of post and harm, shape (n,)."""
        return rows["reports"].cast(pl.Float64).fill_null(0.0).to_numpy()

    def save(self, folder: Path) -> None:
        """Write nothing but the rule's name (JSON)."""
        write_json(folder / "rule.json", {"score": "reports"})


@dataclass(frozen=True)
class Prior:
    """Each harm's share of the posts, whatever the post."""

    rates: Mapping[str, float]

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Score rows of post and harm, shape (n,)."""
        return rows["harm"].replace_strict(self.rates, return_dtype=pl.Float64).to_numpy()

    def save(self, folder: Path) -> None:
        """Write the rates (JSON)."""
        write_json(folder / "rates.json", dict(self.rates))


def tfidf_logistic(dataset: Dataset, params: HarmParams) -> TfidfLogistic:
    """Fit the text model to the verdicts of the training window."""
    found = Reviewed.read(dataset)
    counts = count_ngrams(found.posts["text"], params.text.ngrams())
    weights = balanced(found.labels, found.weights)
    linear = LinearText.fit(
        counts, found.labels, weights, params.text.ngrams(), params.text.baseline_strength
    )
    return TfidfLogistic(linear, params)


def reports(dataset: Dataset, params: HarmParams) -> Reports:
    """Learn nothing."""
    return Reports()


def prior(dataset: Dataset, params: HarmParams) -> Prior:
    """Average the verdicts of the training window, each by the weight of its post."""
    found = Reviewed.read(dataset)
    rates = (found.weights[:, None] * found.labels).sum(axis=0) / found.weights.sum()
    return Prior(dict(zip(HARMS, rates.tolist(), strict=True)))


HEURISTICS: Mapping[str, Callable[[Dataset, Any], Any]] = {
    "tfidf_logistic": tfidf_logistic,
    "reports": reports,
    "prior": prior,
}
