"""A label is folded once an action can no longer change it, and each example has one."""

from __future__ import annotations

import polars as pl
import pytest
from contract_help import opened, window

from pipelines.flows.edge import Run
from pipelines.steps.split import newest, split
from pipelines.stores.dataset import open_dataset
from pipelines.stores.engine import connect, scan, to_polars
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import Actions, Requests


def test_examples_are_told_apart_by_their_keys(finished) -> None:
    run: Run = finished.run
    start, end = window(run)
    rows = opened(run, run.workspace, start, end).labels()
    assert rows.height > 0
    assert rows.select(run.case.label.keys).n_unique() == rows.height
    time = rows[run.case.label.time]
    assert time.is_sorted() and time.min() >= start and time.max() < end


def test_an_example_tells_the_request_that_it_came_of(finished) -> None:
    """Experiments and the watch count what came of an answer by it."""
    run: Run = finished.run
    if run.case.serving is None:
        pytest.skip(f"{run.case.name} is not served yet")
    start, end = window(run)
    rows = opened(run, run.workspace, start, end).labels()
    assert rows["request_id"].dtype == pl.String and rows["request_id"].count()
    (table,) = run.case.shaped(Requests)
    asked = Lake(run.workspace.lake, run.case.tables).scan(table.name).select("request_id").collect()
    assert set(rows["request_id"].drop_nulls()) <= set(asked["request_id"])


def test_an_immature_label_is_dropped(finished) -> None:
    """Examples of the last attribution window are not there yet; once it has passed, they are."""
    run: Run = finished.run
    case = run.case
    if not case.label.matures:
        pytest.skip(f"{case.name} corrects for delayed feedback: it learns from young examples too")
    start, end = window(run)
    rows = opened(run, run.workspace, start, end).labels()
    assert (rows[case.label.time] + case.framing.attribution <= end).all()
    later = opened(run, run.workspace, start, end + case.framing.attribution).labels()
    young = later.filter(later[case.label.time] + case.framing.attribution > end)
    assert young.filter(young[case.label.time] < end).height > 0, (
        "no example near the end: a longer tiny world"
    )


def test_what_is_told_early_is_told_by_an_action(finished) -> None:
    """Were an example there before anything was told of it, what has not come yet would teach as a no."""
    run: Run = finished.run
    case, label = run.case, run.case.label
    if label.told_after is None:
        pytest.skip(f"{case.name} learns from labels that are final")
    assert label.matures and label.told_after < case.framing.attribution
    lake, told = Lake(run.workspace.lake, case.tables), {table.name for table in case.shaped(Actions)}
    with connect() as backend:
        tables = {name: scan(backend, case.table(name), lake.files(name)) for name in label.reads}
        silent = {name: rows.limit(0) if name in told else rows for name, rows in tables.items()}
        assert to_polars(label.fold(silent, run.as_of), backend).is_empty()
        assert to_polars(label.fold(tables, run.as_of), backend).height


def test_what_is_told_early_is_mostly_what_is_final(finished) -> None:
    run: Run = finished.run
    case, (start, end) = run.case, window(run)
    if case.label.told_after is None:
        pytest.skip(f"{case.name} learns from labels that are final")
    seed, platform, keys = run.params.seed, run.project.platform, list(case.label.keys)
    early = open_dataset(case, run.workspace, start, end, seed, platform, provisional=True).labels()
    final = opened(run, run.workspace, start, end + case.framing.attribution).labels()
    both = early.join(final.select(*keys, final="label"), on=keys, how="left")
    assert early.height > opened(run, run.workspace, start, end).labels().height
    assert both["final"].null_count() == 0
    yes = both.filter((pl.col("label") == 1) | (pl.col("final") == 1))
    assert yes.height and (yes["label"] == yes["final"]).mean() > 0.7


def test_what_learns_takes_labels_as_told_and_the_newest_days_wait(finished) -> None:
    run: Run = finished.run
    given = (run.case, run.workspace, run.as_of, run.params, run.project.platform)
    divided = split(*given, run.protocol)
    assert divided.train.provisional and newest(*given).provisional
    assert not divided.test.provisional
