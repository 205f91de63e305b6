"""A real case as a project of its own, small enough to run from end to end in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipelines import catalog
from pipelines.flows.deployments import PREFECT_YAML, render_prefect
from pipelines.settings import Project

CASE = "video_recommendation"
# A test that crosses the full hour must not find runs in its server that it did not ask for.
NEVER = {"build": None, "watch": None, "retrain": None, "experiment": None}


def tiny_section(case: str) -> dict[str, Any]:
    """Read `tests/cases/<case>/tiny.yaml`: the case's section of params.yaml in small."""
    path = Path(__file__).parent / "cases" / case / "tiny.yaml"
    assert path.is_file(), f"{path} does not exist: give the case a tiny world (docs/how-to/add-a-case.md)"
    section: dict[str, Any] = yaml.safe_load(path.read_text())
    return section


def tiny_project(root: Path, case: str = CASE, **config: Any) -> Project:
    """Write a project of one case; `config` goes to the case's own."""
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "embedded.yaml").write_text("")
    for name in catalog.names():
        own = {"gate": {"resamples": 100}} | config if name == case else {}
        (root / "configs" / f"{name}.yaml").write_text(yaml.safe_dump({"cadence": NEVER} | own))
    (root / "params.yaml").write_text(yaml.safe_dump({case: tiny_section(case)}))
    project = Project(root)
    (root / PREFECT_YAML).write_text(render_prefect(project))
    return project
