"""The monitor step on the stub system: what it writes, when it looks again, and what it says."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import stub_case
from stub_case import AS_OF, DAY

from pipelines.errors import DataError, LoopError
from pipelines.learning.drift import Verdict
from pipelines.settings import Alarms, Platform
from pipelines.steps.estimate import read_estimate
from pipelines.steps.monitor import monitor
from pipelines.steps.monitor_plan import day_number, make_plan
from pipelines.steps.train import train
from pipelines.stores.files import read_json
from pipelines.stores.lake import Lake
from pipelines.stores.models import read_record
from pipelines.stores.workspace import Workspace

EVALUATED = AS_OF - 7 * DAY


@pytest.fixture
def watched(breakdown: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A trained stub whose data sets need no Feast."""
    monkeypatch.setattr("pipelines.steps.monitor_rows.open_dataset", stub_case.open_stub)
    train(stub_case.CASE, breakdown, AS_OF, stub_case.params(), Platform(), "logged")
    return breakdown


def look(ws: Workspace, as_of: object = AS_OF) -> Verdict:
    return monitor(stub_case.CASE, ws, as_of, Alarms(), Platform())


def later(ws: Workspace, days: int, heat: float = 0.0, first: int = 0) -> None:
    """Add days of readings after AS_OF; `heat` makes them hotter."""
    made = stub_case.readings(days=days, seed=5 + first)
    moved = timedelta(days=first + days)
    rows = made.with_columns(
        pl.col("arrived_at", "read_at") + moved,
        reading_id=pl.format(f"later{first}-{{}}", "reading_id"),
        heat=pl.col("heat") + heat,
    )
    Lake(ws.lake, stub_case.CASE.tables).append("readings", rows)


def column(verdict: Verdict, name: str) -> object:
    return next(each for each in verdict.columns if each.name == name)


def test_the_evaluation_days_are_judged_against_the_training_days(watched: Workspace) -> None:
    verdict = look(watched)
    assert (verdict.level, verdict.status) == ("none", "judged")
    assert (verdict.start, verdict.end) == ("2026-02-22", "2026-03-01")
    assert (verdict.reference["start"], verdict.reference["end"]) == ("2026-02-02", "2026-02-22")
    assert {each.name for each in verdict.columns} == {"heat", "site", "prediction", "label"}
    assert column(verdict, "label").status == "judged"
    assert column(verdict, "prediction").status == "not_comparable"
    assert any("learned from" in note for note in verdict.notes)


def test_files_agree_and_are_whole(watched: Workspace) -> None:
    verdict = look(watched)
    names = {path.name for path in watched.monitor.iterdir()}
    assert names == {
        *("profile.json", "state.json", "verdict.json", "estimate.json"),
        *("reference.parquet", "scored.parquet", "report.html"),
    }
    assert Verdict.from_json(read_json(watched.monitor / "verdict.json")) == verdict
    report = (watched.monitor / "report.html").read_text()
    assert 'Drift: <span style="color:#1b7f3b">none</span>' in report
    assert not list(watched.monitor.parent.glob(".monitor*"))


def test_looking_again_changes_nothing(watched: Workspace) -> None:
    first = look(watched)
    before = {path.name: path.read_bytes() for path in watched.monitor.iterdir()}
    assert look(watched) == first
    assert look(watched, AS_OF + timedelta(hours=5)) == first
    assert {path.name: path.read_bytes() for path in watched.monitor.iterdir()} == before


def test_a_new_workspace_gives_the_same_verdict(watched: Workspace) -> None:
    first = look(watched)
    shutil.rmtree(watched.monitor)
    assert look(watched) == first


def test_days_after_training_are_judged_against_training_and_evaluation(watched: Workspace) -> None:
    later(watched, 3)
    verdict = look(watched, AS_OF + 2 * DAY)
    assert (verdict.start, verdict.end) == ("2026-03-01", "2026-03-03")
    assert verdict.reference["end"] == "2026-03-01"
    assert column(verdict, "prediction").status == "judged"
    assert verdict.level == "none"
    verdict = look(watched, AS_OF + 3 * DAY)
    assert (verdict.start, verdict.end) == ("2026-03-02", "2026-03-04")  # a label day matured as well
    state = read_json(watched.monitor / "state.json")
    assert len(state["values"]["heat"]) == 3
    assert len(state["values"]["label"]) == 2


def test_scores_lead_to_expect_what_labels_have_not_told_yet(watched: Workspace) -> None:
    look(watched)
    assert read_estimate(watched.monitor) is None  # the model learned from all days of the reference
    later(watched, 3)
    look(watched, AS_OF + 3 * DAY)
    found = read_estimate(watched.monitor)
    assert found is not None
    assert (found.then.n, found.now.n) == (7 * 60, 3 * 60)
    assert found.now.value == pytest.approx(found.then.value, abs=0.05)
    assert not found.fell(0.05)


