"""Logistic regression on the context, the ad and their crosses: it knows campaigns and ads by name."""

from __future__ import annotations

from itertools import product

import polars as pl

from pipelines.cases.ad_click.params import Logistic
from pipelines.cases.ad_click.tables import PAGE_CONTEXT, USER_CONTEXT
from pipelines.learning.hashed_logistic import HashedLogistic, fit_hashed_logistic

AD_COLUMNS = ("category", "subcategory", "product", "campaign_id")
CONTEXT = (*PAGE_CONTEXT, *USER_CONTEXT)
COLUMNS = (*CONTEXT, *AD_COLUMNS, "ad_id", "position")
CROSSES = (*product(CONTEXT, ("category", "campaign_id")), ("device", "site"), ("gender", "age"))


def fit_crosses(rows: pl.DataFrame, params: Logistic) -> HashedLogistic:
    """Fit the columns that vary in labelled rows, and their crosses."""
    clicks = rows["label"].cast(pl.Float64).to_numpy()
    columns = [name for name in COLUMNS if rows[name].n_unique() > 1]
    crosses = [pair for pair in CROSSES if set(pair) <= set(columns)]
    return fit_hashed_logistic(rows, clicks, columns, crosses, **params.model_dump())
