"""The production loop on real servers, and the two runners side by side, on a tiny real case. Minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from machine_help import free_port
from tiny_project import CASE, tiny_project

from pipelines.flows.edge import bind, perform
from pipelines.flows.live import advance_world
from pipelines.flows.prefect_server import answers
from pipelines.flows.services import Services, down, services, up
from pipelines.settings import Project
from pipelines.stores.files import folder_digest, read_json
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.xdist_group("end to end")]

BUILD = ("ingest", "features", "train", "evaluate", "promote")
DEPLOYMENT = CASE.replace("_", "-")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose runs/ holds a finished run, and whose registry its first version."""
    project = tiny_project(
        tmp_path_factory.mktemp("loop") / "project",
        gate={"resamples": 100, "minimum_units": 10},
        triggers={"new_labels": 1000},
        cadence={"watch": in_a_month(), "experiment": None},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for step in BUILD:
            perform(bind(project, CASE), step)
    return project


@pytest.fixture(scope="module")
def running(finished: Project) -> Iterator[Services]:
    """The same project with its services up."""
    try:
        yield up(finished, prefect_port=free_port(), mlflow_port=free_port(), say=print)
    finally:
        down(finished)


def test_watch_event_retrain_version_and_no_second_one(running: Services) -> None:
    """The world advances, actions mature, watch asks, the automation runs retrain, once."""
    from pipelines.flows.retrain_manifest import manifests

    project = running.project
    before = {version.number for version in versions(project)}
    advance_world(project, CASE, 2)
    prefect(project, "deployment", "run", f"watch/{DEPLOYMENT}")
    (retrained,) = wait_for(lambda: finished_runs(running, "retrain"), 600)
    assert retrained["state"]["type"] == "COMPLETED", retrained["state"]
    assert retrained["parameters"]["case"] == CASE
    (cause,) = read_json(project.root / "live" / CASE / "causes.json")
    assert "labels matured" in cause["words"]
    assert cause["sent"] and cause["taken"]
    assert (
        retrained["parameters"] | {"cause": cause["words"], "event": cause["id"]} == retrained["parameters"]
    )

    (new,) = [version for version in versions(project) if version.number not in before]
    assert new.tags["cause"] == cause["words"]
    assert new.tags["as_of"].startswith("2026-03-03")
    assert new.tags["decision"] in ("promoted", "rejected")
    assert new.tags["why"]

    (manifest,) = manifests(Workspace(project.root / "live" / CASE))
    listed = (project.root / "live" / CASE / "retrains" / "000001" / "actions.txt").read_text().split()
    assert manifest["version"] == new.number and manifest["cause"] == cause["words"]
    assert manifest["actions"] == len(listed) == len(set(listed)) > 0
    assert set(listed) == arrived_actions(project, manifest["since"], manifest["as_of"])

    kept = {each["key"]: str(each["data"]) for each in post(running, "artifacts", {})}
    assert cause["words"] in kept[f"{DEPLOYMENT}-version"]
    assert f"/runs/{new.run_id}" in kept[f"{DEPLOYMENT}-version"]
    assert "/artifacts/drift/2026-03-03/report.html" in kept[f"{DEPLOYMENT}-watch"]
    assert '"scorer": "model"' in kept[f"{DEPLOYMENT}-metrics"]

    prefect(project, "deployment", "run", f"watch/{DEPLOYMENT}")
    wait_for(lambda: len(finished_runs(running, "watch")) == 2, 600)
    time.sleep(15)  # an event takes three seconds to a flow run
    assert len(post(running, "flow_runs", {"flows": {"name": {"any_": ["retrain"]}}})) == 1


def test_a_repro_leaves_the_live_champion_alone(running: Services) -> None:
    """What runs/ promotes never replaces a champion that came from live/."""
    project = running.project
    registry = bind(project, CASE, live=True).registry
    with registry.lock():
        registry.crown(next(version for version in registry.versions() if version.origin == "live"))
    champion = registry.champion()
    perform(bind(project, CASE), "promote")
    assert registry.champion() == champion


def test_users_over_http_make_the_next_version(running: Services) -> None:
    """The champion answers, users act on what they are shown, and the automation learns a version from that."""
    from pipelines.flows.retrain_manifest import manifests

    project = running.project
    before = {version.number for version in versions(project)}
    with serving(project) as port:
        said = loop(project, "users", CASE, "--port", str(port), "--rate", "100", "--requests", "400")
    sent = int(said.partition(" actions acknowledged")[0].rpartition(" ")[2].replace(",", ""))
    assert sent > 0 and " 0 refused" in said
    loop(project, "clock", "advance", "2d", "--case", CASE)
    prefect(project, "deployment", "run", f"watch/{DEPLOYMENT}")
    wait_for(lambda: len(finished_runs(running, "retrain")) == 2, 600)
    (new,) = [version for version in versions(project) if version.number not in before]
    assert "labels matured" in new.tags["cause"]
    *_, manifest = manifests(Workspace(project.root / "live" / CASE))
    assert manifest["version"] == new.number
    *_, acted = sorted((project.root / "live" / CASE / "retrains").glob("*/actions.txt"))
    run = bind(project, CASE, live=True)
    lake = Lake(run.workspace.lake, run.case.tables)
    asked = lake.scan("requests").filter(pl.col("model_version").is_not_null())
    served = lake.scan("impressions").join(asked, on="request_id", how="semi")
    told = lake.scan("actions").filter(pl.col("action_id").is_in(acted.read_text().split()))
    assert told.join(served, on="impression_id", how="semi").collect().height == sent


def test_schedules_make_runs(running: Services) -> None:
    """SQLAlchemy 2.1 breaks the scheduler of Prefect 3.8 without a word to the user."""
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    found = wait_for(lambda: post(running, "flow_runs", scheduled), 120)
    assert {run["name"] for run in found}


def test_up_again_starts_nothing_and_down_stops_everything(running: Services) -> None:
    project = running.project
    before = {name: process.find() for name, process in running.processes().items()}
    said: list[str] = []
    again = up(project, say=said.append)
    assert again.api_url == running.api_url
    assert {name: process.find() for name, process in again.processes().items()} == before
    assert f"live/{CASE} is there" in said
    assert down(project) == ["worker", "mlflow", "prefect"]
    assert all(process is not None and not process.is_running() for process in before.values())
    assert not (project.root / "prefect.toml").exists()
    assert services(project).prefect_port == 4200


def test_both_runners_come_to_the_same_figures_and_bytes(finished: Project, tmp_path: Path) -> None:
    """Two empty workspaces, two empty registries: `loop step` in one, the build flow in the other."""
    flow = tiny_project(tmp_path / "flow", gate={"resamples": 100, "minimum_units": 10})
    code = f"from pipelines.flows.build import build; build({CASE!r})"
    own = {
        "LOOP_ROOT": str(flow.root),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    subprocess.run([sys.executable, "-c", code], cwd=flow.root, env=plain_environment() | own, check=True)
    cli = tiny_project(tmp_path / "cli", gate={"resamples": 100, "minimum_units": 10})
    for step in BUILD:
        loop(cli, "step", step, CASE)
    ours, theirs = flow.root / "live" / CASE, cli.root / "runs" / CASE
    assert read_json(ours / "evaluation" / "metrics.json") == read_json(
        theirs / "evaluation" / "metrics.json"
    )
    for part in ("features", "model", "evaluation"):
        assert folder_digest(ours / part) == folder_digest(theirs / part), part
    digests = [[version.digest for version in versions(project)] for project in (flow, cli)]
    assert digests[0] == digests[1] and len(digests[0]) == 1


@contextmanager
def serving(project: Project) -> Iterator[int]:
    """Run `loop serve` on a free port until the block ends."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "loop"), "serve", CASE, "--port", str(port)]
    with (project.root / "serve.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project.root, env=plain_environment(), stdout=log, stderr=log)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 120)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def arrived_actions(project: Project, since: str, until: str) -> set[str]:
    """List the ids of the lake's actions that arrived in [since, until)."""
    run = bind(project, CASE, live=True)
    rows = Lake(run.workspace.lake, run.case.tables).scan("actions").collect()
    between = pl.col("arrived_at").is_between(
        datetime.fromisoformat(since), datetime.fromisoformat(until), closed="left"
    )
    return set(rows.filter(between)["action_id"])


def versions(project: Project) -> list[Any]:
    found: list[Any] = bind(project, CASE).registry.versions()
    return found


def prefect(project: Project, *arguments: str) -> None:
    """Run a `prefect` command as a person would: in the project's folder, with nothing exported."""
    run(project, "prefect", *arguments)


def loop(project: Project, *arguments: str) -> str:
    return run(project, "loop", *arguments)


def run(project: Project, name: str, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / name), *arguments]
    done = subprocess.run(command, cwd=project.root, env=plain_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def plain_environment() -> dict[str, str]:
    """Return the environment without what the tests, or somebody's shell, set for the project."""
    ours = ("PREFECT_", "LOOP_", "MLFLOW_")
    return {key: each for key, each in os.environ.items() if not key.startswith(ours)}


def post(running: Services, what: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{running.api_url}/{what}/filter",
        data=json.dumps(content).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: list[dict[str, Any]] = json.load(response)
    return found


def in_a_month() -> str:
    """Write a schedule that the server plans runs for, and that no test lives to see."""
    day = datetime.now(UTC) + timedelta(days=28)
    return f"0 0 {day.day} {day.month} *"


def finished_runs(running: Services, flow: str) -> list[dict[str, Any]]:
    over = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    return post(running, "flow_runs", {"flows": {"name": {"any_": [flow]}}, "flow_runs": over})


def wait_for(look: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(1)
    return found
