"""On its own world, as params.yaml has it, a model is clearly above every heuristic, and below the truth. Minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.flows.edge import bind, perform
from pipelines.settings import Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]


def test_the_model_beats_every_heuristic(case_name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    run = bind(Project(tmp_path), case_name)
    for step in ("ingest", "features", "train"):
        perform(run, step)
    content = perform(run, "evaluate").content
    primary, sign = content["primary"], run.case.framing.sign(content["primary"])
    for heuristic in run.case.heuristics:
        gain = content["differences"][heuristic][primary]
        worst = min(sign * gain["low"], sign * gain["high"])
        assert worst > 0, f"{primary} over {heuristic}: {gain}"
    model, oracle = (content["scorers"][scorer][primary]["value"] for scorer in ("model", "oracle"))
    assert sign * oracle > sign * model
