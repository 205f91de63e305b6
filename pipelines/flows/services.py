"""`loop up` and `loop down`: Prefect's server, one worker and MLflow's UI, all on loopback.

Everything they write stays in the project: `.prefect/` (database, settings), `.run/` (pids and logs),
and, while they run, a `prefect.toml` that lets plain `prefect` commands find the server.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines import catalog
from pipelines.errors import LoopError, UsageError
from pipelines.flows.deployments import POOL, PREFECT_YAML
from pipelines.flows.live import seed_live
from pipelines.flows.prefect_server import (
    answers,
    bury_dead_runs,
    deploy,
    forget_prefect,
    point_prefect,
    worker_online,
)
from pipelines.flows.processes import Process, require_free
from pipelines.settings import Project
from pipelines.stores.postgres import require_database

Say = Callable[[str], None]


@dataclass(frozen=True)
class Services:
    """The addresses of a project's services."""

    project: Project
    prefect_port: int
    mlflow_port: int

    @property
    def folder(self) -> Path:
        return self.project.root / ".run"

    @property
    def prefect_url(self) -> str:
        return f"http://127.0.0.1:{self.prefect_port}"

    @property
    def api_url(self) -> str:
        return f"{self.prefect_url}/api"

    @property
    def mlflow_url(self) -> str:
        """MLflow's UI: ours on loopback, or the server that the profile names."""
        uri = self.project.tracking_uri
        return uri if uri.startswith("http") else f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def own_mlflow(self) -> bool:
        return not self.project.tracking_uri.startswith("http")

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process: this project's Prefect, nothing global, no telemetry."""
        scripts = str(Path(sys.executable).parent)
        ours = {
            "PATH": scripts + os.pathsep + os.environ.get("PATH", ""),
            "LOOP_ROOT": str(self.project.root),
            "LOOP_PROFILE": self.project.profile,
            "LOOP_MLFLOW_URL": self.mlflow_url,
            "PREFECT_HOME": str(self.project.root / ".prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_UI_API_URL": self.api_url,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            # In files, so that a restarted server still knows the places of runs that died with the old one.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        foreign = {"PREFECT_PROFILE", "PREFECT_API_KEY", "PREFECT_PROFILES_PATH", "PYTHONDONTWRITEBYTECODE"}
        database = self.project.platform.prefect.database
        if database is not None:
            ours["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        return {key: value for key, value in os.environ.items() if key not in foreign} | ours

    def processes(self) -> Mapping[str, Process]:
        """Name the processes in the order in which they start."""
        names = ["prefect", *(["mlflow"] if self.own_mlflow else []), "worker"]
        return {name: Process(name, self.folder) for name in names}


def services(project: Project, prefect_port: int | None = None, mlflow_port: int | None = None) -> Services:
    """Say where the services listen: as started, else as asked, else as the profile sets."""
    ports = {"prefect": project.platform.ports.prefect, "mlflow": project.platform.ports.mlflow}
    for name, asked in (("prefect", prefect_port), ("mlflow", mlflow_port)):
        process = Process(name, project.root / ".run")
        started = process.note().get("port") if process.find() else None
        if started and asked and started != asked:
            raise UsageError(
                f"{name} already runs on port {started}: `loop down` first, then choose port {asked}"
            )
        ports[name] = int(str(started)) if started else asked or ports[name]
    if ports["prefect"] == ports["mlflow"]:
        raise UsageError(
            f"Prefect and MLflow cannot share port {ports['prefect']}: choose another for one of them"
        )
    return Services(project, ports["prefect"], ports["mlflow"])


def up(
    project: Project,
    *,
    prefect_port: int | None = None,
    mlflow_port: int | None = None,
    cases: Iterable[str] | None = None,
    say: Say = lambda text: None,
    patience: float = 120.0,
) -> Services:
    """Start what is not running yet, wait until it is healthy, deploy the flows, seed the live workspaces.

    Raises:
        UsageError: a port is taken, or another one was asked for than the running services have.
        LoopError: a service does not come up; the message ends with its log.
    """
    found = services(project, prefect_port, mlflow_port)
    with _alone(found.folder):
        processes = found.processes()
        missing = [name for name, process in processes.items() if process.find() is None]
        if "prefect" in missing:
            require_free(found.prefect_port, "Prefect's server", "--prefect-port")
        if "mlflow" in missing:
            require_free(found.mlflow_port, "MLflow's UI", "--mlflow-port")
        if "prefect" in missing and (database := project.platform.prefect.database):
            require_database(database, "Prefect's database")
        try:
            _start(found, processes, missing, say, patience)
        except BaseException:
            for name in reversed(missing):
                processes[name].stop()
            raise
        point_prefect(project.root, found.api_url)
        say(f"deploying {PREFECT_YAML} ...")
        deploy(project.root, found.env)
        _seed(project, catalog.names() if cases is None else cases, say)
    return found


def down(project: Project, *, say: Say = lambda text: None) -> list[str]:
    """Stop what `up` started, and nothing else; return the names of what was running."""
    folder = project.root / ".run"
    stopped: list[str] = []
    if folder.is_dir():
        with _alone(folder):
            for name in ("worker", "mlflow", "prefect"):
                process = Process(name, folder)
                if name == "prefect" and process.find():
                    bury_dead_runs(services(project).api_url)
                if process.stop():
                    stopped.append(name)
                    say(f"{name} stopped")
    forget_prefect(project.root)
    if not stopped:
        say("nothing was running")
    return stopped


def _alone(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise LoopError(
            f"another `loop up` or `loop down` is at work in {folder.parent}: wait for it"
        ) from None


def _start(
    found: Services, processes: Mapping[str, Process], missing: list[str], say: Say, patience: float
) -> None:
    python = [sys.executable, "-m"]
    host = ["--host", "127.0.0.1", "--port"]
    if "mlflow" in missing:
        from pipelines.stores.registry import store_identity

        store_identity(
            found.project.tracking_uri
        )  # creates or upgrades the store once, before anything parallel
    commands = {
        "prefect": [*python, "prefect", "server", "start", *host, str(found.prefect_port)],
        "mlflow": [
            *[*python, "mlflow", "server", *host, str(found.mlflow_port), "--workers", "1"],
            *["--backend-store-uri", found.project.tracking_uri],
            *["--default-artifact-root", found.project.artifact_root],
        ],
        "worker": [
            *[*python, "prefect", "worker", "start", "--pool", POOL, "--type", "process"],
            *["--name", "loop", "--limit", str(os.cpu_count() or 1)],
        ],
    }
    ports = {"prefect": found.prefect_port, "mlflow": found.mlflow_port}
    healthy: dict[str, Callable[[], bool]] = {
        "prefect": lambda: answers(f"{found.api_url}/health"),
        "mlflow": lambda: answers(f"http://127.0.0.1:{found.mlflow_port}/health"),
        "worker": lambda: worker_online(found.api_url, POOL),
    }
    for names in (["prefect", "mlflow"], ["worker"]):
        todo = [name for name in names if name in missing]
        if todo == ["worker"]:
            bury_dead_runs(found.api_url)
        for name in todo:
            noted = {"port": ports[name]} if name in ports else {}
            processes[name].start(commands[name], found.env, found.project.root, **noted)
        for name in todo:
            say(f"{name} starting ... (log: {processes[name].log})")
            _wait(processes[name], healthy[name], patience)
            say(f"{name} is up")
    for name in processes.keys() - set(missing):
        say(f"{name} was running already")


def _wait(process: Process, healthy: Callable[[], bool], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not healthy():
        if process.find() is None:
            raise process.died()
        if time.monotonic() > deadline:
            raise LoopError(
                f"{process.name} did not answer within {patience:.0f} s; the end of {process.log}:\n"
                + process.last_words()
            )
        time.sleep(0.2)


def _seed(project: Project, names: Iterable[str], say: Say) -> None:
    refused = []
    for name in names:
        if (
            not (project.root / "runs" / name / "model").is_dir()
            and not (project.root / "live" / name).exists()
        ):
            say(
                f"live/{name} is not seeded: there is no finished run of it yet (`make demo`, or `loop seed`)"
            )
            continue
        try:
            seeded = seed_live(project, name)
            say(f"live/{name} seeded from runs/{name}" if seeded else f"live/{name} is there")
        except LoopError as error:
            refused.append(f"live/{name} is not seeded: {error}")
    if refused:
        raise LoopError("the services are up, but " + "; ".join(refused))
