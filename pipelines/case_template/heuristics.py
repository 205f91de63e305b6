"""What the model has to beat. Replace: with what you would do without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, Model
from pipelines.case_template.params import TrainParams
from pipelines.errors import DataError
from pipelines.stores.files import write_json


@dataclass(frozen=True)
class Popularity:
    """Answers each item's own click rate of the last 28 days, shrunk towards a rate for all."""

    rate: float
    strength: float

    def predict(self, rows: pl.DataFrame) -> NDArray[np.float64]:
        """Return each row's item's rate, shape (n,)."""
        clicks, shown = (
            rows[f"item_{what}_28d"].fill_null(0).to_numpy() for what in ("clicks", "impressions")
        )
        return (clicks + self.rate * self.strength) / (shown + self.strength)

    def save(self, folder: Path) -> None:
        """Write the two numbers (JSON)."""
        write_json(folder / "popularity.json", {"rate": self.rate, "strength": self.strength})


def _popularity(dataset: Dataset, params: TrainParams) -> Model:
    clicks = dataset.labels()["label"]
    if clicks.is_empty():
        raise DataError("the window has no mature impression: widen `window.train_days`, or ingest more days")
    return Popularity((float(clicks.sum()) + 0.5) / (len(clicks) + 1.0), params.smoothing)


HEURISTICS: Mapping[str, Callable[[Dataset, TrainParams], Model]] = {"popularity": _popularity}
