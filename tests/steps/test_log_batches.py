"""Small batches of a log are read together, and come to the same."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from log_help import file_log
from polars.testing import assert_frame_equal
from tiny import START, tiny_batches, tiny_tables

from pipelines.case_study import Batch, CaseStudy
from pipelines.steps import log_batches
from pipelines.steps.ingest import ingest_log, watermark
from pipelines.steps.log_batches import stretches
from pipelines.stores.workspace import Workspace

TABLES = tiny_tables(days=6)
LATER = START + timedelta(days=90)


def one_by_one(*names: str) -> list[tuple[int, Batch]]:
    """Lay the rows of some tables out one by one, in turns, as a log would hold them."""
    rows = [(name, TABLES[name].slice(row, 1)) for row in range(20) for name in names]
    return [
        (offset, Batch(name, frame, f"log/{offset}-{name}"))
        for offset, (name, frame) in enumerate(rows, start=1)
        if frame.height
    ]


def test_rows_are_gathered_by_table_in_their_order() -> None:
    (part,) = stretches(one_by_one("requests", "impressions"), seen=0)
    assert (part.end, part.known) == (40, ())
    assert [batch.table for batch in part.new] == ["requests", "impressions"]
    for batch in part.new:
        assert_frame_equal(batch.rows, TABLES[batch.table].head(20))
    assert part.new[0].origin == "log/1-requests to log/39-requests"


def test_what_was_seen_stays_apart_from_what_is_new() -> None:
    (part,) = stretches(one_by_one("requests", "impressions"), seen=11)
    assert {batch.table: batch.rows.height for batch in part.known} == {"requests": 6, "impressions": 5}
    assert {batch.table: batch.rows.height for batch in part.new} == {"requests": 14, "impressions": 15}


def test_rows_of_other_columns_stay_apart() -> None:
    rows = TABLES["requests"].head(2)
    read = [(1, Batch("requests", rows, "a")), (2, Batch("requests", rows.drop("device"), "b"))]
    (part,) = stretches(read, seen=0)
    assert [(batch.origin, batch.rows.width) for batch in part.new] == [
        ("a", rows.width),
        ("b", rows.width - 1),
    ]


def test_a_stretch_is_bounded_and_ends_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_batches, "_ROWS", 7)
    parts = list(stretches(one_by_one("requests"), seen=0))
    assert [part.end for part in parts] == [7, 14, 20]
    gathered = pl.concat(batch.rows for part in parts for batch in part.new)
    assert_frame_equal(gathered, TABLES["requests"].head(20))
    assert list(stretches([], seen=0)) == []


@pytest.mark.parametrize("most", [5, 50_000])
def test_a_log_of_single_rows_comes_to_the_same_lake(
    case: CaseStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Read day by day while rows of later days wait, in small stretches or in one."""
    monkeypatch.setattr(log_batches, "_ROWS", most)
    whole, single = Workspace(tmp_path / "whole"), Workspace(tmp_path / "single")
    with file_log(whole) as log:
        for batch in tiny_batches(days=6):
            log.append(batch.table, batch.rows)
        expected = ingest_log(case, whole, log, as_of=LATER)
    with file_log(single) as log:
        longest = max(rows.height for rows in TABLES.values())
        taken = [
            log.submit(name, rows.slice(row, 1)) for row in range(longest) for name, rows in TABLES.items()
        ]
        end = max(offset.result() for offset in taken)
        read = 0
        for day in (1, 2, 4, 90):
            manifest = ingest_log(case, single, log, as_of=START + timedelta(days=day))
            read += manifest.total.read
            assert manifest.total.duplicate == 0
    assert (manifest.digest, read) == (expected.digest, expected.total.read)
    assert watermark(single).offset == end
