"""What `loop up` asks of a Prefect server, over HTTP: without Prefect's second of imports."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from pipelines.errors import LoopError
from pipelines.stores.files import write_aside

_HEADER = "# Written by `loop up`, removed by `loop down`: where this project's Prefect server listens.\n"


def answers(url: str) -> bool:
    """Say whether a URL answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def worker_online(api_url: str, pool: str) -> bool:
    """Say whether a worker polls the pool."""
    online = {"workers": {"status": {"any_": ["ONLINE"]}}}
    try:
        return bool(_post(f"{api_url}/work_pools/{pool}/workers/filter", online))
    except OSError:
        return False


def bury_dead_runs(api_url: str) -> list[str]:
    """Record as crashed the flow runs whose process is gone, so that they hold no other run's place.

    A worker that was killed cannot say so itself. Return the names of the runs.
    """
    open_states = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    runs = _post(f"{api_url}/flow_runs/filter", {"flow_runs": open_states})
    dead = [run for run in runs if run["deployment_id"] and not _alive(run["infrastructure_pid"])]
    state = {"type": "CRASHED", "message": "Its process ended together with the worker."}
    for run in dead:
        _post(f"{api_url}/flow_runs/{run['id']}/set_state", {"state": state})
    return [run["name"] for run in dead]


def _alive(pid: str | None) -> bool:
    return bool(pid) and psutil.pid_exists(int(str(pid).rpartition(":")[2]))


def _post(url: str, content: Any) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=json.dumps(content).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def point_prefect(root: Path, api_url: str) -> None:
    """Let `prefect` commands in the project's folder find its server, unless the user keeps a file there."""
    path = root / "prefect.toml"
    if path.is_file() and not path.read_text().startswith(_HEADER):
        return
    home = json.dumps(str(root / ".prefect"))
    with write_aside(path) as aside:
        aside.write_text(f'{_HEADER}home = {home}\n\n[api]\nurl = "{api_url}"\n')


def forget_prefect(root: Path) -> None:
    """Remove what `point_prefect` wrote."""
    path = root / "prefect.toml"
    if path.is_file() and path.read_text().startswith(_HEADER):
        path.unlink()


def deploy(root: Path, env: Mapping[str, str]) -> None:
    """Deploy everything in the project's prefect.yaml; doing it again brings it up to date."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, env=dict(env), cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise LoopError(f"`prefect deploy --all` failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
