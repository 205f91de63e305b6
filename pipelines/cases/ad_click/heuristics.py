"""What a model has to beat: the rate, each ad's own history, and logistic regression on hashed crosses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, Model
from pipelines.cases.ad_click.crosses import fit_crosses
from pipelines.cases.ad_click.model import click_rate
from pipelines.cases.ad_click.params import AdParams
from pipelines.errors import DataError
from pipelines.learning.hashed_logistic import HashedLogistic
from pipelines.stores.files import write_json

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BaseRate:
    """Answers the training window's share of clicks, whatever is asked."""

    rate: float

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return the rate for each row, shape (n,)."""
        return np.full(rows.height, self.rate)

    def save(self, folder: Path) -> None:
        """Write the rate (JSON)."""
        write_json(folder / "base_rate.json", {"rate": self.rate})


@dataclass(frozen=True)
class AdHistory:
    """Answers each ad's own rate of the last 28 days, shrunk towards the window's."""

    rate: float
    strength: float

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return each row's ad's rate, shape (n,)."""
        clicks, shown = (rows[f"ad_{what}_28d"].fill_null(0).to_numpy() for what in ("clicks", "impressions"))
        return (clicks + self.rate * self.strength) / (shown + self.strength)

    def save(self, folder: Path) -> None:
        """Write the two numbers (JSON)."""
        write_json(folder / "ad_history.json", {"rate": self.rate, "strength": self.strength})


@dataclass(frozen=True)
class HashedCrosses:
    """Logistic regression on the context, the ad and their crosses."""

    fitted: HashedLogistic

    def predict(self, rows: pl.DataFrame) -> Floats:
        """Return P(click) of each row, shape (n,)."""
        return self.fitted.predict(rows)

    def save(self, folder: Path) -> None:
        """Write the weights (Parquet), and what they are the weights of (JSON)."""
        self.fitted.save(folder, "hashed_crosses")


def _labels(dataset: Dataset) -> pl.DataFrame:
    labels = dataset.labels()
    if labels.is_empty():
        raise DataError(
            f"no mature label in [{dataset.start.isoformat()}, {dataset.end.isoformat()}): ingest more days"
        )
    return labels


def _base_rate(dataset: Dataset, params: AdParams) -> Model:
    return BaseRate(click_rate(_labels(dataset)))


def _ad_history(dataset: Dataset, params: AdParams) -> Model:
    return AdHistory(click_rate(_labels(dataset)), params.smoothing)


def _hashed_crosses(dataset: Dataset, params: AdParams) -> Model:
    rows = _labels(dataset)
    if rows.height > params.examples:
        chosen = np.random.default_rng([dataset.seed, 1]).choice(rows.height, params.examples, replace=False)
        rows = rows[np.sort(chosen)]
    return HashedCrosses(fit_crosses(rows, params.logistic))


HEURISTICS: Mapping[str, Callable[[Dataset, AdParams], Model]] = {
    "base_rate": _base_rate,
    "ad_history": _ad_history,
    "hashed_crosses": _hashed_crosses,
}
