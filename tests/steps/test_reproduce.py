"""A version is built again from its record: the same digest, or the input that changed is named."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import stub_case
from stub_case import AS_OF, CASE

from pipelines.case_study import CaseStudy
from pipelines.errors import DataError, LoopError
from pipelines.settings import CaseParams, Platform
from pipelines.steps import train as train_step
from pipelines.steps.reproduce import Reproduction, reproduce
from pipelines.steps.train import train
from pipelines.stores import code
from pipelines.stores.files import folder_digest, read_json, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

PARAMS = stub_case.params(skill=0.6)


@pytest.fixture
def folder(breakdown: Workspace, tmp_path: Path) -> Path:
    """A trained model, kept where a registry would keep it."""
    train(CASE, breakdown, AS_OF, PARAMS, Platform(), "logged")
    return breakdown.model.rename(tmp_path / "registered")


def again(
    ws: Workspace, folder: Path, scratch: Path, case: CaseStudy = CASE, params: CaseParams = PARAMS
) -> Reproduction:
    return reproduce(case, ws, folder, params, Platform(), scratch)


def add(ws: Workspace, **columns: Any) -> None:
    """Add a reading that had arrived within the training window, as a replay from quarantine does."""
    row = stub_case.readings(days=10).tail(1).with_columns(**{k: pl.lit(v) for k, v in columns.items()})
    Lake(ws.lake, CASE.tables).append("readings", row)


@pytest.mark.parametrize("protocol", ["logged", "time", "random"])
def test_the_same_inputs_give_the_same_digest(breakdown: Workspace, tmp_path: Path, protocol: str) -> None:
    train(CASE, breakdown, AS_OF, PARAMS, Platform(), protocol)
    kept = breakdown.model.rename(tmp_path / "registered")
    before = folder_digest(breakdown.root)
    found = again(breakdown, kept, tmp_path / "scratch")
    assert found.same and found.changes == ()
    assert found.rebuilt == read_json(kept / "manifest.json")["digest"]
    assert folder_digest(breakdown.root) == before, "the workspace is only read"


def test_rows_that_came_later_change_nothing(breakdown: Workspace, folder: Path, tmp_path: Path) -> None:
    """A live lake grows: rows after the window's end are not among the inputs."""
    late = stub_case.readings(days=3, seed=9).with_columns(reading_id="late" + pl.col("reading_id"))
    Lake(breakdown.lake, CASE.tables).append("readings", late)
    found = again(breakdown, folder, tmp_path / "scratch")
    assert found.same and found.changes == ()


def test_a_row_that_was_added_is_named_by_table_and_date(
    breakdown: Workspace, folder: Path, tmp_path: Path
) -> None:
    add(breakdown, reading_id="replayed")
    found = again(breakdown, folder, tmp_path / "scratch")
    assert not found.same and found.rebuilt is None
    assert [(each.input, each.what) for each in found.changes] == [("data", "readings 2026-02-19")]
    assert "readings 2026-02-19 (60 rows then, 61 rows now)" in found.summary()


def test_rows_that_are_gone_are_named(breakdown: Workspace, folder: Path, tmp_path: Path) -> None:
    for file in (breakdown.lake / "readings").glob("date=2026-02-1[01]/*.parquet"):
        file.unlink()
    found = again(breakdown, folder, tmp_path / "scratch")
    assert [each.what for each in found.changes] == ["readings 2026-02-10", "readings 2026-02-11"]
    assert {each.now for each in found.changes} == {None}
    assert "no rows now" in found.summary()


def test_other_parameters_of_today_are_named_and_not_used(
    breakdown: Workspace, folder: Path, tmp_path: Path
) -> None:
    today = stub_case.params(skill=0.9).model_copy(update={"seed": 8})
    found = again(breakdown, folder, tmp_path / "scratch", params=today)
    assert found.same
    assert {(each.what, each.recorded, each.now, each.used) for each in found.changes} == {
        ("train.skill", "0.6", "0.9", "recorded"),
        ("seed", "7", "8", "recorded"),
    }
    assert "without effect on it: params: seed (7 then, 8 now)" in found.summary()


def test_changed_code_is_named_and_its_effect_found_out(
    breakdown: Workspace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's digest is forged, for this test's own code cannot be edited while it runs."""
    files = code.code_files(CASE) | {"case/stub_case.py": "edited"}
    monkeypatch.setattr(train_step, "code_files", lambda case: files)
    found = again(breakdown, folder, tmp_path / "scratch")
    assert found.same, "an edit without effect on the model's bytes"
    assert [(each.input, each.what) for each in found.changes] == [("code", "case/stub_case.py")]

    def fit(dataset: Any, settings: Any) -> Any:
        return stub_case.fit(dataset, settings.model_copy(update={"skill": settings.skill / 2}))

    found = again(breakdown, folder, tmp_path / "other", replace(CASE, fit=fit))
    assert not found.same and found.rebuilt not in (None, found.digest)
    assert "Changed since: code: case/stub_case.py" in found.summary()


def test_a_changed_feature_definition_is_named(
    breakdown: Workspace, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = read_json(folder / "record.json")["inputs"] | {"features": {"machine_heat": "another"}}
    monkeypatch.setattr("pipelines.steps.reproduce.training_inputs", lambda case, contents: other)
    found = again(breakdown, folder, tmp_path / "scratch")
    assert [(each.input, each.what, each.recorded) for each in found.changes] == [
        ("features", "machine_heat", None)
    ]


def test_a_step_that_is_not_deterministic_is_told_apart(
    breakdown: Workspace, folder: Path, tmp_path: Path
) -> None:
    def fit(dataset: Any, settings: Any) -> Any:
        return dataclasses.replace(stub_case.fit(dataset, settings), model=stub_case.Mixture(0.61, 0))

    found = again(breakdown, folder, tmp_path / "scratch", replace(CASE, fit=fit))
    assert not found.same
    assert "does not give the same bytes" in found.summary()


def test_a_rebuild_that_fails_says_what_changed(breakdown: Workspace, folder: Path, tmp_path: Path) -> None:
    def fit(dataset: Any, settings: Any) -> Any:
        raise DataError("column 'heat' is gone")

    today = stub_case.params(skill=0.9)
    with pytest.raises(DataError, match=r"cannot be rebuilt: column 'heat' is gone; changed since: params"):
        again(breakdown, folder, tmp_path / "scratch", replace(CASE, fit=fit), today)


def test_what_cannot_be_reproduced_says_why(breakdown: Workspace, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ingest them again"):
        again(Workspace(tmp_path / "runs" / "wiped"), folder, tmp_path / "scratch")
    write_json(folder / "record.json", read_json(folder / "record.json") | {"seed": 8})
    with pytest.raises(LoopError, match=r"record.json is not what its manifest says"):
        again(breakdown, folder, tmp_path / "scratch")
