"""`loop up` and `loop down` without a server: ports, pids, settings."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from machine_help import free_port
from plant_help import Plant

from pipelines.errors import LoopError, UsageError
from pipelines.flows import services as module
from pipelines.flows.prefect_server import forget_prefect, point_prefect
from pipelines.flows.processes import Process, require_free
from pipelines.flows.services import down, services, up
from pipelines.stores.files import read_json, write_json

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = Process("sleeper", tmp_path / ".run")
    process.start(SLEEP, {}, tmp_path, port=1234)
    yield process
    process.stop()


@pytest.mark.parametrize("which", ["prefect", "mlflow"])
def test_a_taken_port_is_named_before_anything_starts(plant: Plant, taken: int, which: str) -> None:
    ports = {"prefect_port": free_port(), "mlflow_port": free_port()} | {f"{which}_port": taken}
    with pytest.raises(UsageError, match=rf"port {taken}.*loop up --{which}-port PORT"):
        up(plant.project, **ports)
    assert not list((plant.project.root / ".run").glob("*.json"))


def test_a_port_that_was_just_left_is_free() -> None:
    """The side that hangs up first leaves its port waiting: nobody listens there, and one may again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()
    require_free(port, "a test", "--port")


def test_two_services_cannot_share_a_port(plant: Plant) -> None:
    with pytest.raises(UsageError, match="cannot share port 7777"):
        services(plant.project, 7777, 7777)


def test_ports_come_from_the_profile_unless_asked(plant: Plant) -> None:
    (plant.project.root / "configs" / "embedded.yaml").write_text("ports: {prefect: 4444, mlflow: 5555}\n")
    fresh = type(plant.project)(plant.project.root)
    assert services(fresh, mlflow_port=6666).api_url == "http://127.0.0.1:4444/api"
    assert services(fresh, mlflow_port=6666).mlflow_url == "http://127.0.0.1:6666"


def test_running_services_keep_their_port(plant: Plant) -> None:
    process = Process("prefect", plant.project.root / ".run")
    process.start(SLEEP, {}, plant.project.root, port=4777)
    try:
        assert services(plant.project).prefect_port == 4777
        with pytest.raises(UsageError, match="already runs on port 4777"):
            services(plant.project, prefect_port=4888)
    finally:
        process.stop()


def test_a_service_that_dies_is_reported_with_its_log(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "answers", lambda url: False)
    monkeypatch.setattr(Process, "start", _start_broken)
    with pytest.raises(LoopError, match="cannot open the database"):
        up(plant.project, prefect_port=free_port(), mlflow_port=free_port())
    assert not list((plant.project.root / ".run").glob("*.json"))


_start = Process.start


def _start_broken(self: Process, command: object, env: dict[str, str], cwd: Path, **noted: object) -> None:
    broken = [sys.executable, "-c", "raise SystemExit('cannot open the database')"]
    _start(self, broken, env, cwd, **noted)


def test_a_process_is_found_again_and_stopped_with_its_children(tmp_path: Path) -> None:
    spawn = f"import subprocess, time; subprocess.Popen({SLEEP!r}); time.sleep(60)"
    process = Process("parent", tmp_path)
    process.start([sys.executable, "-c", spawn], {}, tmp_path)
    parent = Process("parent", tmp_path).find()
    assert parent is not None
    deadline = time.monotonic() + 20
    while not parent.children() and time.monotonic() < deadline:
        time.sleep(0.05)
    (child,) = parent.children()
    assert process.stop()
    assert not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE
    assert process.find() is None
    assert not process.stop()


def test_a_pid_that_another_process_took_is_left_alone(sleeper: Process) -> None:
    noted = read_json(sleeper.pid_file)
    other = Process("other", sleeper.folder)
    write_json(other.pid_file, {**noted, "started": noted["started"] - 60})
    assert other.find() is None
    assert not other.stop()
    assert sleeper.find() is not None


def test_down_stops_only_what_up_started(plant: Plant, sleeper: Process) -> None:
    said: list[str] = []
    assert down(plant.project, say=said.append) == []
    assert said == ["nothing was running"]
    assert sleeper.find() is not None


def test_the_environment_is_the_projects_own(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "secret")
    monkeypatch.setenv("PREFECT_API_URL", "https://elsewhere")
    env = services(plant.project).env
    assert "PREFECT_API_KEY" not in env
    assert env["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert env["PREFECT_HOME"] == str(plant.project.root / ".prefect")
    assert env["LOOP_ROOT"] == str(plant.project.root)


def test_prefect_commands_find_the_server_while_it_is_up(tmp_path: Path) -> None:
    point_prefect(tmp_path, "http://127.0.0.1:4200/api")
    assert 'url = "http://127.0.0.1:4200/api"' in (tmp_path / "prefect.toml").read_text()
    forget_prefect(tmp_path)
    assert not (tmp_path / "prefect.toml").exists()


def test_a_prefect_toml_of_the_users_own_is_kept(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").write_text("[logging]\n")
    point_prefect(tmp_path, "http://127.0.0.1:4200/api")
    forget_prefect(tmp_path)
    assert (tmp_path / "prefect.toml").read_text() == "[logging]\n"