def test_a_lasting_change_warns_and_then_alarms(watched: Workspace) -> None:
    later(watched, 6, heat=0.4)
    levels = [look(watched, AS_OF + day * DAY).level for day in range(1, 7)]
    assert levels[0] == "warning"
    assert levels[-1] == "alarm"
    verdict = look(watched, AS_OF + 6 * DAY)
    assert {"heat", "prediction"} <= set(verdict.drifted)
    assert verdict.since is not None
    assert any(reason.startswith("heat: ") for reason in verdict.reasons)


def test_a_new_model_starts_anew(watched: Workspace) -> None:
    later(watched, 40, heat=0.4)
    assert look(watched, AS_OF + 6 * DAY).level == "alarm"
    train(stub_case.CASE, watched, AS_OF + 36 * DAY, stub_case.params(skill=0.5), Platform(), "logged")
    verdict = look(watched, AS_OF + 40 * DAY)
    assert verdict.level == "none"
    assert verdict.reference["end"] == "2026-04-06"


def test_days_without_rows_are_a_verdict(watched: Workspace) -> None:
    verdict = look(watched, AS_OF + 3 * DAY)
    assert (verdict.level, verdict.status) == ("none", "no_rows")
    later(watched, 1, first=3)
    assert look(watched, AS_OF + 4 * DAY).status == "judged"


def test_a_kill_while_writing_leaves_the_last_verdict(
    watched: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(watched)
    later(watched, 2)

    def fail(*_: object) -> None:
        raise OSError("the network drive is gone")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.steps.monitor.write_report", fail)
        with pytest.raises(OSError, match="network drive"):
            look(watched, AS_OF + 2 * DAY)
    assert Verdict.from_json(read_json(watched.monitor / "verdict.json")) == first
    assert look(watched, AS_OF + 2 * DAY).start == "2026-03-01"


def test_a_report_that_disagrees_is_not_published(
    watched: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.steps.monitor.agreement", lambda *_: ["heat"])
    with pytest.raises(LoopError, match="disagrees with the verdict on heat"):
        look(watched)
    assert not watched.monitor.exists()


def test_no_model_is_told(breakdown: Workspace) -> None:
    with pytest.raises(LoopError, match="train one first"):
        look(breakdown)


def test_a_model_of_a_day_or_two_has_nothing_to_be_compared_with(
    watched: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_record(watched.model)
    window = {"start": (AS_OF - DAY).isoformat(), "end": AS_OF.isoformat()}
    monkeypatch.setattr("pipelines.steps.monitor.read_record", lambda _: {**record, "window": window})
    assert look(watched).status == "no_reference"


def test_a_reference_that_is_gone_is_told(watched: Workspace) -> None:
    for folder in (watched.lake / "readings").glob("date=2026-02-*"):
        if folder.name < "date=2026-02-22":
            shutil.rmtree(folder)
    with pytest.raises(DataError, match="compared with"):
        look(watched)


def test_warm_up_days_are_left_out_as_far_as_enough_remain(watched: Workspace) -> None:
    class View:
        keys = ()
        windows = (1, 7, 365)

    class Case:
        features = (View,)

    record = read_record(watched.model)
    first = AS_OF - 60 * DAY
    plan = make_plan(Case, first, AS_OF + DAY, record)
    assert plan.start == day_number(AS_OF - 27 * DAY)
    assert "365 days" in plan.notes[0]
    early = make_plan(Case, AS_OF - 30 * DAY, AS_OF + DAY, record)
    assert early.start == day_number(AS_OF - 23 * DAY)


def test_scores_are_finite_and_labels_only_of_days_that_matured(watched: Workspace) -> None:
    look(watched)
    shown = pl.read_parquet(watched.monitor / "reference.parquet")
    assert np.isfinite(shown["prediction"].to_numpy()).all()
    assert shown["label"].null_count() == 0
    state = read_json(watched.monitor / "state.json")
    assert len(state["values"]["heat"]) - len(state["values"]["label"]) == 1


def test_a_folder_of_another_model_can_be_named(watched: Workspace, tmp_path: Path) -> None:
    shutil.copytree(watched.model, tmp_path / "champion")
    shutil.rmtree(watched.model)
    verdict = monitor(
        stub_case.CASE, watched, AS_OF, Alarms(), Platform(), model_folder=tmp_path / "champion"
    )
    assert verdict.status == "judged"
