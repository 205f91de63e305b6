"""Check rows against a table's schema: rows come out typed, bad ones named with field and reason.

A wrong column spoils the whole file and is a DataError; a wrong value spoils its row alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandera.errors
import polars as pl

from pipelines.case_study import Table
from pipelines.errors import DataError, UsageError, nearest
from pipelines.stores.schemas import polars_schema

_OFFSET = r"(?:[zZ]|[+-]\d{2}:?\d{2})$"
_ALL_WRONG = 20
"""A column of at least so many values, none of which can be read, has the wrong type."""


@dataclass(frozen=True)
class Problem:
    """Why a row cannot be used. `row` counts from 0 within the checked frame."""

    row: int
    field: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """Typed rows, and what is wrong with some of them."""

    rows: pl.DataFrame
    problems: tuple[Problem, ...]

    def without(self, spoiled: Sequence[Problem]) -> Checked:
        """Refuse rows for another reason: what else is wrong with them only follows from it."""
        rows = {problem.row for problem in spoiled}
        problems = [*spoiled, *(each for each in self.problems if each.row not in rows)]
        return Checked(self.rows, tuple(sorted(problems, key=lambda each: (each.row, each.field))))


def check_rows(
    table: Table, rows: pl.DataFrame, zone: str | None, where: str, *, picked: bool = False
) -> Checked:
    """Type and check rows; `where` names their file in errors, `zone` that of naive time stamps.

    Rows that were `picked` out of a file for what is wrong with them say nothing of the file. Raises DataError on
    missing or unknown columns, columns of a wrong type, and naive time stamps without a zone.
    """
    schema = polars_schema(table.schema)
    _check_columns(table, schema, rows, where)
    absent = [name for name in schema if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent)
    typed, problems = [], []
    for name, dtype in schema.items():
        column, failed = _read_column(
            rows[name], dtype, zone, f"{where}: column '{name}' of {table.name}", picked
        )
        typed.append(column)
        problems += _unreadable(rows[name], failed, dtype)
    frame = pl.DataFrame(typed, height=rows.height)
    known = {(problem.row, problem.field) for problem in problems}
    problems += [each for each in _violations(table, frame, where) if (each.row, each.field) not in known]
    problems.sort(key=lambda each: (each.row, each.field))
    return Checked(frame, tuple(problems))


def check_zone(zone: str | None) -> None:
    """Refuse a zone that the time zone database does not know."""
    if zone is None:
        return
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise UsageError(f"unknown time zone '{zone}': write it as in 'UTC' or 'Europe/Paris'") from None


def times_as_text(column: pl.Series) -> pl.Series:
    """Write times in ISO format; one outside the calendar, which libraries choke on, as its number."""
    if not isinstance(column.dtype, pl.Datetime):
        return column.dt.to_string("iso") if column.dtype.is_temporal() else column
    inside = _in_calendar(column)
    text = _where(column, inside).dt.to_string("iso:strict")
    return text.zip_with(inside, column.to_physical().cast(pl.String)).alias(column.name)


def _in_calendar(column: pl.Series) -> pl.Series:
    """Say which times lie in the years 1 to 9999; False where there is none."""
    first, last = (int(datetime(*day, tzinfo=UTC).timestamp()) for day in ((1, 1, 1), (9999, 12, 31)))
    assert isinstance(column.dtype, pl.Datetime)
    second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[column.dtype.time_unit]
    bounds = (max(first * second, -(2**63)), min(last * second, 2**63 - 1))
    return column.to_physical().is_between(*bounds).fill_null(False)


def _check_columns(table: Table, schema: pl.Schema, rows: pl.DataFrame, where: str) -> None:
    declared = table.schema.to_schema().columns
    missing = [name for name in schema if name not in rows.columns and declared[name].required]
    unknown = [name for name in rows.columns if name not in schema]
    if missing:
        raise DataError(
            f"{where}: {table.name} has no column {_list(missing)} (it has:"
            f" {', '.join(rows.columns) or 'none'}); correct the file or its adapter;"
            " what a source does not observe is a column of nulls"
        )
    if unknown:
        hints = "; ".join(f"'{name}': {nearest(name, schema)}" for name in unknown)
        raise DataError(
            f"{where}: {table.name} does not know column {hints}; drop or rename it in the adapter"
        )


def _list(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _read_column(
    column: pl.Series, dtype: pl.DataType, zone: str | None, where: str, picked: bool
) -> tuple[pl.Series, pl.Series]:
    """Return the column as `dtype`, and which of its values could not be read."""
    read = _convert(column, dtype, zone, where)
    present = column.is_not_null()
    if column.dtype.is_float():
        read = read.to_frame().select(pl.when(~column.is_nan().fill_null(False)).then(pl.first())).to_series()
        present &= ~column.is_nan().fill_null(False)
    if dtype.is_float():
        present &= ~read.is_nan().fill_null(False)  # text says "nan" where there is no number
        read = read.fill_nan(None)
        # No sum, mean or ratio that it enters is a number.
        read = read.set(read.is_infinite().fill_null(False), None)
    failed = present & read.is_null()
    values = int(present.sum())
    if values >= _ALL_WRONG and int(failed.sum()) == values and not picked:
        raise DataError(
            f"{where}: none of {values} values can be read as {_plain(dtype)} (the first:"
            f" {times_as_text(column.filter(present).head(1))[0]!r});"
            " are columns swapped, or is it another file?"
        )
    return read.alias(column.name), failed


def _convert(column: pl.Series, dtype: pl.DataType, zone: str | None, where: str) -> pl.Series:
    found = column.dtype
    if found == dtype:
        return column
    if found == pl.Null:
        return column.cast(dtype)
    if isinstance(dtype, pl.Datetime):
        return _times(column, dtype, zone, where)
    text_of_numbers = dtype == pl.String and (found.is_float() or found == pl.Boolean or found.is_temporal())
    if text_of_numbers or (found.is_temporal() and dtype.is_numeric()):
        raise _wrong_type(where, found, dtype)
    if dtype == pl.Boolean and not found.is_numeric():
        words = {"true": True, "false": False, "1": True, "0": False}
        return (
            column.cast(pl.String).str.to_lowercase().replace_strict(words, default=None, return_dtype=dtype)
        )
    try:
        read = column.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        raise _wrong_type(where, found, dtype) from None
    if found.is_float() and dtype.is_integer():
        return _where(read, column == read.cast(found))
    if found.is_numeric() and dtype == pl.Boolean:
        return _where(read, column.is_in([0, 1]))
    return read


def _times(column: pl.Series, dtype: pl.Datetime, zone: str | None, where: str) -> pl.Series:
    found = column.dtype
    unit = dtype.time_unit
    if isinstance(found, pl.Datetime):
        column = _where(column, _in_calendar(column))
    if isinstance(found, pl.Datetime) and found.time_zone is not None:
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit(unit)
    if isinstance(found, pl.Datetime) or found == pl.Date:
        return _localise(column.cast(pl.Datetime(unit)), zone, where)
    if found != pl.String:
        raise DataError(
            f"{where}: {_plain(found)} is not a time; convert it in the adapter, which knows its unit"
            " (for example polars.from_epoch(column, 's').dt.replace_time_zone('UTC'))"
        )
    aware = column.str.contains(_OFFSET).fill_null(False)
    read = _where(column, aware).str.to_datetime(time_zone="UTC", time_unit=unit, strict=False, format="%+")
    if aware.all() or (column.is_null() | aware).all():
        return read
    naive = _where(column, ~aware).str.to_datetime(
        time_unit=unit, strict=False, format="%Y-%m-%d %H:%M:%S%.f"
    )
    for layout in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d"):
        other = _where(column, ~aware).str.to_datetime(time_unit=unit, strict=False, format=layout)
        naive = naive.zip_with(naive.is_not_null(), other)
    if naive.null_count() == len(naive):
        return read
    return read.zip_with(aware, _localise(naive, zone, where))


def _localise(column: pl.Series, zone: str | None, where: str) -> pl.Series:
    """Read naive times as of `zone`: of an hour that came twice the first, of a skipped hour none."""
    if column.null_count() == len(column):
        return column.dt.replace_time_zone("UTC")
    if zone is None:
        raise DataError(
            f"{where}: time stamps without a time zone (such as {column.drop_nulls()[0]});"
            " declare the zone they are meant in (zone=… of the source), or write them with an offset"
        )
    local = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def _where(column: pl.Series, mask: pl.Series) -> pl.Series:
    """Keep values where `mask` holds; null elsewhere."""
    return column.to_frame("v").select(pl.when(mask.fill_null(False)).then("v")).to_series()


def _wrong_type(where: str, found: pl.DataType, dtype: pl.DataType) -> DataError:
    return DataError(f"{where}: {_plain(found)} where {_plain(dtype)} is due; convert it in the adapter")


def _plain(dtype: pl.DataType) -> str:
    return str(dtype)


def _unreadable(column: pl.Series, failed: pl.Series, dtype: pl.DataType) -> list[Problem]:
    rows = failed.arg_true()
    wrong = column.gather(rows)
    values = (times_as_text(wrong) if wrong.dtype.is_temporal() else wrong).to_list()
    return [
        Problem(row, column.name, f"{_short(value)} cannot be read as {_plain(dtype)}")
        for row, value in zip(rows, values, strict=True)
    ]


def _violations(table: Table, frame: pl.DataFrame, where: str) -> list[Problem]:
    """Run the schema's own checks on typed rows, lazily, all of them."""
    found = [
        Problem(row, key, "is null, but rows are told apart by it")
        for key in table.key
        for row in frame[key].is_null().arg_true()
    ]
    known = {(problem.row, problem.field) for problem in found}
    try:
        table.schema.validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        for case in errors.failure_cases.iter_rows(named=True):
            if case["index"] is None:
                raise DataError(f"{where}: {table.name} as a whole fails {case['check']}") from None
            problem = Problem(case["index"], case["column"] or "row", _reason(case))
            if (problem.row, problem.field) not in known:
                found.append(problem)
    return found


def _reason(case: dict[str, Any]) -> str:
    if case["check"] == "not_nullable":
        return "is null"
    return f"{_short(case['failure_case'])} fails {case['check']}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
