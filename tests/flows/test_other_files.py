"""A run on real rows speaks of the files that it was given, whatever was run before it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_project import tiny_project

from pipelines import catalog
from pipelines.errors import DataError, UsageError
from pipelines.flows.edge import Run, bind_source
from pipelines.flows.real import ingest_source
from pipelines.steps.quarantine import replay_quarantine
from pipelines.stores.lake import Lake
from pipelines.stores.quarantine import Quarantine

SOURCE = "davidson"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return bind_source(tiny_project(tmp_path / "project", "harmful_content"), "harmful_content", SOURCE)


def posts(folder: Path, *texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [f"{number},3,0,3,0,1,{text}" for number, text in enumerate(texts)]
    header = ",count,hate_speech,offensive_language,neither,class,tweet"
    (folder / "labeled_data.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def take(run: Run, folder: Path) -> list[str]:
    """Ingest a folder; tell what was said."""
    said: list[str] = []
    with run.workspace.lock():
        ingest_source(run, catalog.source(run.case.name, SOURCE), str(folder), None, said.append)
    return said


def texts(run: Run) -> list[str]:
    lake = Lake(run.workspace.lake, run.case.tables)
    return sorted(lake.scan("requests").select("text").collect()["text"])


def test_other_files_take_the_place_of_the_first(run: Run, tmp_path: Path) -> None:
    first, second = posts(tmp_path / "a", "vupa", "well"), posts(tmp_path / "b", "zomu")
    take(run, first)
    (run.workspace.root / "model").mkdir()
    take(run, second)
    assert texts(run) == ["zomu"], "of the first files' posts one has the same number, and one has another"
    assert not (run.workspace.root / "model").exists(), "it was made of the other files"
    assert not list(run.workspace.root.parent.glob(f".{run.workspace.name}.*.tmp"))


def test_the_same_files_are_read_again_and_keep_what_is_there(run: Run, tmp_path: Path) -> None:
    folder = posts(tmp_path / "a", "vupa", "well")
    take(run, folder)
    (run.workspace.root / "model").mkdir()
    (words,) = take(run, posts(tmp_path / "b", "vupa", "well"))
    assert "= 0 kept + 12 duplicate" in words and texts(run) == ["vupa", "well"]
    assert (run.workspace.root / "model").exists()


def test_what_cannot_be_read_leaves_the_last_run_as_it_was(run: Run, tmp_path: Path) -> None:
    take(run, posts(tmp_path / "a", "vupa"))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"labeled_data\.csv"):
        take(run, tmp_path / "b")
    assert texts(run) == ["vupa"]


def test_rows_that_somebody_mended_are_not_thrown_away(run: Run, tmp_path: Path) -> None:
    folder = posts(tmp_path / "a", "vupa", "")
    take(run, folder)
    (file,) = {path for path, _ in Quarantine(run.workspace.quarantine, "lake").placed("requests")}
    entry = json.loads(file.read_text())
    file.write_text(json.dumps({**entry, "row": {**entry["row"], "text": "zomu"}}) + "\n")
    assert replay_quarantine(run.case, run.workspace, run.as_of).total.kept == 1
    with pytest.raises(UsageError, match="mended in quarantine"):
        take(run, posts(folder, "other"))
    assert texts(run) == ["vupa", "zomu"]
