"""Rows become counts: for each day and column, how many rows fell in each cell of the reference.

A numeric column's cells are its reference quantiles, a categorical column's its commonest levels; what
the reference never held has cells of its own. DuckDB counts all columns in one scan of Parquet, so that
memory depends on days and cells, not on rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.errors import UsageError, nearest
from pipelines.learning.drift_rows import (
    double_sql,
    is_moment,
    kind_of,
    number_sql,
    quoted,
    sample,
    text_sql,
    types_of,
)

BINS = 20
SHOWN_LEVELS = 20  # levels with a cell of their own
KNOWN_LEVELS = 1000  # levels remembered; beyond them, new levels cannot be told from rare ones
YEAR_2000, YEAR_2100 = 946_684_800.0, 4_102_444_800.0  # seconds since 1970
EDGE_SAMPLE = 50_000  # rows from which quantiles are taken; the cells' shares are counted on all rows
KINDS = ("numeric", "categorical", "boolean", "ignored")
ROLES = ("feature", "prediction", "label")


@dataclass(frozen=True)
class Column:
    """A watched column and its cells.

    Numeric: `edges` are upper bounds, the first just below the least reference value, the last the
    greatest; cells are (below, between …, above). Otherwise `levels`, the first `shown` of them with a
    cell each, then (other known, unseen); `closed` says that the reference had no
    further levels. `clock`: see `number_sql`.
    """

    name: str
    role: str
    kind: str
    edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    shown: int = 0
    closed: bool = True
    clock: float = 0.0

    @property
    def cells(self) -> int:
        """How many cells there are, without the missing."""
        return len(self.edges) + 1 if self.kind == "numeric" else self.shown + 2


@dataclass
class Counts:
    """What was counted: `days` (D,) day numbers since 1970, `rows` (D,), per column `cells` (D, k).

    Rows of a day that are in no cell are missing (null or NaN). `means` are of finite values, (D,).
    """

    days: np.ndarray
    rows: np.ndarray
    cells: dict[str, np.ndarray] = field(default_factory=dict)
    means: dict[str, np.ndarray] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    def only(self, days: Sequence[int]) -> Counts:
        """Keep the given days."""
        use = np.isin(self.days, days)
        return Counts(
            self.days[use],
            self.rows[use],
            {name: cells[use] for name, cells in self.cells.items()},
            {name: means[use] for name, means in self.means.items()},
            self.absent,
        )


def make_columns(
    connection: Any,
    time: str,
    wanted: Sequence[str] | None,
    kinds: Mapping[str, str],
    roles: Mapping[str, str],
) -> list[Column]:
    """Choose the cells of each column from the reference rows."""
    types = types_of(connection)
    _check(types, wanted, kinds, roles)
    columns = []
    for name in wanted if wanted is not None else types:
        kind = kinds.get(name) or kind_of(types[name])
        if name == time or kind == "ignored":
            continue
        role = roles.get(name, "feature")
        if kind == "numeric":
            columns.append(_numeric(connection, name, types[name], role))
        elif kind == "boolean":
            columns.append(Column(name, role, kind, levels=("false", "true"), shown=2))
        else:
            columns.append(_categorical(connection, name, role))
    return columns


def count(connection: Any, columns: Sequence[Column]) -> Counts:
    """Count the rows in each cell of each day, in one scan. A column that is not there counts as null."""
    types = types_of(connection)
    parts = []
    for number, column in enumerate(columns):
        value = value_sql(column, types.get(column.name))
        if column.kind == "numeric":
            edges = ", ".join(double_sql(edge) for edge in column.edges)
            parts += [f"histogram({value}, [{edges}])", f"avg({value}) FILTER (isfinite({value}))"]
        else:
            # Of an open column (texts, say) the other words tell nothing, and there are a great many of them.
            told = column.levels if column.closed else column.levels[: column.shown]
            levels = ", ".join(text_sql(level) for level in told) or "''"
            connection.execute(f"CREATE OR REPLACE TYPE levels_{number} AS ENUM ({levels})")
            code = f"coalesce(enum_code(TRY_CAST({value} AS levels_{number})), {len(told)})"
            parts += [f"histogram({code}::INTEGER) FILTER ({value} IS NOT NULL)", "NULL"]
    query = f"SELECT _day, count(*), {', '.join(parts) or 'NULL'} FROM rows GROUP BY _day ORDER BY _day"
    found = connection.execute(query).fetchall()
    counts = Counts(
        np.array([row[0] for row in found], dtype=int), np.array([row[1] for row in found], dtype=int)
    )
    for number, column in enumerate(columns):
        place = 2 + 2 * number
        counts.cells[column.name] = np.array([_cells(column, row[place] or {}) for row in found]).reshape(
            len(found), column.cells
        )
        means = [np.nan if row[place + 1] is None else row[place + 1] for row in found]
        counts.means[column.name] = np.array(means, dtype=float)
    counts.absent = tuple(column.name for column in columns if column.name not in types)
    return counts


def newcomers(connection: Any, column: Column, middle: int) -> dict[int, int]:
    """Count, by day from `middle` on, the rows with values that no earlier day than `middle` held.

    So many would have been "never seen" had the reference ended there: what grows or turns over anyway
    (catalogues, counts) brings new values every day.
    """
    value = value_sql(column, types_of(connection)[column.name])
    if column.kind == "numeric":
        first = f"SELECT min({value}) AS least, max({value}) AS most FROM rows WHERE _day < {middle}"
        new = f"({value} < (SELECT least FROM first) OR {value} > (SELECT most FROM first))"
    else:
        first = f"SELECT DISTINCT {value} AS v FROM rows WHERE _day < {middle} AND {value} IS NOT NULL"
        new = f"{value} NOT IN (SELECT v FROM first)"
    query = f"""
        WITH first AS ({first})
        SELECT _day, count(*) FROM rows
        WHERE _day >= {middle} AND {value} IS NOT NULL AND {new} GROUP BY _day"""
    return dict(connection.execute(query).fetchall())


def _check(
    types: Mapping[str, str], wanted: Sequence[str] | None, kinds: Mapping[str, str], roles: Mapping[str, str]
) -> None:
    for name in (*(wanted or ()), *kinds, *roles):
        if name not in types:
            raise UsageError(f"the rows have no column '{name}': {nearest(name, types)}")
    for given, allowed in ((kinds, KINDS), (roles, ROLES)):
        for name, word in given.items():
            if word not in allowed:
                raise UsageError(f"column '{name}' cannot be '{word}': {nearest(word, allowed)}")


def _numeric(connection: Any, name: str, sql_type: str, role: str) -> Column:
    """Choose edges: quantiles of a sample; least and greatest of all rows."""
    value = number_sql(name, sql_type)
    least, greatest = _span(connection, value)
    clock = 0.0 if is_moment(sql_type) or least is None else _clock(least, greatest)
    if clock:
        value = number_sql(name, sql_type, clock)
        least, greatest = _span(connection, value)
    if least is None:  # nothing but nulls: whatever comes is new
        return Column(name, role, "numeric", edges=(0.0,))
    finite = sample(connection, EDGE_SAMPLE, {"v": value})["v"].drop_nulls().to_numpy().astype(float)
    finite = finite[np.isfinite(finite)]
    inner = np.quantile(finite, np.linspace(0, 1, BINS + 1), method="inverted_cdf") if len(finite) else []
    edges = np.unique(np.concatenate([[np.nextafter(least, -np.inf)], inner, [greatest]]))
    return Column(name, role, "numeric", edges=tuple(float(edge) for edge in edges), clock=clock)


def _span(connection: Any, value: str) -> tuple[float | None, float | None]:
    finite = f"SELECT {value} AS v FROM rows WHERE isfinite({value})"
    found: tuple[float | None, float | None] = connection.execute(
        f"SELECT min(v), max(v) FROM ({finite})"
    ).fetchall()[0]
    return found


def _clock(least: float, greatest: float | None) -> float:
    """Find the unit of a column that counts time since 1970: all of it lies in this century."""
    for unit in (1.0, 1e-3, 1e-6):
        if least * unit >= YEAR_2000 and (greatest or least) * unit <= YEAR_2100:
            return unit
    return 0.0


def _categorical(connection: Any, name: str, role: str) -> Column:
    value = f"CAST({quoted(name)} AS VARCHAR)"
    found = connection.execute(
        f"SELECT {value} AS level, count(*) AS n FROM rows WHERE {value} IS NOT NULL "
        f"GROUP BY level ORDER BY n DESC, level LIMIT {KNOWN_LEVELS + 1}"
    ).fetchall()
    levels = tuple(level for level, _ in found[:KNOWN_LEVELS])
    return Column(
        name,
        role,
        "categorical",
        levels=levels,
        shown=min(len(levels), SHOWN_LEVELS),
        closed=len(found) <= KNOWN_LEVELS,
    )


def _cells(column: Column, histogram: Mapping[Any, int]) -> np.ndarray:
    cells = np.zeros(column.cells, dtype=int)
    if column.kind == "numeric":
        for place, edge in enumerate((*column.edges, np.inf)):
            cells[place] = histogram.get(edge, 0)
        return cells
    for code, rows in histogram.items():
        known = code < len(column.levels) or not column.closed
        cells[code if code < column.shown else column.shown if known else column.shown + 1] += rows
    return cells


def value_sql(column: Column, sql_type: str | None) -> str:
    """Write what is watched of a column: a number, or a word; null where it is not there."""
    if sql_type is None:
        return "CAST(NULL AS DOUBLE)" if column.kind == "numeric" else "CAST(NULL AS VARCHAR)"
    if column.kind == "numeric":
        return number_sql(column.name, sql_type, column.clock)
    return f"CAST({quoted(column.name)} AS VARCHAR)"
