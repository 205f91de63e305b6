"""The model: boosted trees on categories, counts and rates. Replace: what it sees, and how it learns.

The position is no column but an offset of the logit, known from the explored impressions: the model predicts a click
at a row's own position, and choosing among items it asks as if each stood at the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Card, Dataset, Fitted
from pipelines.case_template.features import ENTITIES, WINDOWS
from pipelines.case_template.params import TrainParams
from pipelines.errors import DataError
from pipelines.learning.calibration import sigmoid
from pipelines.learning.examination import explored_curve, position_offset
from pipelines.learning.ranker import Ranker, fit_ranker
from pipelines.stores.files import read_json, write_json

Floats = NDArray[np.float64]
Words = Mapping[str, Sequence[str]]
CATEGORIES = ("segment", "kind")
NUMBERS = tuple(
    f"{name}_{what}_{days}d"
    for name in ENTITIES
    for what in ("impressions", "click_rate")
    for days in WINDOWS
)
COLUMNS = (*CATEGORIES, *NUMBERS)
SHOWN_ROWS = 20_000


@dataclass(frozen=True)
class ClickModel:
    """Fitted trees, the words of each category, and how likely each position is looked at beside the first."""

    trees: Ranker
    words: Words
    curve: Floats

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return P(click) of feature rows, shape (n,): as shown, at their position where they have one."""
        return sigmoid(self.trees.predict(matrix(rows, self.words)) + position_offset(rows, self.curve))

    def save(self, folder: Path) -> None:
        """Write the trees (LightGBM text), and the rest (JSON)."""
        self.trees.save(folder / "trees.txt")
        told = {"base": self.trees.base, "words": self.words, "curve": self.curve.tolist()}
        write_json(folder / "model.json", told)


def load(folder: Path) -> ClickModel:
    """Read what `ClickModel.save` wrote."""
    told = read_json(folder / "model.json")
    trees = Ranker((folder / "trees.txt").read_text(), COLUMNS, probability=False, base=told["base"])
    return ClickModel(trees, told["words"], np.array(told["curve"]))


def fit(dataset: Dataset, params: TrainParams) -> Fitted:
    """Fit the trees to the mature impressions of the window; raise DataError where there are none."""
    labels = dataset.labels()
    if labels.is_empty():
        raise DataError("the window has no mature impression: widen `window.train_days`, or ingest more days")
    rows, curve = dataset.historical(labels, "time"), explored_curve(labels)
    words = {name: rows[name].drop_nulls().unique().sort().to_list() for name in CATEGORIES}
    clicks = rows["label"].cast(pl.Float64).to_numpy()
    trees, losses = fit_ranker(
        matrix(rows, words),
        clicks,
        np.zeros(rows.height, dtype=np.int64),
        COLUMNS,
        params.ranker_options(),
        dataset.seed,
        offset=position_offset(rows, curve),
        categories=CATEGORIES,
    )
    model = ClickModel(Ranker(trees.text, COLUMNS, probability=False, base=trees.base), words, curve)
    card = Card(
        metrics={"examples": float(rows.height), "clicks": float(clicks.sum())},
        curves={"log_loss": losses},
        importance=trees.importance(),
    )
    return Fitted(model, card, rows.gather_every(-(-rows.height // SHOWN_ROWS)).select(COLUMNS))


def matrix(rows: pl.DataFrame, words: Words) -> NDArray[np.float32]:
    """Return the columns of feature rows, shape (n, columns); what is missing or unknown is NaN."""
    codes = [
        pl.col(name).replace_strict(
            list(words[name]), range(len(words[name])), default=None, return_dtype=pl.Float32
        )
        for name in CATEGORIES
    ]
    return rows.select(*codes, pl.col(NUMBERS).cast(pl.Float32)).fill_null(float("nan")).to_numpy()
