"""Rows for the log: requests, impressions and actions in the case's own tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel

from pipelines.case_study import Answer, CaseStudy, Serving, Table
from pipelines.errors import LoopError
from pipelines.serving.explore import Slates, padded
from pipelines.stores.schemas import REFUSED_SCHEMA, Actions, Impressions, Requests, polars_schema

TIME = pl.Datetime("us", "UTC")
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

Row = dict[str, Any]
"""Values by column; moments are counted (`counted`)."""


class Columns:
    """Columns that rows are laid out in. A frame of rows takes no longer than two columns made one by one."""

    def __init__(self, schema: Mapping[str, pl.DataType]) -> None:
        self.names = tuple(schema)
        self._times = [place for place, kind in enumerate(schema.values()) if kind == TIME]
        self._plain = {name: pl.Int64() if kind == TIME else kind for name, kind in schema.items()}

    def frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        """Lay out rows; what is no column is left out."""
        frame = pl.DataFrame(rows, schema=self._plain)
        for place in self._times:
            frame.replace_column(place, frame.to_series(place).cast(TIME))
        return frame


@dataclass(frozen=True)
class Layout:
    """How rows of a table are laid out: its name, its columns, and those that serving must know."""

    table: Table
    columns: Columns
    needed: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.table.name

    @classmethod
    def of(cls, table: Table) -> Layout:
        """Read what a table declares, once: a request should not wait for it."""
        declared = table.schema.to_schema().columns
        needed = tuple(name for name, column in declared.items() if not column.nullable)
        return cls(table, Columns(polars_schema(table.schema)), needed)

    def frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        """Lay out rows. Raises LoopError where a column that may not be null is missing."""
        absent = [name for row in rows[:1] for name in self.needed if name not in row]
        if absent:
            raise LoopError(f"table '{self.name}' needs '{absent[0]}', which serving does not know")
        return self.columns.frame(rows)


@dataclass(frozen=True)
class LogTables:
    """The three tables of a case that every answer and action is written to."""

    requests: Layout
    impressions: Layout
    actions: Layout


def log_tables(case: CaseStudy) -> LogTables:
    """Find the case's tables of requests, impressions and actions by the shape that they extend."""
    return LogTables(*(Layout.of(_extending(case, shape)) for shape in (Requests, Impressions, Actions)))


def check_logged(case: CaseStudy, serving: Serving, tables: LogTables) -> None:
    """Refuse what would be sent and never logged: answers would be given by what training cannot see.

    Each field of a request is a column of requests or impressions, each that an action tells one of actions.
    Raises LoopError.
    """
    _check_fields(case, serving.request, tables.requests, tables.impressions)
    if serving.told is not None:
        _check_fields(case, serving.told, tables.actions)


def _check_fields(case: CaseStudy, sent: type[BaseModel], *layouts: Layout) -> None:
    for field in sent.model_fields:
        if not any(field in layout.columns.names for layout in layouts):
            tables = " or ".join(f"'{layout.name}'" for layout in layouts)
            raise LoopError(
                f"{case.name}: '{field}' of {sent.__name__} is no column of {tables}, so it would not be logged: "
                "declare the column (nullable), or take the field out"
            )


def check_pool(answer: Answer, impressions: Layout, case: str) -> Answer:
    """Return an answer whose pool is all logged. Raises LoopError where impressions lack a column of it."""
    for name in answer.pool.columns:
        if name not in impressions.columns.names:
            raise LoopError(
                f"{case}: '{name}' of an answer's pool is no column of '{impressions.name}', so it would not be "
                "logged: declare the column, or leave it out of the pool"
            )
    return answer


def check_answer(answer: Answer, requests: int, places: int) -> None:
    """Refuse a model's answer of the wrong shape, of what is not in its pool, or of nothing at all: LoopError."""
    ranked, pool, chances = answer.ranked, answer.pool.height, answer.chances
    shapes = {"ranked": ranked, "scores": answer.scores, **answer.details}
    wrong = [name for name, each in shapes.items() if each.ndim != 2 or len(each) != requests]
    if wrong or ranked.shape != answer.scores.shape:
        raise LoopError(
            f"'{(wrong or ['scores'])[0]}' of an answer to {requests} requests has the wrong shape"
        )
    if not np.issubdtype(ranked.dtype, np.integer) or ((ranked < -1) | (ranked >= pool)).any():
        raise LoopError(f"'ranked' of an answer names what is not among the {pool} rows of its pool")
    if not (ranked[:, :places] >= 0).any():
        raise LoopError("an answer of nothing: no place of it is filled")
    if chances is not None and (
        places != 1
        or chances.shape != (pool,)
        or not math.isclose(chances.sum(), 1.0)
        or not (chances >= 0).all()
    ):
        raise LoopError("'chances' of an answer are no distribution over its pool, of one place")


def counted(moment: Any) -> Any:
    """Count a moment in microseconds since 1970, for Polars takes those with a zone slowly; leave all else."""
    return (moment - _EPOCH) // _MICROSECOND if isinstance(moment, datetime) else moment


def lay_out(
    asked: Sequence[Row], ids: Sequence[str], now: datetime, answer: Answer, slates: Slates
) -> list[Row]:
    """Lay out what is shown, a row a place: ids, position, propensity, score, details, item, request.

    `_request` is the row of the request; what the request and the item both name is the item's.
    """
    request, place = np.nonzero(slates.items >= 0)
    depth = slates.items.shape[1]
    shown = slates.items[request, place].tolist()
    items = {item: answer.pool.row(item, named=True) for item in set(shown)}
    columns: dict[str, list[Any]] = {
        "_request": request.tolist(),
        "position": (place + 1).tolist(),
        "propensity": slates.propensity[request, place].tolist(),
        "score": slates.scores[request, place].tolist(),
        "explored": slates.explored[request].tolist(),
    }
    for name, values in answer.details.items():
        columns[name] = np.where(slates.own, padded(values, depth, np.nan), np.nan)[request, place].tolist()
    time = counted(now)
    rows = []
    for item, *each in zip(shown, *columns.values(), strict=True):
        row = dict(zip(columns, each, strict=True))
        number = ids[row["_request"]]
        row |= {"request_id": number, "impression_id": f"{number}-{row['position']}", "impression_time": time}
        rows.append({**asked[row["_request"]], **items[item], **row})
    return rows


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


def _extending(case: CaseStudy, shape: type[Any]) -> Table:
    found = case.shaped(shape)
    if len(found) != 1:
        raise LoopError(
            f"{case.name} has {len(found)} tables that extend {shape.__name__}: to be served it needs just one"
        )
    return found[0]
