"""Contribution limits: what one account, or one address, adds beyond its share stays out of the lake.

Deliveries are judged one by one in order of arrival, each by what was let in before it, which is what the
lake holds. So a log that is read in one ingest or in many, in whatever order its rows stand, comes to the
same lake. Days are UTC days of arrival: that clock is the platform's own, and no client can set it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipelines.case_study import CaseStudy, Contributions, Table
from pipelines.settings import Limits
from pipelines.steps.judge_rows import Court, Rejected, Rule
from pipelines.stores.lake import LakeWriter
from pipelines.stores.schemas import ADDRESS, Actions, Impressions
from pipelines.stores.sql import connect


@dataclass(frozen=True)
class Withheld:
    """Rows of a table that are over a limit, as they were staged; a field and a reason for each."""

    table: str
    rows: pl.DataFrame
    fields: tuple[str, ...]
    reasons: tuple[str, ...]


def rules(table: Table, who: Contributions, limits: Limits) -> list[Rule]:
    """List the limits that a table's rows are held to; none for tables that are nobody's contributions."""
    if not issubclass(table.schema, Impressions | Actions):
        return []
    acts = issubclass(table.schema, Actions)
    most, kind = (limits.actions, ("action",)) if acts else (limits.impressions, ())
    pair = (*who.target, *kind)
    address = (ADDRESS,) if acts else ()
    found = [
        (who.actor, kind[:0], 1, most.actor_day),
        (who.actor, pair, limits.window_days, most.pair),
        (address, kind[:0], 1, most.address_day),
        (address, pair, limits.window_days, most.address_pair),
    ]
    return [Rule((*by, *of), days, least) for by, of, days, least in found if by and least is not None]


def withhold(case: CaseStudy, writer: LakeWriter, limits: Limits) -> Iterator[Withheld]:
    """Take what is over a limit out of what is staged, table by table, and hand it over."""
    who = case.contributions
    if who is None or limits == Limits():
        return
    tables = {shape: next(iter(case.shaped(shape)), None) for shape in (Impressions, Actions)}
    for shape, table in tables.items():
        if table is None or not (staged := writer.staged(table.name)):
            continue
        held = rules(table, who, limits)
        shown = tables[Impressions] if shape is Actions and who.actor else None
        outlier = limits.outlier if shown is not None else None
        if held or outlier is not None:
            with connect(writer.transaction.folder / "spill") as connection:
                court = Court(connection, writer, table, who, held, limits.window_days)
                if outlier is not None and shown is not None:
                    court.watch(shown, outlier)
                rejected = court.judge()
            yield from _taken_out(table, staged, rejected)


def _taken_out(table: Table, staged: Sequence[Path], rejected: Sequence[Rejected]) -> Iterator[Withheld]:
    """Write the staged files anew without the rejected rows, and hand those over."""
    by_file: dict[str, list[Rejected]] = defaultdict(list)
    for each in rejected:
        by_file[each.file].append(each)
    for file in map(str, staged):
        if out := sorted(by_file[file], key=lambda each: each.row):
            rows = pl.read_parquet(file)
            places = [each.row for each in out]
            kept = pl.Series(np.isin(np.arange(rows.height), places, invert=True))
            rows.filter(kept).write_parquet(file, compression="lz4")
            yield Withheld(
                table.name, rows[places], tuple(r.field for r in out), tuple(r.reason for r in out)
            )
