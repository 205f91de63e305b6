"""A label is folded once an action can no longer change it, and each example has one."""

from __future__ import annotations

import pytest
from contract_help import opened, window

from pipelines.flows.edge import Run


def test_examples_are_told_apart_by_their_keys(finished) -> None:
    run: Run = finished.run
    start, end = window(run)
    rows = opened(run, run.workspace, start, end).labels()
    assert rows.height > 0
    assert rows.select(run.case.label.keys).n_unique() == rows.height
    time = rows[run.case.label.time]
    assert time.is_sorted() and time.min() >= start and time.max() < end


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
