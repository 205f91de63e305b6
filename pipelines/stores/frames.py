"""Feature rows as MLflow's users see them: pandas frames under a declared signature, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import pandas as pd


def as_pandas(rows: pl.DataFrame) -> pd.DataFrame:
    """Turn feature rows into a pandas frame of types that an MLflow signature can name.

    Times lose their zone (they are UTC), categories become strings, and a whole number that may be
    missing becomes a float, as pandas would have it.
    """
    return rows.select(_portable(rows, name) for name in rows.columns).to_pandas()


def from_pandas(frame: pd.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Turn a pandas frame back into rows of the schema; NaN means missing."""
    rows = pl.from_pandas(frame[[name for name in schema if name in frame.columns]])
    return rows.select(_typed(rows.schema[name], name, schema[name]) for name in rows.columns)


def signature(rows: pl.DataFrame) -> Any:
    """Declare the input columns and the score that comes out (an mlflow ModelSignature)."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    portable = rows.select(_portable(rows, name) for name in rows.columns).schema
    inputs = Schema([ColSpec(_mlflow_type(dtype), name, required=False) for name, dtype in portable.items()])
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec(DataType.double, "score")]))


def _portable(rows: pl.DataFrame, name: str) -> pl.Expr:
    column, dtype = pl.col(name), rows.schema[name]
    if dtype.is_integer():
        return column.cast(pl.Float64 if rows[name].has_nulls() else pl.Int64)
    if dtype.is_float() or dtype.is_decimal():
        return column.cast(pl.Float64)
    if isinstance(dtype, pl.Datetime):
        return column.dt.replace_time_zone(None) if dtype.time_zone else column
    if dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if isinstance(dtype, pl.Array | pl.List):
        inner = pl.Float64 if dtype.inner.is_numeric() else dtype.inner
        return column.cast(pl.List(inner))
    return column


def _typed(found: pl.DataType, name: str, wanted: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if found.is_float():
        column = column.fill_nan(None)
    if isinstance(wanted, pl.Datetime) and wanted.time_zone and found == pl.Datetime:
        return column.dt.replace_time_zone(wanted.time_zone).cast(wanted)
    return column.cast(wanted)


def _mlflow_type(dtype: pl.DataType) -> Any:
    from mlflow.types import DataType
    from mlflow.types.schema import AnyType, Array

    if isinstance(dtype, pl.List):
        return Array(_mlflow_type(dtype.inner))  # type: ignore[arg-type]
    names: dict[Any, Any] = {
        pl.Int64: DataType.long,
        pl.Float64: DataType.double,
        pl.Boolean: DataType.boolean,
        pl.String: DataType.string,
        pl.Datetime: DataType.datetime,
        pl.Binary: DataType.binary,
    }
    return names.get(dtype.base_type(), AnyType())
