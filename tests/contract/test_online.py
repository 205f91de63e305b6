"""What serving reads online is what the newest snapshots say, entity by entity, and it never goes back."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract_help import copied, opened, window

from pipelines.flows.edge import Run
from pipelines.steps.features import materialize
from pipelines.stores.feature_store import feature_columns, open_store
from pipelines.stores.online_features import online_rows
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from feast import FeatureStore

Rows = dict[str, list[dict[str, Any]]]
"""Rows by view."""


def test_online_equals_the_latest_offline(finished, tmp_path: Path) -> None:
    run: Run = finished.run
    ws = copied(run, tmp_path, "lake", "features")
    middle = window(run)[0] + timedelta(days=2)
    for moment, reach in ((middle, middle), (run.as_of, run.as_of), (middle, run.as_of)):
        reached = materialize(run.case, ws, moment, run.project.platform)
        assert set(reached.values()) == {reach}
        latest = newest(run, ws, reach)
        store = open_store(run.case, ws, run.project.platform)
        assert online(run, store, latest) == served(run, store, latest)

    nobody = {key: "nobody" if isinstance(value, str) else -1 for key, value in anybody(latest).items()}
    (row,) = online_rows(store, run.case.service, [nobody])
    assert list(row) == feature_columns(store, run.case.service)
    assert set(row.values()) == {None}, "an entity that nobody knows has no features"


def newest(run: Run, ws: Workspace, at: datetime) -> Rows:
    """Read each view's newest rows at a moment."""
    dataset = opened(run, ws, window(run)[0], at)
    return {table.name: dataset.latest(table.name).to_dicts() for table in run.case.features}


def anybody(latest: Rows) -> dict[str, Any]:
    """Return a known value of every entity key: a request to the service names them all."""
    return {name: value for rows in latest.values() for name, value in rows[0].items()}


def served(run: Run, store: FeatureStore, latest: Rows) -> Rows:
    """Keep the features that the service serves."""
    names = set(feature_columns(store, run.case.service))
    return {
        view: [{key: value for key, value in row.items() if key in names} for row in rows]
        for view, rows in latest.items()
    }


def online(run: Run, store: FeatureStore, latest: Rows) -> Rows:
    """Ask the online store for the same entities."""
    keys = {key for table in run.case.features for key in table.keys}
    others = {key: value for key, value in anybody(latest).items() if key in keys}
    found = {}
    for table in run.case.features:
        rows = latest[table.name]
        asked = [others | {key: row[key] for key in table.keys} for row in rows]
        answers = online_rows(store, run.case.service, asked)
        found[table.name] = [
            {key: answer[key] for key in row if key in answer}
            for row, answer in zip(rows, answers, strict=True)
        ]
    return found
