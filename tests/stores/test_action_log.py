"""The action log, in both engines: durable, ordered, read by watermark, shared by threads and processes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import polars as pl
import psycopg
import pytest
from log_help import file_log, scratch_database
from polars.testing import assert_frame_equal
from tiny import tiny_tables

from pipelines.case_study import Batch
from pipelines.errors import DataError, LoopError, UsageError
from pipelines.settings import Platform, PostgresLog, SqliteLog, parse
from pipelines.stores import action_log, action_log_commit
from pipelines.stores.action_log import ActionLog, LogBusy, open_action_log, require_unused
from pipelines.stores.action_log_postgres import PostgresEngine
from pipelines.stores.action_log_sqlite import SqliteEngine
from pipelines.stores.workspace import Workspace

ROWS = tiny_tables()
ACTIONS = ROWS["actions"]


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest) -> Iterator[SqliteLog | PostgresLog]:
    if request.param == "sqlite":
        yield SqliteLog()
        return
    with scratch_database() as url:
        yield PostgresLog(engine="postgres", url=url)


@pytest.fixture
def opened(settings: SqliteLog | PostgresLog, ws: Workspace) -> Iterator[Callable[[], ActionLog]]:
    """Open the one log as often as asked for; each has a connection of its own."""
    logs: list[ActionLog] = []

    def again() -> ActionLog:
        logs.append(open_action_log(settings, ws))
        return logs[-1]

    yield again
    for log in logs:
        log.close()


@pytest.fixture
def log(opened: Callable[[], ActionLog]) -> ActionLog:
    return opened()


@pytest.fixture
def file(ws: Workspace) -> Iterator[ActionLog]:
    with file_log(ws) as log:
        yield log


def ids(log: ActionLog, after: int = 0) -> list[str]:
    """List the ids of all actions, in the log's order."""
    return [name for _, batch in log.read(after) for name in batch.rows["action_id"]]


