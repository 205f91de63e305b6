"""What the contract tests share: gates that open or close, and pieces of a workspace."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy, Dataset
from pipelines.flows.edge import Run
from pipelines.steps.split import split
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

ANY = 1e9


def open_gate(case: CaseStudy) -> dict[str, Any]:
    """Return a gate that every model passes: what is tested is what happens then, not who is better."""
    return {
        "resamples": 100,
        "minimum_units": 1,
        "heuristic_margin": -ANY,
        "champion_margin": -ANY,
        "slice_tolerance": ANY,
        "guardrail_tolerance": dict.fromkeys(case.framing.guardrails, ANY),
    }


def window(run: Run) -> tuple[datetime, datetime]:
    """Return where the training window of a tiny world begins and ends."""
    divided = split(run.case, run.workspace, run.as_of, run.params, run.project.platform, run.protocol)
    return divided.train.start, divided.train.end


def opened(run: Run, ws: Workspace, start: datetime, end: datetime) -> Dataset:
    """Open a data set of another workspace of the case."""
    return open_dataset(run.case, ws, start, end, run.params.seed, run.project.platform)


def training_rows(dataset: Dataset, case: CaseStudy) -> pl.DataFrame:
    """Join the features to the mature labels of a data set."""
    return dataset.historical(dataset.labels(), case.label.time)


def copied(run: Run, root: Path, *parts: str) -> Workspace:
    """Copy folders of the finished workspace to one that a test may change."""
    ws = Workspace(root / "runs" / run.workspace.name)
    for part in parts:
        shutil.copytree(run.workspace.root / part, ws.root / part)
    return ws


def known_by(run: Run, moment: datetime, root: Path) -> Workspace:
    """Make a workspace that holds nothing but what had happened and arrived before a moment."""
    ws = Workspace(root / "runs" / run.workspace.name)
    with Lake(ws.lake, run.case.tables).writing() as writer:
        for name, rows in everything(run):
            time = pl.col(run.case.table(name).time)
            past = time.is_null() | (time < moment)
            writer.add(name, rows.filter(past & (pl.col("arrived_at") < moment)))
        writer.fold()
        writer.commit()
    return ws


def everything(run: Run) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield every table of the finished workspace, whole."""
    lake = Lake(run.workspace.lake, run.case.tables)
    for table in run.case.tables:
        yield table.name, lake.scan(table.name).collect()
