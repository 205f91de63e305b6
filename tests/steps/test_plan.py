"""dvc.yaml is held to the plan: the same steps, in an order that their inputs allow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines import catalog
from pipelines.steps.plan import STEPS

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
WORKSPACE = "runs/${item.case}/"


def folders(entries: list) -> set[str]:
    """List the workspace folders among a stage's deps or outs."""
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return {path.removeprefix(WORKSPACE).split("/")[0] for path in paths if path.startswith(WORKSPACE)}


def test_every_step_is_a_stage_and_every_stage_a_step() -> None:
    assert [name for name in STAGES if name != "registry"] == [step.name for step in STEPS]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_stage_reads_and_writes_what_the_plan_says(step) -> None:
    stage = STAGES[step.name]
    assert set(step.inputs) <= folders(stage["deps"]), f"{step.name} must depend on all it reads"
    assert set(step.outputs) <= folders(stage.get("outs", [])), f"{step.name} must own all it writes"
    assert stage["cmd"] == f"loop step {step.name} ${{item.case}}"


def test_no_step_reads_what_a_later_one_writes() -> None:
    written: set[str] = set()
    for step in STEPS:
        assert set(step.inputs) <= written, f"{step.name} reads before it is written"
        written |= set(step.outputs)


def test_dvc_runs_every_case() -> None:
    cases = yaml.safe_load((ROOT / "dvc.yaml").read_text())["vars"][0]["cases"]
    assert sorted(cases) == catalog.names()
