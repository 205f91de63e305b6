"""The reference as a small JSON: cells, contrasts and their daily values. The rows are not needed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines.learning.drift_cells import Column, Counts, count, make_columns, newcomers
from pipelines.learning.drift_contrasts import UNSEEN, Contrasts, daily_values, inflation_of, make_contrasts
from pipelines.learning.drift_rows import Rows, open_rows

VERSION = 1


@dataclass(frozen=True)
class Watched:
    """A column's reference: its cells' counts, its contrasts, and their values by day.

    `days` (D,) day numbers, `values` (D, k), `rows` (D, k) the rows behind each value.
    """

    column: Column
    contrasts: Contrasts
    cells: np.ndarray
    mean: float
    days: np.ndarray
    values: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Profile:
    """The reference of a drift watch.

    `learned_until` (day number) ends the days whose rows the model learned from: its predictions there
    are better than any later ones, so their level is not compared with later days.
    """

    time: str
    days: np.ndarray
    rows: np.ndarray
    columns: tuple[Watched, ...]
    learned_until: int | None = None
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold; NaN as null."""
        return {
            "version": VERSION,
            "time": self.time,
            "days": self.days.tolist(),
            "rows": self.rows.tolist(),
            "learned_until": self.learned_until,
            "notes": list(self.notes),
            "origin": dict(self.origin),
            "columns": [_watched_json(each) for each in self.columns],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Profile:
        """Read what `to_json` wrote."""
        return cls(
            time=content["time"],
            days=np.array(content["days"], dtype=int),
            rows=np.array(content["rows"], dtype=int),
            columns=tuple(_watched(each) for each in content["columns"]),
            learned_until=content["learned_until"],
            notes=tuple(content["notes"]),
            origin=content["origin"],
        )


def profile_reference(
    rows: Rows,
    time: str,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    roles: Mapping[str, str] | None = None,
    *,
    learned_until: int | None = None,
    notes: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
) -> Profile:
    """Profile reference rows (a frame, or Parquet) by the day of `time`.

    `columns` default to all that can be watched; `kinds` (numeric, categorical, boolean, ignored) override
    what the types say; `roles` name predictions and labels, all others being features. Raises UsageError
    for a column that is not there, DataError for Parquet that is not there.
    """
    with open_rows(rows, time) as connection:
        chosen = make_columns(connection, time, columns, kinds or {}, roles or {})
        counts = count(connection, chosen)
        middle = int(counts.days[len(counts.days) // 2]) if len(counts.days) else 0
        new = {
            column.name: newcomers(connection, column, middle)
            for column in chosen
            if column.kind != "boolean" and column.closed
        }
    made = [_watch(column, counts, middle, new.get(column.name, {}), None) for column in chosen]
    known = [each.contrasts.inflation for each in made if not all(each.contrasts.rare)]
    usual = float(np.median(known)) if known else 1.0
    watched = tuple(
        _watch(each.column, counts, middle, new.get(each.column.name, {}), usual)
        if all(each.contrasts.rare)
        else each
        for each in made
    )
    return Profile(time, counts.days, counts.rows, watched, learned_until, tuple(notes), origin or {})


def _watch(
    column: Column, counts: Counts, middle: int, new: Mapping[int, int], inflation: float | None
) -> Watched:
    """Summarise a column's days; `inflation` is that of other columns where its own cannot be known."""
    cells = counts.cells[column.name]
    seen = cells.sum(axis=1)
    later = counts.days >= middle
    unseen = np.array([new.get(int(day), 0) for day in counts.days]) / np.maximum(seen, 1)
    usual = float(unseen[later].mean()) if later.any() else 0.0
    if inflation is None:
        plain = make_contrasts(column, cells, counts.rows, usual)
        inflation = inflation_of(plain, *daily_values(plain, cells, counts.rows)) or 1.0
    contrasts = make_contrasts(column, cells, counts.rows, usual, inflation)
    values, behind = daily_values(contrasts, cells, counts.rows)
    for place, name in enumerate(contrasts.names):
        if name in UNSEEN:
            values[:, place] = _unseen_values(contrasts, place, unseen)
            behind[~later, place] = 0
    means = counts.means[column.name]
    usable = np.isfinite(means)
    mean = float(np.average(means[usable], weights=seen[usable])) if seen[usable].sum() else np.nan
    return Watched(column, contrasts, cells.sum(axis=0), mean, counts.days, values, behind)


def _unseen_values(contrasts: Contrasts, place: int, unseen: np.ndarray) -> np.ndarray:
    """Put shares into the units of a contrast: its weights are `low` on cells outside it, `high` inside."""
    low, high = contrasts.weights[:, place].min(), contrasts.weights[:, place].max()
    return np.asarray(low + unseen * (high - low))


def _watched_json(watched: Watched) -> dict[str, Any]:
    return {
        "column": asdict(watched.column),
        "contrasts": {
            "names": list(watched.contrasts.names),
            "weights": watched.contrasts.weights.tolist(),
            "missing": watched.contrasts.missing,
            "rare": list(watched.contrasts.rare),
            "inflation": watched.contrasts.inflation,
        },
        "cells": watched.cells.tolist(),
        "mean": None if np.isnan(watched.mean) else watched.mean,
        "days": watched.days.tolist(),
        "values": [[None if np.isnan(value) else value for value in day] for day in watched.values.tolist()],
        "rows": watched.rows.tolist(),
    }


def _watched(content: Mapping[str, Any]) -> Watched:
    column = dict(content["column"])
    column["edges"], column["levels"] = tuple(column["edges"]), tuple(column["levels"])
    contrasts = content["contrasts"]
    names = tuple(contrasts["names"])
    missing = contrasts["missing"]
    made = Column(**column)
    weights = np.array(contrasts["weights"], dtype=float).reshape(made.cells, -1)
    days = np.array(content["days"], dtype=int)
    return Watched(
        column=made,
        contrasts=Contrasts(
            names,
            weights,
            None if missing is None else (missing[0], missing[1]),
            tuple(contrasts["rare"]),
            contrasts["inflation"],
        ),
        cells=np.array(content["cells"], dtype=int),
        mean=np.nan if content["mean"] is None else content["mean"],
        days=days,
        values=np.array(content["values"], dtype=float).reshape(len(days), len(names)),
        rows=np.array(content["rows"], dtype=int).reshape(len(days), len(names)),
    )
