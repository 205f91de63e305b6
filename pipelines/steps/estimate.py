"""Estimate: how the watched model does on its newest rows, whose labels have not come yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipelines.learning.estimated_performance import EstimatedPerformance, estimate_performance
from pipelines.steps.monitor_plan import Plan, midnight
from pipelines.steps.monitor_rows import LABEL, PREDICTION
from pipelines.stores.files import read_json, write_json

SCORED, ESTIMATE = "scored.parquet", "estimate.json"


def scored_rows(rows: pl.DataFrame, time: str, plan: Plan) -> pl.DataFrame:
    """Take scores and labels of the reference's rows that the model did not learn from."""
    fresh = rows.filter(pl.col(time) >= midnight(plan.learned_until))
    return fresh.select(pl.col(PREDICTION, LABEL).cast(pl.Float64, strict=False))


def write_estimate(folder: Path, scored: pl.DataFrame, rows: pl.DataFrame | None) -> None:
    """Write the scored rows and what they lead to expect of others; null where that is not applicable."""
    scored.write_parquet(folder / SCORED)
    found = None
    if rows is not None:
        scores, labels, now = map(_numbers, (scored[PREDICTION], scored[LABEL], rows[PREDICTION]))
        found = estimate_performance(scores, labels, now)
    write_json(folder / ESTIMATE, {"performance": None if found is None else found.as_json()})


def read_estimate(folder: Path) -> EstimatedPerformance | None:
    """Read the estimate that a monitor's folder holds."""
    path = folder / ESTIMATE
    found = read_json(path)["performance"] if path.is_file() else None
    return None if found is None else EstimatedPerformance.from_json(found)


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    return values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
