"""A stage of dvc.yaml depends on all the code that its step imports, so that `dvc repro` never keeps stale data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipelines import catalog
from pipelines.steps.plan import STEPS

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ROOMS = ("cases", "learning", "steps", "stores", "world")
# What a step uses of a case, where that is not `case.py` alone. (What ingest takes of `case.py` are its tables and
# `contributions`; that the whole folder is its dep covers those too.)
USED = {"ingest": ("tables", "world"), "features": ("features", "tables"), "evaluate": ("case", "world")}


def files(module: str) -> list[Path]:
    """List the file of a module, where the name is one."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return [path] if path.is_file() else []


def imports(path: Path) -> Iterator[Path]:
    """Find the files that a file of the platform imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: import by the whole name"
            names = [str(node.module), *(f"{node.module}.{each.name}" for each in node.names)]
        else:
            continue
        for name in names:
            yield from files(name) if name.startswith("pipelines.") else ()


def needed(step: str, case: str) -> set[Path]:
    """Follow the imports of a step, and of what it uses of a case, through the rooms that make results."""
    used = [f"pipelines.cases.{case}.{name}" for name in USED.get(step, ("case",))]
    waiting = [path for module in (f"pipelines.steps.{step}", *used) for path in files(module)]
    found: set[Path] = set()
    while waiting:
        if (path := waiting.pop()) not in found:
            found.add(path)
            waiting.extend(imports(path))
    return {path.relative_to(ROOT) for path in found if path.relative_to(ROOT).parts[1] in ROOMS}


@pytest.mark.parametrize("case", catalog.names())
@pytest.mark.parametrize("step", [step.name for step in STEPS])
def test_a_stage_depends_on_all_that_its_step_imports(step: str, case: str) -> None:
    deps = {Path(str(each).replace("${item.case}", case)) for each in STAGES[step]["deps"]}
    free = sorted(str(path) for path in needed(step, case) if not deps & {path, *path.parents})
    assert not free, (
        f"stage `{step}` of dvc.yaml would keep what it has when these change: add them to its deps, or "
        f"let {case}'s {', '.join(USED.get(step, ('case',)))} import less"
    )


@pytest.mark.parametrize("step", [step.name for step in STEPS if "features" in (*step.inputs, step.name)])
def test_a_stage_that_asks_feast_depends_on_the_declarations(step: str) -> None:
    assert "feature_repo" in STAGES[step]["deps"]


def test_a_world_in_several_files_is_followed() -> None:
    found = {path.name for path in needed("ingest", "harmful_content")}
    assert {"world.py", "population.py", "language.py", "streams.py", "lake.py", "log_batches.py"} <= found
