"""Explored impressions: those that chance put there, whoever served them. They are what a model is held to."""

from __future__ import annotations

import polars as pl


def explored(impressions: pl.LazyFrame) -> pl.LazyFrame:
    """Keep the impressions that were `explored`; all of them where none was, or nobody knows."""
    chance = pl.col("explored").fill_null(False)
    if impressions.select(chance.any()).collect().item():
        return impressions.filter(chance)
    return impressions
