"""Where `make demo` spends its time beside the steps themselves: start-up, libraries, DVC.

    python benchmarks/demo_overhead.py [CASE ... | --all]

Clones the checkout, runs `dvc repro` for one case after another (by default the first alone), then the same step
functions in one process that has all libraries loaded (bare). Prints a line a case; goal: at most 30 s over the bare
steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOAL = 30.0
BARE = """
import json, sys, time
import evidently, evidently.presets, lightgbm, matplotlib.pyplot, mlflow, scipy.stats, torch
from pipelines.stores.feast_import import import_feast
import_feast()
from pipelines.flows.edge import bind, perform
from pipelines.settings import Project
run = bind(Project.find(), sys.argv[1])
spent = {}
for step in ("ingest", "features", "train", "evaluate", "promote", "monitor"):
    started = time.perf_counter()
    perform(run, step)
    spent[step] = time.perf_counter() - started
print(json.dumps(spent))
"""
START = "from pipelines.flows.edge import bind; from pipelines.settings import Project; bind(Project.find(), '{}')"
LIBRARIES = {
    "Feast": "from pipelines.stores.feast_import import import_feast; import_feast()",
    "MLflow": "import mlflow",
    "Evidently": "import evidently, evidently.presets",
    "torch": "import torch",
}


def main() -> None:
    every = sorted(path.parent.name for path in ROOT.glob("pipelines/cases/*/case.py"))
    cases = every if sys.argv[1:] == ["--all"] else sys.argv[1:] or every[:1]
    print(
        f"{'case':24}{'dvc repro':>10}{'bare':>8}{'over':>8}{'  start-up':>10}{'libraries':>11}{'DVC':>7}  goal"
    )
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            measure(case, Path(folder) / "project")
    imports = {name: timed([sys.executable, "-c", code], ROOT)[0] for name, code in LIBRARIES.items()}
    bare = timed([sys.executable, "-c", "pass"], ROOT)[0]
    print(
        "one import, each in a process of its own: "
        + ", ".join(f"{n} {s - bare:.1f} s" for n, s in imports.items())
    )


def measure(case: str, project: Path) -> None:
    """Print one case's line; the steps of other cases are not run."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    dvc = str(Path(sys.executable).with_name("dvc"))
    whole, _ = timed([dvc, "repro", "--quiet", f"promote@{case}", f"monitor@{case}"], project)
    steps = json.loads((project / "runs" / case / "seconds.json").read_text())
    start = min(timed([sys.executable, "-c", START.format(case)], project)[0] for _ in range(3))
    subprocess.run(["rm", "-rf", "runs", "registry"], cwd=project, check=True)
    (project / "registry").mkdir()
    bare = json.loads(timed([sys.executable, "-c", BARE, case], project)[1].splitlines()[-1])
    inside, alone, starts = sum(steps.values()), sum(bare.values()), start * len(steps)
    over, rest = whole - alone, whole - inside - starts
    verdict = "met" if over <= GOAL else f"missed by {over - GOAL:.0f} s"
    print(
        f"{case:24}{whole:10.1f}{alone:8.1f}{over:8.1f}{starts:10.1f}{inside - alone:11.1f}{rest:7.1f}  {verdict}"
    )


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command in a project; return its seconds and what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "LOOP_ROOT": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started, done.stdout


if __name__ == "__main__":
    main()