def held(ws: Workspace) -> sqlite3.Connection:
    """Hold the file as another process would that is in the middle of a write."""
    other = sqlite3.connect(ws.log / "actions.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_what_is_appended_is_read_in_order_after_the_watermark(opened: Callable[[], ActionLog]) -> None:
    log = opened()
    assert (log.end, list(log.read())) == (0, [])
    assert [log.append(table, rows) for table, rows in ROWS.items()] == [1, 2, 3, 4, 5]
    again = opened()
    found = list(again.read())
    assert [(offset, batch.table) for offset, batch in found] == list(enumerate(ROWS, start=1))
    for _, batch in found:
        assert_frame_equal(batch.rows, ROWS[batch.table])
    assert [offset for offset, _ in again.read(after=2)] == [3, 4, 5]
    assert list(again.read(after=5)) == []
    assert again.end == 5


def test_a_log_that_ends_before_the_watermark_is_not_taken_for_idle(log: ActionLog) -> None:
    with pytest.raises(DataError, match="ends at offset 0, but was read up to 1"):
        list(log.read(after=1))
    log.append("actions", ACTIONS)
    with pytest.raises(DataError, match=r"ends at offset 1, but was read up to 2.*remove lake/_watermarks"):
        list(log.read(after=2))


def test_nothing_appended_is_nothing(log: ActionLog) -> None:
    assert log.append("actions", ACTIONS.clear()) == 0
    log.append("actions", ACTIONS)
    assert log.append("actions", ACTIONS.clear()) == 1
    assert len(list(log.read())) == 1


def test_writers_at_once_lose_nothing_and_a_reader_misses_nothing(opened: Callable[[], ActionLog]) -> None:
    """Several connections append; who reads by watermark meanwhile sees every row once, in order."""
    logs = [opened() for _ in range(3)]
    reader, stop = opened(), threading.Event()
    seen: list[tuple[int, Batch]] = []

    def follow() -> None:
        while True:
            last = stop.is_set()
            seen.extend(reader.read(seen[-1][0] if seen else 0))
            if last:
                return

    def write(part: int) -> list[int]:
        rows = ACTIONS.head(1)
        return [
            logs[part % 3].append("actions", rows.with_columns(action_id=pl.lit(f"{part}-{number}")))
            for number in range(15)
        ]

    follower = threading.Thread(target=follow)
    follower.start()
    with ThreadPoolExecutor(9) as pool:
        told = [offset for offsets in pool.map(write, range(9)) for offset in offsets]
    stop.set()
    follower.join()
    assert sorted(told) == [offset for offset, _ in seen] == list(range(1, 136))
    found = [batch.rows["action_id"].item() for _, batch in seen]
    assert sorted(found) == sorted(f"{part}-{number}" for part in range(9) for number in range(15))
    for part in range(9):
        own = [name for name in found if name.startswith(f"{part}-")]
        assert own == [f"{part}-{number}" for number in range(15)], "one writer's rows stay in their order"


def test_coroutines_wait_without_holding_each_other_up(log: ActionLog) -> None:
    async def append(row: int) -> int:
        return await asyncio.wrap_future(log.submit("actions", ACTIONS.slice(row, 1)))

    async def many() -> list[int]:
        return await asyncio.gather(*map(append, range(12)))

    assert sorted(asyncio.run(many())) == list(range(1, 13))
    assert sorted(ids(log)) == sorted(ACTIONS["action_id"])


def test_parts_become_durable_together(log: ActionLog) -> None:
    first = log.submit_all(
        [("requests", ROWS["requests"]), ("actions", ACTIONS.clear()), ("users", ROWS["users"])]
    )
    assert first.result() == 2
    assert [batch.table for _, batch in log.read()] == ["requests", "users"]


def test_cases_in_one_database_do_not_meet(settings: SqliteLog | PostgresLog, tmp_path: Path) -> None:
    names = ("ad", "video")
    for number, name in enumerate(names):
        with open_action_log(settings, Workspace(tmp_path / name)) as log:
            log.append("actions", ACTIONS.slice(number, 1))
    for number, name in enumerate(names):
        with open_action_log(settings, Workspace(tmp_path / name)) as log:
            assert (log.end, ids(log)) == (1, [ACTIONS["action_id"][number]])


def test_a_large_append_is_split_and_stays_whole(log: ActionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_log, "_ENTRY_BYTES", 200)
    end = log.append("actions", ACTIONS)
    parts = list(log.read())
    assert len(parts) > 2
    assert parts[-1][0] == end
    assert_frame_equal(pl.concat(batch.rows for _, batch in parts), ACTIONS)


def test_a_simulated_day_is_one_row(file: ActionLog) -> None:
    day = pl.concat([ACTIONS] * (50_000 // ACTIONS.height))
    assert file.append("actions", day) == 1


def test_who_comes_during_a_commit_shares_the_next(file: ActionLog, ws: Workspace) -> None:
    file.append("actions", ACTIONS)
    other = held(ws)
    waiting = [file.submit("actions", ACTIONS.slice(row % 12, 1)) for row in range(50)]
    assert not wait(waiting, timeout=0.2).done
    other.execute("ROLLBACK")
    assert sorted(each.result() for each in waiting) == list(range(2, 52))
    commits = other.execute("SELECT count(DISTINCT received_at) FROM action_log").fetchone()[0]
    other.close()
    assert commits <= 3


def test_who_gives_up_waiting_is_left_out(file: ActionLog, ws: Workspace) -> None:
    file.append("actions", ACTIONS.slice(0, 1))
    other = held(ws)
    first = file.submit("actions", ACTIONS.slice(1, 1))
    while not first.running():
        pass
    second, third = (file.submit("actions", ACTIONS.slice(row, 1)) for row in (2, 3))
    assert second.cancel()
    assert not first.cancel()
    other.execute("ROLLBACK")
    other.close()
    assert (first.result(), third.result()) == (2, 3)
    with pytest.raises(CancelledError):
        second.result()
    assert ids(file) == [ACTIONS["action_id"][row] for row in (0, 1, 3)]


def test_more_than_memory_should_hold_is_refused(
    file: ActionLog, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_log_commit, "_WAITING_BYTES", 10_000)
    file.append("actions", ACTIONS)
    other = held(ws)
    taken: list[Future[int]] = []
    with pytest.raises(LogBusy, match="in a moment"):
        taken.extend(file.submit("actions", ACTIONS) for _ in range(100))
    other.execute("ROLLBACK")
    other.close()
    assert 2 < len(taken) < 20
    assert max(each.result() for each in taken) == len(taken) + 1


def test_nobody_queues_behind_a_database_that_is_silent(
    file: ActionLog, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.append("actions", ACTIONS)
    other = held(ws)
    first = file.submit("actions", ACTIONS)
    while not first.running():
        pass
    second, third = (file.submit("actions", ACTIONS) for _ in range(2))
    assert not third.done(), "a commit may take its time"
    monkeypatch.setattr(action_log_commit, "_PATIENCE", 0.0)
    with pytest.raises(LogBusy, match="silent"):
        file.submit("actions", ACTIONS)
    assert second.cancel() and third.cancel(), "they waited long enough"
    fourth = file.submit("actions", ACTIONS)  # who finds out whether it is back
    with pytest.raises(LogBusy, match="silent"):
        file.submit("actions", ACTIONS)
    other.execute("ROLLBACK")
    other.close()
    assert (first.result(), fourth.result()) == (2, 3)
    monkeypatch.undo()
    assert file.append("actions", ACTIONS) == 4


def test_a_new_workspace_does_not_inherit_the_log_of_an_earlier_one(
    settings: SqliteLog | PostgresLog, tmp_path: Path
) -> None:
    """In PostgreSQL the rows outlive the folder, and would all be taken for its own."""
    before, other = Workspace(tmp_path / "live" / "shop"), Workspace(tmp_path / "live" / "cafe")
    with open_action_log(settings, before) as log:
        log.append("actions", ACTIONS)
    require_unused(settings, other)
    with pytest.raises(
        UsageError, match=r"1 rows of an earlier shop.*DELETE FROM action_log WHERE case_name = 'shop'"
    ):
        require_unused(settings, before)


def test_closing_commits_what_waits_and_takes_no_more(file: ActionLog, ws: Workspace) -> None:
    last = file.submit("actions", ACTIONS)
    file.close()
    assert last.result(timeout=0) == 1
    with pytest.raises(LoopError, match="is closed"):
        file.append("actions", ACTIONS)
    assert {path.name for path in ws.log.iterdir()} == {".lock", "actions.db"}


def test_a_file_removed_under_the_writer_is_made_anew(file: ActionLog, ws: Workspace) -> None:
    file.append("actions", ACTIONS.slice(0, 1))
    for path in ws.log.glob("actions.db*"):
        path.unlink()
    file.append("actions", ACTIONS.slice(1, 1))
    with file_log(ws) as again:
        assert ids(again) == [ACTIONS["action_id"][1]]


def test_a_spoiled_row_is_named(file: ActionLog, ws: Workspace) -> None:
    for row in range(2):
        file.append("actions", ACTIONS.slice(row, 1))
    with closing(sqlite3.connect(ws.log / "actions.db")) as other, other:
        other.execute('UPDATE action_log SET payload = substr(payload, 1, 50) WHERE "offset" = 2')
    with pytest.raises(DataError, match=r"log/000000000002-actions cannot be read.*offset 2"):
        list(file.read())


def test_a_spoiled_file_is_named(file: ActionLog, ws: Workspace) -> None:
    file.append("actions", ACTIONS)
    file.close()
    (ws.log / "actions.db").write_bytes(b"no database" * 1000)
    with file_log(ws) as again, pytest.raises(DataError, match=r"actions\.db is spoiled"):
        again.append("actions", ACTIONS)


def test_the_disk_is_told_of_every_commit(ws: Workspace) -> None:
    """Both settings of durability, as the connection that writes has them."""
    with closing(SqliteEngine(ws.log / "actions.db", "tiny")) as engine:
        connection = engine._writing()
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_postgres_commits_synchronously_whatever_the_server_does() -> None:
    with scratch_database() as url:
        with psycopg.connect(url, autocommit=True) as admin:
            name = url.rpartition("/")[2]
            admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        with closing(PostgresEngine(url, "tiny")._connect()) as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"engine": "sqllite"}, "sqlite"),
        ({"engine": "postgres"}, "url"),
        ({"engine": "postgres", "url": "mysql://x"}, "url"),
        ({"engine": "sqlite", "url": "x"}, "url"),
    ],
)
def test_wrong_settings_are_named(content: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=f"action_log.*{problem}"):
        parse(Platform, {"action_log": content}, "configs/x.yaml")
