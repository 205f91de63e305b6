"""The shape of data that all cases share: requests, impressions, actions. A case adds its columns."""

from __future__ import annotations

from typing import Annotated, Optional

import pandera.polars as pa
import polars as pl

Utc = Annotated[pl.Datetime, "us", "UTC"]


SERVED, REFUSED = "_served", "_refused"
"""Tables of the event log that are the platform's own: what answers were given with, and what was refused."""
REFUSED_SCHEMA = pl.Schema(
    {
        "arrived_at": pl.Datetime("us", "UTC"),
        "table": pl.String(),
        "field": pl.String(),
        "reason": pl.String(),
        "row": pl.String(),
    }
)


class Rows(pa.DataFrameModel):  # type: ignore[misc]  # pandera ships no types for it
    """Rows of any table: typed, no unknown column, and known to the platform since `arrived_at`."""

    arrived_at: Utc

    class Config:
        strict = True
        coerce = True


class Requests(Rows):
    """Somebody, or something, asked: the unit of serving.

    `arm` is that of the experiment that the request took part in, which serving alone knows: a source may
    leave the column out, here and in impressions.
    """

    request_id: str = pa.Field(str_length={"min_value": 1})
    request_time: Utc
    policy: str = pa.Field(nullable=True)
    model_version: str = pa.Field(nullable=True)
    arm: Optional[str] = pa.Field(nullable=True)  # noqa: UP045  # pandera reads "may be absent" from Optional


class Impressions(Rows):
    """What was answered: an item shown, or a decision taken."""

    impression_id: str = pa.Field(str_length={"min_value": 1})
    request_id: str
    impression_time: Utc
    position: pl.Int32 = pa.Field(nullable=True, ge=1)
    propensity: float = pa.Field(nullable=True, gt=0, le=1)
    arm: Optional[str] = pa.Field(nullable=True)  # noqa: UP045  # as above


ADDRESS = "address"


class Actions(Rows):
    """What came of it: a click, a watch, a report, a verdict.

    `address` is a keyed hash of where it was sent from, which serving alone knows: a source may leave the
    column out.
    """

    action_id: str = pa.Field(str_length={"min_value": 1})
    impression_id: str = pa.Field(nullable=True)
    action: str
    value: float = pa.Field(nullable=True)
    action_time: Utc
    address: Optional[str] = pa.Field(nullable=True)  # noqa: UP045  # as above


def may_be_absent(model: type[pa.DataFrameModel]) -> frozenset[str]:
    """Name the columns that a source, or a file from before there was such a column, may leave out."""
    return frozenset(name for name, column in model.to_schema().columns.items() if not column.required)


def polars_schema(model: type[pa.DataFrameModel]) -> pl.Schema:
    """Derive the Polars schema of a table's rows, columns in the order of their declaration."""
    columns = model.to_schema().columns
    return pl.Schema({name: column.dtype.type for name, column in columns.items()})
