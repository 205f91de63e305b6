"""DVC and the live loop share one registry: what each may do to the other's champion. Minutes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_project import CASE, tiny_section

from pipelines.flows.live import advance_world, seed_live
from pipelines.settings import Gate, Project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("two runners")]

ROOT = Path(__file__).resolve().parents[1]
# A gate that every model clears: what is tested is who may move the alias, not who is better.
GATE = Gate(
    resamples=100,
    minimum_units=1,
    heuristic_margin=-1,
    champion_margin=-1,
    slice_tolerance=9,
    guardrail_tolerance={"coverage_at_10": 9},
).model_dump()
FOREIGN = ("PREFECT_", "LOOP_", "MLFLOW_", "DVC_")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout with a tiny world, its own git and DVC, and one `dvc repro` behind it."""
    root = tmp_path_factory.mktemp("checkout") / "project"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (root / "dvc.lock").unlink(missing_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump({CASE: tiny_section(CASE)}))
    stages = yaml.safe_load((root / "dvc.yaml").read_text())
    stages["vars"] = [{"cases": [CASE]}]
    (root / "dvc.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    (root / "configs" / f"{CASE}.yaml").write_text(yaml.safe_dump({"gate": GATE, "limits": {}}))
    run(root, "git", "init", "--quiet")
    commit(root, "Start")
    run(root, "dvc", "repro")
    commit(root, "Run")
    return root


def test_a_repro_promotes_into_an_empty_registry(checkout: Path) -> None:
    (version,) = read(checkout)["versions"]
    assert version["origin"] == "runs"
    assert read(checkout)["aliases"] == {"champion": version["number"]}


def test_a_queued_experiment_moves_no_alias(checkout: Path) -> None:
    before = read(checkout)
    run(checkout, "dvc", "exp", "run", "--queue", "-S", f"{CASE}.train.learning_rate=0.2")
    run(checkout, "dvc", "exp", "run", "--run-all", "-j", "1")
    shown = run(checkout, "dvc", "queue", "status")
    assert "Success" in shown, shown
    after = read(checkout)
    assert after["aliases"] == before["aliases"]
    (new,) = [version for version in after["versions"] if version not in before["versions"]]
    assert new["decision"] == "passed"
    assert "no alias moves" in new["why"]
    assert "up to date" in run(checkout, "dvc", "status", "--no-updates", f"promote@{CASE}")


def test_a_repro_leaves_a_live_champion_alone(checkout: Path) -> None:
    seed_live(Project(checkout), CASE)
    advance_world(Project(checkout), CASE, 1)
    code = f"from pipelines.flows.retrain import retrain; print(retrain({CASE!r}, cause='a test'))"
    run(checkout, sys.executable, "-c", code)
    live = read(checkout)
    (champion,) = [each for each in live["versions"] if each["number"] == live["aliases"]["champion"]]
    assert champion["origin"] == "live"
    params = yaml.safe_load((checkout / "params.yaml").read_text())
    params[CASE]["train"]["learning_rate"] = 0.3
    (checkout / "params.yaml").write_text(yaml.safe_dump(params))
    run(checkout, "dvc", "repro")
    after = read(checkout)
    assert after["aliases"] == live["aliases"]
    (new,) = [version for version in after["versions"] if version not in live["versions"]]
    assert new["decision"] == "passed"
    assert "so it stays" in new["why"]


def test_a_wiped_registry_is_registered_into_again(checkout: Path) -> None:
    before = read(checkout)["versions"][0]["digest"]
    shutil.rmtree(checkout / "registry")
    output = run(checkout, "dvc", "repro")
    (version,) = read(checkout)["versions"]
    assert version["digest"] == before
    assert read(checkout)["aliases"] == {"champion": version["number"]}
    assert "loop step train" not in output


def read(root: Path) -> Any:
    """Read the registry in a process of its own: one that has its file open would not see it wiped."""
    code = """
import json
from pipelines.flows.edge import bind
from pipelines.settings import Project
tags = ("origin", "decision", "why")
registry = bind(Project.find(), "CASE").registry
versions = [
    {"number": each.number, "digest": each.digest} | {tag: each.tags.get(tag) for tag in tags}
    for each in registry.versions()
]
print("REGISTRY" + json.dumps({"aliases": registry.aliases(), "versions": versions}))
"""
    said = run(root, sys.executable, "-c", code.replace("CASE", CASE))
    return json.loads(said.partition("REGISTRY")[2].splitlines()[0])


def commit(root: Path, message: str) -> None:
    run(root, "git", "add", "--all")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run(root, "git", *identity, "commit", "--quiet", "--allow-empty", "-m", message)


def run(root: Path, name: str, *arguments: str) -> str:
    """Run a command in a checkout as a person would, and return what it said."""
    scripts = Path(sys.executable).parent
    own = {
        key: each
        for key, each in os.environ.items()
        if not key.startswith(("PREFECT_", "LOOP_", "MLFLOW_", "DVC_"))
    }
    ours = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),  # the copy's own code
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }
    done = subprocess.run([name, *arguments], cwd=root, env=own | ours, capture_output=True, text=True)
    assert done.returncode == 0, f"{name} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
