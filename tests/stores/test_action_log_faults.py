"""The action log on a bad day: killed writers, full disks, servers that go away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from log_help import file_log, scratch_database
from machine_help import enlarge, mounted
from production_help import POSTGRES, wires
from tiny import tiny_tables

from pipelines.errors import LoopError
from pipelines.settings import PostgresLog, SqliteLog
from pipelines.stores.action_log import ActionLog, LogFull, open_action_log
from pipelines.stores.workspace import Workspace

ACTIONS = tiny_tables()["actions"]
CHILD = Path(__file__).with_name("log_writer.py")


# --- kill -9 --------------------------------------------------------------------------------------


def start(folder: Path, engine: str, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(folder), engine, str(seed)]
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill(child: subprocess.Popen[str], seconds: float) -> dict[str, int]:
    """Kill a writer some time after its first acknowledgement; return what it was told by then."""
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.kill()
    lines = (first + child.stdout.read()).splitlines()
    child.wait()
    child.stdout.close()
    return {name: int(offset) for name, offset in (line.split() for line in lines)}


def check(log: ActionLog, told: dict[str, int]) -> None:
    """Hold the log to what was acknowledged: all of it is there, at its offset, and nothing is half there."""
    found: dict[str, int] = {}
    for number, (offset, batch) in enumerate(log.read(), start=1):
        assert offset == number
        (name,) = batch.rows["id"].unique().to_list()
        assert batch.rows.height == int(name.rpartition("-")[2]), f"{name} is half there"
        found[name] = offset
    assert told
    assert told.items() <= found.items()


def kill_many(folder: Path, seeds: range, at_once: int = 4) -> None:
    """Kill writers of a file each, some at a time; then append to what they left."""
    for group in (seeds[first : first + at_once] for first in range(0, len(seeds), at_once)):
        children = [start(folder / str(seed), "sqlite", seed) for seed in group]
        for seed, child in zip(group, children, strict=True):
            told = kill(child, np.random.default_rng(seed).uniform(0, 0.2))
            with file_log(Workspace(folder / str(seed))) as log:
                check(log, told)
                end = log.end
                assert log.append("actions", ACTIONS) == end + 1, f"seed {seed}"


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    kill_many(tmp_path, range(10), at_once=5)


@pytest.mark.slow
def test_many_killed_writers_lose_nothing(tmp_path: Path) -> None:
    kill_many(tmp_path, range(100, 150))


def kill_side_by_side(folder: Path, engine: str, settings: SqliteLog | PostgresLog, seeds: range) -> None:
    """Kill writers of one log while others go on writing to it."""
    told: dict[str, int] = {}
    children = [start(folder / "tiny", engine, seed) for seed in seeds]
    for seed, child in zip(seeds, children, strict=True):
        told |= kill(child, np.random.default_rng(seed).uniform(0, 0.3))
    with open_action_log(settings, Workspace(folder / "tiny")) as log:
        check(log, told)


def test_killed_writers_of_one_file_disturb_nobody(tmp_path: Path) -> None:
    kill_side_by_side(tmp_path, "sqlite", SqliteLog(), range(3))


def test_killed_writers_of_one_database_disturb_nobody(tmp_path: Path) -> None:
    with scratch_database() as url:
        kill_side_by_side(tmp_path, url, PostgresLog(engine="postgres", url=url), range(3))


@pytest.mark.slow
def test_many_killed_writers_of_one_database_disturb_nobody(tmp_path: Path) -> None:
    for first in range(0, 48, 4):
        with scratch_database() as url:
            settings = PostgresLog(engine="postgres", url=url)
            kill_side_by_side(tmp_path / str(first), url, settings, range(first, first + 4))


# --- disk full ------------------------------------------------------------------------------------


def test_a_file_that_may_not_grow_is_full_until_it_may(tmp_path: Path) -> None:
    """A limit on the size of files stops SQLite in the middle of a write, as a quota does."""
    environment = {**os.environ, "LOG_ROOM": str(2**20)}
    command = [sys.executable, str(CHILD), str(tmp_path / "tiny"), "sqlite", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    *told, full, last = (line.split() for line in done.stdout.splitlines())
    assert full == ["full", str(len(told))]
    with file_log(Workspace(tmp_path / "tiny")) as log:
        check(log, {name: int(offset) for name, offset in [*told, last]})
        assert log.end == len(told) + 1, "what was refused is not there"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", 2) as disk:
        yield disk


def test_a_disk_that_really_fills_up(small_disk: Path) -> None:
    acknowledged = 0
    with file_log(Workspace(small_disk / "tiny")) as log:
        with pytest.raises(LogFull, match=r"is full: nothing of this was acknowledged; free some space"):
            while True:
                log.append("actions", ACTIONS)
                acknowledged += 1
        with pytest.raises(LogFull):
            log.append("actions", ACTIONS)
        assert len(list(log.read())) == acknowledged
        enlarge(small_disk, 16)
        assert log.append("actions", ACTIONS) == acknowledged + 1
    with file_log(Workspace(small_disk / "tiny")) as again:
        assert len(list(again.read())) == acknowledged + 1


def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with ballast.open("wb") as stream, pytest.raises(OSError, match="No space"):
        while True:
            stream.write(bytes(2**16))
            stream.flush()
    with file_log(Workspace(small_disk / "tiny")) as log:
        with pytest.raises(LogFull):
            log.append("actions", ACTIONS)
        ballast.unlink()
        assert log.append("actions", ACTIONS) == 1


# --- PostgreSQL goes away -------------------------------------------------------------------------


@pytest.fixture
def url() -> Iterator[str]:
    with scratch_database() as url:
        yield url


def opened(url: str, tmp_path: Path) -> ActionLog:
    return open_action_log(PostgresLog(engine="postgres", url=url), Workspace(tmp_path / "tiny"))


def terminate(url: str) -> int:
    """End the log's connections, as a restart of the server does; return how many there were."""
    with psycopg.connect(url, autocommit=True) as admin:
        found = admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'ml-loops' AND datname = current_database()"
        )
        return len(found.fetchall())


