"""The label is the reviewers' last word in time, and nothing where they said none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import polars as pl
import pytest

from pipelines.cases.harmful_content.label import ATTRIBUTION, LABEL
from pipelines.cases.harmful_content.tables import HARMS, TABLES
from pipelines.stores.engine import connect, to_polars
from pipelines.stores.schemas import polars_schema

NOW = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def said(action: str, hours: float | None, *harms: str) -> dict[str, Any]:
    time = None if hours is None else NOW + hours * HOUR
    return {"impression_id": "d", "action": action, "action_time": time, "harms": list(harms)}


def folded(actions: list[dict[str, Any]], *, timed: bool = True) -> dict[str, dict[str, Any]]:
    """Fold one decision with some actions; return the rows by harm."""
    moment = NOW if timed else None
    given = {
        "requests": [{"request_id": "p", "request_time": moment, "text": "hello", "author_id": None}],
        "impressions": [
            {"impression_id": "d", "request_id": "p", "impression_time": moment, "propensity": 0.2}
        ],
        "actions": [{"action_id": str(number), **each} for number, each in enumerate(actions)],
    }
    with connect() as backend:
        tables = {}
        for table in TABLES[1:]:
            schema = polars_schema(table.schema)
            rows = pl.DataFrame(
                [{name: row.get(name) for name in schema} for row in given[table.name]], schema=schema
            )
            tables[table.name] = backend.create_table(table.name, ibis.memtable(rows.to_arrow()), temp=True)
        rows = to_polars(LABEL.fold(tables, NOW), backend)
    return {row["harm"]: row for row in rows.iter_rows(named=True)}


def labels(rows: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {harm: row["label"] for harm, row in rows.items() if row["label"]}


def test_each_harm_has_its_own_label() -> None:
    rows = folded([said("verdict", 5, "hate", "spam")])
    assert set(rows) == set(HARMS) and labels(rows) == {"hate": 1, "spam": 1}
    assert rows["hate"]["text"] == "hello" and rows["hate"]["propensity"] == 0.2
    assert rows["violence"]["label"] == 0 and rows["hate"]["vote_share"] is None


def test_what_was_not_reviewed_in_time_has_no_label() -> None:
    limit = ATTRIBUTION / HOUR
    assert folded([]) == {}
    assert folded([said("report", 1, "hate"), said("vote", 2, "hate")]) == {}
    assert folded([said("verdict", limit, "hate")]) == {}
    assert folded([said("verdict", -1, "hate")]) == {}
    assert labels(folded([said("verdict", limit - 0.01, "hate")])) == {"hate": 1}


def test_an_outcome_in_time_overrules_the_verdict() -> None:
    verdict = said("verdict", 5, "hate", "offensive")
    part = folded([verdict, said("appeal", 6), said("outcome", 9, "hate")])
    assert labels(part) == {"hate": 1}
    assert all(row["appealed"] and not row["overturned"] for row in part.values())
    assert part["offensive"]["vote_share"] == 0
    whole = folded([said("outcome", 9), verdict])
    assert labels(whole) == {} and all(row["overturned"] for row in whole.values())
    late = folded([verdict, said("outcome", ATTRIBUTION / HOUR + 1)])
    assert labels(late) == {"hate": 1, "offensive": 1} and not late["hate"]["appealed"]


def test_votes_are_shared_out() -> None:
    votes = [said("vote", 1, "hate"), said("vote", 2, "hate", "spam"), said("vote", 3)]
    rows = folded([*votes, said("verdict", 4, "hate")])
    assert rows["hate"]["vote_share"] == pytest.approx(2 / 3)
    assert [rows[harm]["vote_share"] for harm in ("spam", "violence")] == pytest.approx([1 / 3, 0])


def test_untold_times_count() -> None:
    rows = folded([said("vote", None, "hate"), said("verdict", None, "offensive")], timed=False)
    assert labels(rows) == {"offensive": 1} and rows["hate"]["vote_share"] == 1
    assert all(row["time"] is None for row in rows.values())
