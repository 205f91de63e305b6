"""How click predictions are judged: on later impressions, as they were shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.case_study import Dataset, EvaluationProtocol, Judge, Measured, Statistic
from pipelines.cases.ad_click.model import examples
from pipelines.errors import DataError
from pipelines.learning.measures import RatioOf
from pipelines.learning.probabilities import Auc, CalibrationError, NormalizedEntropy, log_losses, sum_by_unit
from pipelines.learning.remembered import Remembered
from pipelines.learning.splits import moment_at_share

MOST_ROWS = 25_000
TRAINED_SHARE = 0.8
LARGEST_CAMPAIGNS = 5
NEW_AD_IMPRESSIONS = 100


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
    rows = examples(test, labels, MOST_ROWS)
    who = pl.coalesce("user_id", "request_id")
    rows = rows.with_columns(
        _unit=pl.concat_str(who, pl.col("campaign_id").fill_null(""), pl.col("time").dt.date(), separator="|")
    )
    names = rows["_unit"].unique().sort()
    unit = rows["_unit"].rank("dense").to_numpy().astype(np.int64) - 1
    clicks = rows["label"].cast(pl.Float64).to_numpy()
    return Shown(rows.drop("_unit"), clicks, names.to_numpy(), unit, _slices(rows))


def measure_clicks(model: Any, train: Dataset, test: Dataset, judge: Judge | None) -> Measured:
    """Measure a scorer's probabilities on impressions as they were shown."""
    found = _prepared(train, test)
    units, unit, labels = found.units, found.unit, found.labels
    predicted = np.asarray(model.predict(found.rows), dtype=np.float64)
    losses, expected, clicks, rows = sum_by_unit(
        unit, len(units), log_losses(predicted, labels), predicted, labels, np.ones(len(labels))
    ).T
    statistics: dict[str, Statistic] = {
        "normalized_entropy": NormalizedEntropy.of(units, unit, predicted, labels),
        "log_loss": RatioOf(units, losses, rows),
        "auc": Auc(units, unit, predicted, labels),
        "calibration_error": CalibrationError.of(units, unit, predicted, labels),
        "calibration_ratio": RatioOf(units, expected, clicks),
        "click_rate": RatioOf(units, clicks, rows),
    }
    return Measured(statistics, found.slices)


def _slices(rows: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Mark units: the largest campaigns, users and ads without a history, days."""
    units = rows.group_by("_unit").agg(
        campaign=pl.col("campaign_id").first(),
        new_user=pl.col("user_impressions_28d").fill_null(0).max() == 0,
        named=pl.col("user_id").is_not_null().all(),
        new_ad=pl.col("ad_impressions_28d").fill_null(0).max() < NEW_AD_IMPRESSIONS,
        day=pl.col("time").first().dt.date(),
    ).sort("_unit")  # fmt: skip
    counted = (
        rows["campaign_id"]
        .drop_nulls()
        .value_counts()
        .sort(["count", "campaign_id"], descending=[True, False])
    )
    marks = {
        f"campaign {name}": (units["campaign"] == name).fill_null(False).to_numpy()
        for name in counted["campaign_id"].head(LARGEST_CAMPAIGNS)
    }
    marks["new_users"] = (units["new_user"] & units["named"]).to_numpy()
    marks["known_users"] = (~units["new_user"] & units["named"]).to_numpy()
    marks["new_ads"] = units["new_ad"].to_numpy()
    for day in units["day"].unique().sort():
        marks[f"day={day}"] = (units["day"] == day).to_numpy()
    return marks


def _later(tables: Mapping[str, pl.LazyFrame]) -> datetime:
    """Cut where 80 % of the impressions had been shown."""
    times = tables["impressions"].select("impression_time").collect()["impression_time"]
    return moment_at_share(times, TRAINED_SHARE)


_prepared = Remembered(prepare)

_DESCRIBE = {
    "unit": "a user's impressions (where nobody is named, a request's) of one campaign on one day",
    "rows": f"mature impressions, all policies, at most {MOST_ROWS:,} drawn at random",
    "normalized_entropy": "log-loss over the entropy of the measured rows' own click rate: 1 is knowing no more",
    "calibration_error": "ten bins of equal mass by prediction",
    "calibration_ratio": "predicted over observed clicks: 1 is right",
    "features": "as they stood at the midnight before each impression",
    "new_ads": f"ads shown fewer than {NEW_AD_IMPRESSIONS} times in the 28 days before",
}

LOGGED = EvaluationProtocol("logged", _DESCRIBE, measure_clicks)
TIME = EvaluationProtocol(
    "time",
    {"split": "trained on the first 80 % of the impressions, cut at a midnight", **_DESCRIBE},
    measure_clicks,
    split=_later,
)
