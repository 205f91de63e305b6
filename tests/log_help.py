"""Action logs for tests: in a file, and in a PostgreSQL database that is dropped afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

from pipelines.settings import SqliteLog
from pipelines.stores.action_log import ActionLog, open_action_log
from pipelines.stores.workspace import Workspace

SERVER = "postgresql://127.0.0.1:5432"


def file_log(workspace: Workspace) -> ActionLog:
    """Open the embedded profile's log."""
    return open_action_log(SqliteLog(), workspace)


@contextmanager
def scratch_database() -> Iterator[str]:
    """Make an empty database, and yield its URL; skip where no server answers."""
    name = f"loops_test_{uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=2)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL at {SERVER}: {error}")
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{SERVER}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
