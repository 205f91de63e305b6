"""The production profile for tests: databases and Redis keys that are dropped afterwards, and wires that can be cut."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from log_help import SERVER

from pipelines.settings import Platform, Project

POSTGRES, REDIS = ("127.0.0.1", 5432), ("127.0.0.1", 6379)
PARTS = ("", "_feast", "_mlflow", "_prefect")
HERE = Path(__file__).parents[1]


@contextmanager
def databases() -> Iterator[str]:
    """Make the databases of one checkout, and yield the first one's name; skip where no server answers."""
    name = f"loops_test_{uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=2)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {SERVER}: {error}")
    with admin:
        for part in PARTS:
            admin.execute(f"CREATE DATABASE {name}{part}")
        try:
            yield name
        finally:
            for part in PARTS:
                admin.execute(f"DROP DATABASE IF EXISTS {name}{part} WITH (FORCE)")


@contextmanager
def redis_keys(root: Path) -> Iterator[redis.Redis]:
    """Yield a client; afterwards delete the keys of the workspaces under `root`. Skip where no server answers."""
    client = redis.Redis(*REDIS, socket_connect_timeout=2)
    try:
        client.ping()
    except redis.ConnectionError as error:
        pytest.skip(f"no Redis at {REDIS}: {error}")
    with closing(client):
        try:
            yield client
        finally:
            for path in root.glob("**/online/id"):
                keys = list(client.scan_iter(f"*{path.read_text()}", count=10_000))
                if keys:
                    client.delete(*keys)


def redis_platform() -> Platform:
    """Return the embedded profile, but for Redis online, as the production profile has it."""
    online = Project(HERE, "production").platform.feast.online_store
    embedded = Platform()
    return embedded.model_copy(update={"feast": embedded.feast.model_copy(update={"online_store": online})})


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables, and nothing of a user's own that would point elsewhere."""
    foreign = [
        name for name in os.environ if name.startswith(("PG", "REDIS_", "MLFLOW_TRACKING", "LOOP_", "AWS_"))
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in foreign:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def use_production(project: Project) -> Project:
    """Give a test's project the production profile of this checkout."""
    shutil.copy(HERE / "configs" / "production.yaml", project.root / "configs")
    return Project(project.root, "production")


class Wire:
    """A port of loopback that leads to a server, and can be cut, left hanging and restored.

    `up` forwards; `cut` closes what is connected and takes nothing; `hung` keeps every connection, and is silent.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.02)
        self._over = False
        self._state = "up"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def set(self, state: str) -> None:
        """Change to `up`, `cut` or `hung`."""
        assert state in ("up", "cut", "hung")
        self._state = state

    def close(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()
        self._server.close()

    def _accept(self) -> None:
        while not self._over:
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            if self._state == "cut":
                client.close()
                continue
            behind = socket.create_connection(self._target)
            for pair in ((client, behind), (behind, client)):
                self._threads.append(threading.Thread(target=self._forward, args=pair, daemon=True))
                self._threads[-1].start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        one.settimeout(0.02)
        with one, other:
            while self._passes():
                try:
                    data = one.recv(65536)
                    if not data or not self._passes():
                        return
                    other.sendall(data)
                except TimeoutError:
                    continue
                except OSError:
                    return

    def _passes(self) -> bool:
        """Wait while the wire hangs; say whether it leads on."""
        while self._state == "hung" and not self._over:
            time.sleep(0.01)
        return self._state == "up" and not self._over


@contextmanager
def wires(*targets: tuple[str, int]) -> Iterator[list[Wire]]:
    """Lay a wire to each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Wire(target))) for target in targets]
