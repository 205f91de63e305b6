"""What is told where a PostgreSQL database, or its server, is not there."""

from __future__ import annotations

import psycopg
import pytest
from log_help import SERVER, scratch_database
from tiny import tiny_tables

from pipelines.errors import LoopError, UsageError
from pipelines.settings import PostgresLog
from pipelines.stores.action_log import open_action_log
from pipelines.stores.postgres import _LOCK, is_postgres, making_tables, place, require_database
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

MISSING = "loops_test_that_nobody_made"


@pytest.fixture(scope="module", autouse=True)
def server() -> None:
    with scratch_database() as url:  # which skips where no server answers
        require_database(url, "a test")


@pytest.mark.parametrize("driver", ["", "+psycopg", "+asyncpg"])
def test_a_missing_database_names_the_command_that_makes_it(driver: str) -> None:
    url = f"postgresql{driver}://127.0.0.1:5432/{MISSING}?ssl=prefer"
    if driver != "+asyncpg":
        url = url.partition("?")[0]
    with pytest.raises(UsageError, match=rf"the store: .*createdb -h 127\.0\.0\.1 -p 5432 {MISSING}$"):
        require_database(url, "the store")


def test_every_store_names_it(ws: Workspace) -> None:
    url = f"{SERVER}/{MISSING}"
    log = open_action_log(PostgresLog(engine="postgres", url=url), ws)
    with log, pytest.raises(LoopError, match=f"createdb .*{MISSING}$"):
        log.append("actions", tiny_tables()["actions"])
    with pytest.raises(LoopError, match=f"createdb .*{MISSING}$"):
        Registry(url.replace("postgresql", "postgresql+psycopg"), "artifacts", "tiny").champion()


def test_a_server_that_is_gone_is_told_without_the_password() -> None:
    with pytest.raises(LoopError, match=r"127\.0\.0\.1:1/loops\) cannot be reached") as told:
        require_database("postgresql://me:secret@127.0.0.1:1/loops", "the store")
    assert "secret" not in str(told.value)
    assert "PGHOST" in str(told.value)


def test_one_process_at_a_time_makes_tables() -> None:
    ask = "SELECT pg_try_advisory_lock(%s, 0)"
    with scratch_database() as url, psycopg.connect(url) as other:
        with making_tables(url, "a test"):
            assert other.execute(ask, (_LOCK,)).fetchone() == (False,)
        assert other.execute(ask, (_LOCK,)).fetchone() == (True,)


def test_a_place_says_nothing_of_a_user() -> None:
    assert is_postgres("postgres://x/y") and not is_postgres("sqlite:///x")
    assert place("postgresql+psycopg://me:secret@host/name?sslmode=disable") == "host:5432/name"
