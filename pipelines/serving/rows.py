"""Rows for the log: requests, impressions and actions in the case's own tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from pipelines.case_study import Answer, CaseStudy, Table
from pipelines.errors import LoopError
from pipelines.serving.explore import Slates, padded
from pipelines.stores.schemas import REFUSED_SCHEMA, Actions, Impressions, Requests, polars_schema

TIME = pl.Datetime("us", "UTC")
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(frozen=True)
class LogTables:
    """The three tables of a case that every answer and action is written to."""

    requests: Table
    impressions: Table
    actions: Table


def log_tables(case: CaseStudy) -> LogTables:
    """Find the case's tables of requests, impressions and actions by the shape that they extend."""
    return LogTables(*(_extending(case, shape) for shape in (Requests, Impressions, Actions)))


def fill(table: Table, columns: Mapping[str, Any], height: int) -> pl.DataFrame:
    """Lay out rows of a table from columns (or constants); what it does not declare is left out.

    Raises LoopError where a column that may not be null is missing.
    """
    schema, declared = polars_schema(table.schema), table.schema.to_schema().columns
    absent = [name for name in schema if columns.get(name) is None and not declared[name].nullable]
    if absent:
        raise LoopError(f"table '{table.name}' needs '{absent[0]}', which serving does not know")
    filled = {name: _column(columns.get(name), name, kind, height) for name, kind in schema.items()}
    return pl.DataFrame(filled)


def lay_out(
    asked: pl.DataFrame, ids: Sequence[str], now: datetime, answer: Answer, slates: Slates
) -> pl.DataFrame:
    """Lay out what is shown, a row a place: ids, position, propensity, score, details, item, request.

    `_request` is the row of the request; what the request and the item both name is the item's.
    """
    request, place = np.nonzero(slates.items >= 0)
    position = place + 1
    names = [f"{ids[row]}-{at}" for row, at in zip(request.tolist(), position.tolist(), strict=True)]
    depth = slates.items.shape[1]
    details = {
        name: np.where(slates.own, padded(values, depth, np.nan), np.nan)[request, place]
        for name, values in answer.details.items()
    }
    shown = pl.DataFrame(
        {
            "_request": request,
            "impression_id": pl.Series(names, dtype=pl.String),
            "request_id": pl.Series([ids[row] for row in request.tolist()], dtype=pl.String),
            "impression_time": times([now] * len(names)),
            "position": position,
            "propensity": slates.propensity[request, place],
            "score": slates.scores[request, place],
            "explored": slates.explored[request],
            **details,
        }
    )
    item = answer.pool[slates.items[request, place]].drop(shown.columns, strict=False)
    fields = asked[request].drop([*shown.columns, *item.columns, "time"], strict=False)
    return pl.concat([shown, item, fields], how="horizontal")


def refused(table: Table, rows: Sequence[tuple[Mapping[str, Any], str, str]], now: datetime) -> pl.DataFrame:
    """Lay out rows that may not enter a table: (as it came, field, reason) each; ingest quarantines them."""
    columns = {
        "arrived_at": [now] * len(rows),
        "table": [table.name] * len(rows),
        "field": [field for _, field, _ in rows],
        "reason": [reason for _, _, reason in rows],
        "row": [json.dumps(row, default=str) for row, _, _ in rows],
    }
    return pl.DataFrame(columns, schema=REFUSED_SCHEMA)


def times(values: Sequence[datetime | None], name: str = "") -> pl.Series:
    """Make a column of times by way of integers: Polars takes moments with a zone one by one, slowly."""
    counted = [None if each is None else (each - _EPOCH) // _MICROSECOND for each in values]
    return pl.Series(name, counted, dtype=pl.Int64).cast(TIME)


def _column(value: Any, name: str, kind: pl.DataType, height: int) -> pl.Series:
    if isinstance(value, pl.Series):
        return value.cast(kind).alias(name)
    if value is not None and not isinstance(value, list | str) and hasattr(value, "__len__"):
        return pl.Series(name, value).cast(kind)
    values = value if isinstance(value, list) else [value] * height
    return times(values, name) if kind == TIME else pl.Series(name, values, dtype=kind)


def _extending(case: CaseStudy, shape: type[Any]) -> Table:
    found = case.shaped(shape)
    if len(found) != 1:
        raise LoopError(
            f"{case.name} has {len(found)} tables that extend {shape.__name__}: to be served it needs just one"
        )
    return found[0]
