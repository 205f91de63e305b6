"""How it is judged: on later impressions, as they were shown. Replace: metrics, units and slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, EvaluationProtocol, Judge, Measured, Statistic
from pipelines.errors import DataError
from pipelines.learning.probabilities import Auc, CalibrationError, NormalizedEntropy
from pipelines.learning.remembered import Remembered


@dataclass(frozen=True)
class Shown:
    """Later impressions with features; `unit` numbers the units that are resampled."""

    rows: pl.DataFrame
    labels: NDArray[np.float64]
    units: NDArray[Any]
    unit: NDArray[np.int64]
    slices: Mapping[str, NDArray[np.bool_]]


def prepare(train: Dataset, test: Dataset) -> Shown:
    """Read the mature impressions and their units; raise DataError where there are none."""
    labels = test.labels()
    if labels.is_empty():
        raise DataError(
            f"no impression in [{test.start.isoformat()}, {test.end.isoformat()}) is mature: widen evaluate_days"
        )
    rows = test.historical(labels, "time").with_columns(day=pl.col("time").dt.date())
    rows = rows.with_columns(_unit=pl.concat_str("user_id", "day", separator="|"))
    units = rows.group_by("_unit").agg(pl.col("segment", "day").first()).sort("_unit")
    unit = rows["_unit"].rank("dense").to_numpy().astype(np.int64) - 1
    slices = {
        f"{name}={each}": (units[name] == each).fill_null(False).to_numpy()
        for name in ("segment", "day")
        for each in units[name].drop_nulls().unique().sort()
    }
    clicks = rows["label"].cast(pl.Float64).to_numpy()
    return Shown(rows.drop("day", "_unit"), clicks, units["_unit"].to_numpy(), unit, slices)


def measure(model: Any, train: Dataset, test: Dataset, judge: Judge | None) -> Measured:
    """Measure a scorer's probabilities on impressions as they were shown."""
    found = _prepared(train, test)
    rows = (found.units, found.unit, np.asarray(model.predict(found.rows), dtype=np.float64), found.labels)
    statistics: dict[str, Statistic] = {
        "normalized_entropy": NormalizedEntropy.of(*rows),
        "auc": Auc(*rows),
        "calibration_error": CalibrationError.of(*rows),
    }
    return Measured(statistics, found.slices)


_prepared = Remembered(prepare)  # all scorers are measured on the same rows

LOGGED = EvaluationProtocol(
    "logged",
    {
        "unit": "a user's impressions on one day",
        "normalized_entropy": "log-loss over the entropy of the rows' own click rate: 1 is knowing no more",
        "calibration_error": "ten bins of equal mass by prediction",
    },
    measure,
)
