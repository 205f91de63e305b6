"""What stands in quarantine, and its replay once rows or schema were corrected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, Observed
from pipelines.errors import UsageError, nearest
from pipelines.settings import Limits
from pipelines.steps.ingest import Ingestion, Manifest, manifests
from pipelines.steps.judge_rows import OUTLIER, OVER
from pipelines.stores.quarantine import WHOLE, Entry, Quarantine, entry_id
from pipelines.stores.schemas import polars_schema
from pipelines.stores.workspace import Workspace

_CHUNK = 5_000


@dataclass(frozen=True)
class Problems:
    """How many quarantined rows of a table share a problem."""

    table: str
    source: str
    field: str
    reason: str
    rows: int


def list_quarantine(ws: Workspace) -> list[Problems]:
    """Count the quarantined rows by table, source, field and kind of reason, the most frequent first."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    quarantine = _open(ws)
    for table in quarantine.tables():
        for entry in quarantine.entries(table):
            for problem in entry.problems:
                counts[table, entry.source, problem["field"], _kind(problem["reason"])] += 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Problems(*what, rows=rows) for what, rows in ordered]


def show_quarantine(ws: Workspace, table: str | None = None, limit: int | None = 20) -> list[dict[str, Any]]:
    """Return quarantined rows: table, file to correct them in, origin, row number, problems, row."""
    return list(islice(_shown(ws, _tables(ws, table)), limit))


def replay_quarantine(
    case: CaseStudy, ws: Workspace, as_of: datetime, table: str | None = None, limits: Limits | None = None
) -> Manifest:
    """Ingest the quarantined rows again, as they stand in their files now.

    Rows that pass leave quarantine, in the same commit that adds them to the lake; the others stay, with
    their present problems. One that is spoiled as a whole (`WHOLE`) passes only once it was edited. A row
    whose table the case no longer has stays untouched.
    """
    declared = [each.name for each in case.tables]
    tables = [name for name in _tables(ws, table) if name in declared]
    quarantine = _open(ws)
    with Ingestion.open(
        case, ws, source="quarantine", as_of=as_of, zone=None, observed=None, limits=limits
    ) as run:
        observed = {
            each["source"]: Observed(**each["observed"]) for each in manifests(ws) if each["observed"]
        }
        for name in tables:
            entries = quarantine.entries(name)
            while chunk := list(islice(entries, _CHUNK)):
                _replay(run, name, chunk, observed)
        return run.commit(replayed=tables) if run.total_read else run.nothing()


def _replay(run: Ingestion, table: str, chunk: list[Entry], observed: Mapping[str, Observed]) -> None:
    """Check the rows of one chunk again; those of one origin, zone and source together."""
    schema = polars_schema(run.case.table(table).schema)
    for entry in (each for each in chunk if _untouched(each, table)):
        run.refuse(table, entry)
    mended = (each for each in chunk if not _untouched(each, table))
    together = groupby(mended, key=lambda entry: (entry.origin, entry.zone, entry.source))
    for (origin, zone, source), group in together:
        entries = list(group)
        problems: dict[int, list[dict[str, str]]] = {}
        for row, entry in enumerate(entries):
            for field in sorted(entry.row.keys() - schema.keys()):
                reason = f"is not a column of {table}: {nearest(field, schema)}"
                problems.setdefault(row, []).append({"field": field, "reason": reason})
        known = observed.get(source, Observed())
        checked = run.check(table, _frame(entries, schema), zone, origin, again=known)
        for problem in checked.problems:
            problems.setdefault(problem.row, []).append({"field": problem.field, "reason": problem.reason})
        for row in (checked.rows["arrived_at"] > run.as_of).fill_null(False).arg_true():
            problems.setdefault(row, []).append({"field": "arrived_at", "reason": f"lies after {run.as_of}"})
        bad = pl.Series(sorted(problems), dtype=pl.UInt32)
        index = pl.int_range(len(entries), dtype=pl.UInt32, eager=True)
        run.keep(table, checked.rows.filter(~index.is_in(bad.implode())))
        for row in sorted(problems):
            run.refuse(table, replace(entries[row], problems=problems[row]))


def _untouched(entry: Entry, table: str) -> bool:
    """Say whether a row is spoiled as a whole, by its line or its token, and stands as it came: no column tells why."""
    whole = any(each["field"] in WHOLE for each in entry.problems)
    return whole and entry.id == entry_id(table, entry.origin, entry.row_number, entry.row)


def _frame(entries: list[Entry], schema: pl.Schema) -> pl.DataFrame:
    """Make a frame of rows in JSON's types; a column that a row lacks is null."""
    columns = []
    for name, dtype in schema.items():
        values = [entry.row.get(name) for entry in entries]
        if dtype.is_nested():
            columns.append(pl.Series(name, values, dtype=dtype, strict=False))
        else:
            columns.append(pl.Series(name, [_text(value) for value in values], dtype=pl.String))
    return pl.DataFrame(columns, height=len(entries))


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _kind(reason: str) -> str:
    """Take the offending value off a reason."""
    for words in (" cannot be read as ", " fails "):
        if words in reason:
            return words.strip() + " " + reason.rpartition(words)[2]
    return reason.partition(" (")[0] if reason.startswith((OVER, OUTLIER)) else reason


def _shown(ws: Workspace, tables: list[str]) -> Iterator[dict[str, Any]]:
    quarantine = _open(ws)
    for table in tables:
        for file, entry in quarantine.placed(table):
            yield {
                "table": table,
                "file": str(file),
                "id": entry.id,
                "source": entry.source,
                "origin": entry.origin,
                "row_number": entry.row_number,
                "problems": list(entry.problems),
                "row": dict(entry.row),
            }


def _tables(ws: Workspace, table: str | None) -> list[str]:
    tables = _open(ws).tables()
    if table is None:
        return tables
    if table not in tables:
        raise UsageError(f"no rows of '{table}' are in quarantine: {nearest(table, tables)}")
    return [table]


def _open(ws: Workspace) -> Quarantine:
    return Quarantine(ws.quarantine, ws.lake.name)
