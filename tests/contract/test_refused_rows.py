"""Rows that cannot be used are set aside with a reason, counts balance, and corrected rows come back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import Batch, CaseStudy
from pipelines.flows.edge import Run
from pipelines.steps.ingest import ingest
from pipelines.steps.quarantine import list_quarantine, replay_quarantine, show_quarantine
from pipelines.stores.lake import Lake
from pipelines.stores.quarantine import plain_row
from pipelines.stores.workspace import Workspace


def test_bad_rows_are_refused_counted_and_replayed(finished, tmp_path: Path) -> None:
    """Of each table one row loses its key, one its arrival; a batch comes twice; then all is corrected."""
    run: Run = finished.run
    ws = Workspace(tmp_path / "runs" / run.case.name)
    already = show_quarantine(run.workspace, limit=None)  # a world has bad rows of its own
    batches, spoiled = spoil(run.case, finished.batches, {place(entry) for entry in already})
    twice = whole(
        finished.batches, {entry["origin"] for entry in already} | {each.origin for each in spoiled}
    )
    manifest = ingest(
        run.case, ws, [*batches, replace(twice, origin="again")], source="world", as_of=run.as_of
    )
    expected = {(batch.table, field) for batch in spoiled for field in fields(run.case, batch.table)}
    new = [entry for entry in show_quarantine(ws, limit=None) if place(entry) not in map(place, already)]
    refused = [(entry["table"], *problem.values()) for entry in new for problem in entry["problems"]]
    assert {(table, field) for table, field, _ in refused} == expected
    assert len(refused) == len(expected) and all("null" in reason for _, _, reason in refused)
    clean = finished.manifest.total
    total = manifest.total
    assert total.quarantined == clean.quarantined + len(expected)
    assert total.read == total.kept + total.duplicate + total.quarantined == clean.read + twice.rows.height
    assert total.duplicate == clean.duplicate + twice.rows.height
    assert manifest.digest != finished.manifest.digest

    correct(new, {(each.table, each.origin): each for each in finished.batches})
    replayed = replay_quarantine(run.case, ws, run.as_of).total
    assert replayed.read == replayed.kept + replayed.quarantined
    assert (replayed.kept, replayed.quarantined) == (len(expected), clean.quarantined)
    assert list_quarantine(ws) == list_quarantine(run.workspace)
    assert Lake(ws.lake, run.case.tables).digest() == finished.manifest.digest


def fields(case: CaseStudy, table: str) -> tuple[str, str]:
    """Name what a row of any table cannot do without."""
    return case.table(table).key[0], "arrived_at"


def place(entry: dict[str, Any]) -> tuple[str, str, int]:
    """Tell where a refused row stood."""
    return entry["table"], entry["origin"], entry["row_number"]


def spoil(
    case: CaseStudy, batches: list[Batch], bad: set[tuple[str, str, int]]
) -> tuple[list[Batch], list[Batch]]:
    """Spoil two good rows of each table; return all batches, and those that were spoiled."""
    found, spoiled = [], []
    for batch in batches:
        numbers = range(batch.rows.height)
        good = [n for n in numbers if (batch.table, batch.origin, batch.first_row + n) not in bad]
        if len(good) >= 2 and batch.table not in {each.table for each in spoiled}:
            row = pl.int_range(pl.len())
            blanked = [
                pl.when(row != number).then(pl.col(name)).alias(name)
                for number, name in zip(good, fields(case, batch.table), strict=False)
            ]
            batch = replace(batch, rows=batch.rows.with_columns(blanked))
            spoiled.append(batch)
        found.append(batch)
    assert {each.table for each in spoiled} == {table.name for table in case.tables}
    return found, spoiled


def whole(batches: list[Batch], spoiled: set[str]) -> Batch:
    """Find a batch of which every row is kept: one before the last, with nothing spoiled."""
    return next(each for each in batches if each.rows.height and each.origin not in spoiled)


def correct(entries: list[dict[str, Any]], originals: dict[tuple[str, str], Batch]) -> None:
    """Do what a person does in an editor: put back what the source said."""
    for entry in entries:
        batch = originals[entry["table"], entry["origin"]]
        said = plain_row(batch.rows.row(entry["row_number"] - batch.first_row, named=True))
        path = Path(entry["file"])
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["id"] == entry["id"]:
                line["row"] |= pick(said, [each["field"] for each in entry["problems"]])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def pick(row: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}