def test_a_connection_lost_between_appends_is_made_anew(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path) as log:
        assert log.append("actions", ACTIONS) == 1
        assert terminate(url) == 1
        assert log.append("actions", ACTIONS) == 2


def test_a_connection_lost_in_the_middle_is_made_anew(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path) as log, psycopg.connect(url) as other:
        log.append("actions", ACTIONS)
        other.execute("LOCK TABLE action_log IN EXCLUSIVE MODE")
        waiting = log.submit("actions", ACTIONS)
        time.sleep(0.2)
        assert not waiting.done()
        assert terminate(url) == 1
        other.rollback()
        assert waiting.result(timeout=10) == 2
        assert [offset for offset, _ in log.read()] == [1, 2]


def test_a_server_that_is_gone_is_told_at_once_and_found_again(url: str, tmp_path: Path) -> None:
    name = url.rpartition("/")[2]
    with wires(POSTGRES) as (wire,), opened(f"postgresql://127.0.0.1:{wire.port}/{name}", tmp_path) as log:
        assert log.append("actions", ACTIONS) == 1
        wire.set("cut")
        time.sleep(0.2)
        for ask in (lambda: log.append("actions", ACTIONS), lambda: log.end, lambda: list(log.read())):
            began = time.monotonic()
            with pytest.raises(
                LoopError, match=rf"127\.0\.0\.1:{wire.port}/{name}.*see that the server runs"
            ):
                ask()
            assert time.monotonic() - began < 10
        wire.set("up")
        assert log.append("actions", ACTIONS) == 2
        assert len(list(log.read())) == 2


def test_who_waits_for_a_lock_in_vain_is_told(url: str, tmp_path: Path) -> None:
    with opened(url, tmp_path) as log, psycopg.connect(url) as other:
        log.append("actions", ACTIONS)
        other.execute("LOCK TABLE action_log IN EXCLUSIVE MODE")
        log._engine._writer.execute("SET lock_timeout = '200ms'")  # type: ignore[attr-defined]
        with pytest.raises(LoopError, match="lock timeout"):
            log.append("actions", ACTIONS)
        other.rollback()
        assert log.append("actions", ACTIONS) == 2
