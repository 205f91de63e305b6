"""The same inputs give the same bytes: in another order, with another hash seed, on one core, without a world."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from rebuild import rows_digest

from pipelines.case_study import Batch
from pipelines.flows.edge import Run, perform
from pipelines.settings import Project
from pipelines.steps.features import snapshot_digest
from pipelines.stores.files import folder_digest, read_json, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

CHILD = Path(__file__).with_name("rebuild.py")


def test_another_process_comes_to_the_same_bytes(finished, tmp_path: Path) -> None:
    """Rows and batches in another order, one core, another hash seed; the world cannot be imported."""
    run: Run = finished.run
    project = copied_project(run.project, tmp_path / "project")
    shelve(shuffled(finished.batches, np.random.default_rng(5)), tmp_path / "batches")
    env = {
        **os.environ,
        "LOOP_ROOT": str(project.root),
        "PYTHONHASHSEED": "12345",
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }
    command = [sys.executable, str(CHILD), run.case.name, str(tmp_path / "batches")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    other = replace(run, project=project, workspace=Workspace(project.root / "runs" / run.case.name))
    assert made(other) == made(run)
    assert done.stdout.split()[-1] == rows_digest(finished.batches)


def test_measuring_again_gives_the_same_bytes(finished) -> None:
    run: Run = finished.run
    before = folder_digest(run.workspace.evaluation)
    perform(run, "evaluate")
    assert folder_digest(run.workspace.evaluation) == before


def made(run: Run) -> dict[str, str]:
    """Tell the digest of everything that the steps made."""
    ws = run.workspace
    return {
        "rows": Lake(ws.lake, run.case.tables).digest(),
        "features": snapshot_digest(run.case, ws),
        "record": str(read_json(ws.model / "record.json")),
        "model": folder_digest(ws.model),
        "evaluation": folder_digest(ws.evaluation),
    }


def copied_project(project: Project, root: Path) -> Project:
    """Copy a project's files, without what was made in it."""
    shutil.copytree(project.root / "configs", root / "configs")
    shutil.copy(project.root / "params.yaml", root / "params.yaml")
    return Project(root)


def shuffled(batches: list[Batch], rng: np.random.Generator) -> list[Batch]:
    """Give the same rows in another order, within their batches and between them."""
    mixed = [replace(each, rows=each.rows[rng.permutation(each.rows.height)]) for each in batches]
    return [mixed[place] for place in rng.permutation(len(mixed))]


def shelve(batches: list[Batch], folder: Path) -> None:
    """Write batches to files."""
    folder.mkdir()
    index = []
    for number, batch in enumerate(batches):
        batch.rows.write_parquet(folder / f"{number}.parquet")
        index.append({"table": batch.table, "origin": batch.origin, "first_row": batch.first_row})
    write_json(folder / "index.json", index)
