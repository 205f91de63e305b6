"""Measure the action log: acknowledged durable actions a second on one core, beside raw group commit.

    python benchmarks/action_log.py [--seconds 2] [--repeats 3]

64 threads append 100 actions, or one, and wait for each acknowledgement. Beside them stands what one loop
commits that serves nobody, from values made beforehand, in transactions as large (what 64 clients send) and
as durable, on the same disk:
  rows       the actions as rows of a table, one each: raw group commit
  payloads   the log's own payloads, encoded beforehand: what the engine could do at most
Each figure is the best of the repeats, which take turns. SQLite: WAL, synchronous=FULL, an fsync a commit;
executemany. PostgreSQL: synchronous_commit=on, where one answers; COPY; its server works on whatever core is
free, only the client is held to one.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import polars as pl

from pipelines.settings import PostgresLog, SqliteLog
from pipelines.stores.action_log import ActionLog, open_action_log
from pipelines.stores.workspace import Workspace

CLIENTS = 64
SERVER = "postgresql://127.0.0.1:5432"
PAYLOADS = "c text, t text, at int8, n int4, payload bytea"
ROWS = (
    "arrived_at int8, action_id text, impression_id text, action text, value float8, action_time int8,"
    " user_id text, video_id text"
)
Settings = SqliteLog | PostgresLog
Commit = Callable[[Sequence[tuple[Any, ...]]], None]


def actions(rows: int) -> pl.DataFrame:
    """Make actions as a service would log them."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    return pl.DataFrame(
        {
            "arrived_at": [now] * rows,
            "action_id": [f"a{number:08d}" for number in range(rows)],
            "impression_id": [f"{number * 2654435761 % 2**32:032x}-{number % 20}" for number in range(rows)],
            "action": ["click"] * rows,
            "value": [1.0] * rows,
            "action_time": [now] * rows,
            "user_id": [f"u{number * 7919 % 100_000}" for number in range(rows)],
            "video_id": [f"v{number * 104_729 % 20_000}" for number in range(rows)],
        },
        schema_overrides={name: pl.Datetime("us", "UTC") for name in ("arrived_at", "action_time")},
    )


def by_threads(log: ActionLog, rows: pl.DataFrame, seconds: float) -> float:
    """Append from CLIENTS threads, each waiting for its acknowledgement; return appends a second."""
    done = [0] * CLIENTS
    began = time.perf_counter()

    def client(number: int) -> None:
        while time.perf_counter() < began + seconds:
            log.append("actions", rows)
            done[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def raw(commit: Commit, group: Sequence[tuple[Any, ...]], seconds: float) -> float:
    """Commit what CLIENTS clients send, over and over; return their appends a second."""
    done = 0
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        commit(group)
        done += CLIENTS
    return done / (time.perf_counter() - began)


def payloads(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Encode what CLIENTS clients send, as the log does."""
    stream = BytesIO()
    rows.write_ipc_stream(stream, compression="zstd")
    return [("x", "actions", 0, rows.height, stream.getvalue())] * CLIENTS


def values(rows: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Lay out what CLIENTS clients send, a tuple an action."""
    times = pl.col("arrived_at", "action_time").dt.epoch("us")
    return rows.with_columns(times).rows() * CLIENTS


@contextmanager
def raw_sqlite(folder: Path, columns: str) -> Iterator[Commit]:
    """Open a table with numbered rows, and nothing around it."""
    marks = ", ".join("?" * (columns.count(",") + 2))
    with closing(sqlite3.connect(folder / f"{uuid4().hex}.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f'CREATE TABLE raw ("offset" INTEGER PRIMARY KEY, {columns})')

        def commit(group: Sequence[tuple[Any, ...]]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO raw VALUES ({marks})", ((None, *row) for row in group))
            connection.execute("COMMIT")

        yield commit


@contextmanager
def raw_postgres(url: str, columns: str) -> Iterator[Commit]:
    """Open a table with numbered rows, and nothing around it."""
    import psycopg

    names = [word.split()[0] for word in columns.split(", ")]
    types = [word.split()[1] for word in columns.split(", ")]
    copied = f"COPY raw ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS raw")
        connection.execute(
            f'CREATE TABLE raw ("offset" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {columns})'
        )

        def commit(group: Sequence[tuple[Any, ...]]) -> None:
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(copied) as copy:
                copy.set_types(types)
                for row in group:
                    copy.write_row(row)

        yield commit


@contextmanager
def scratch_database() -> Iterator[str | None]:
    """Make a database and drop it afterwards; None where no PostgreSQL answers."""
    import psycopg

    name = f"loops_bench_{uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(f"{SERVER}/postgres", autocommit=True, connect_timeout=2)
    except psycopg.OperationalError:
        yield None
        return
    with admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield f"{SERVER}/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def measure(settings: Settings, folder: Path, seconds: float, repeats: int) -> None:
    """Print an engine's rows of the table."""

    def plain(columns: str) -> AbstractContextManager[Commit]:
        if isinstance(settings, SqliteLog):
            return raw_sqlite(folder, columns)
        return raw_postgres(settings.url, columns)

    for words, rows in (("100 an append", actions(100)), ("1 an append", actions(1))):
        best = [0.0, 0.0, 0.0]
        with (
            open_action_log(settings, Workspace(folder / words)) as log,
            plain(ROWS) as commit_rows,
        ):
            by_threads(log, rows, 0.2)
            for _ in range(repeats):
                best[0] = max(best[0], by_threads(log, rows, seconds))
                best[1] = max(best[1], raw(commit_rows, values(rows), seconds))
        with plain(PAYLOADS) as commit_payloads:
            best[2] = max(raw(commit_payloads, payloads(rows), seconds) for _ in range(repeats))
        figures = "".join(f"{each * rows.height:12,.0f}" for each in best)
        ratios = "".join(f"{best[0] / each:8.2f}" for each in best[1:])
        sys.stdout.write(f"{settings.engine:9} {words:13}{figures}{ratios}\n")
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="no larger than the default, which is the goal's")
    asked = parser.parse_args(arguments)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.stdout.write("acknowledged durable actions a second, on one core\n")
    sys.stdout.write(f"{'':23}{'log':>12}{'rows':>12}{'payloads':>12}{'/ rows':>8}{'/ payl.':>8}\n")
    disk = (
        Path(__file__).parents[1] / "tmp"
    )  # the checkout's: /tmp may be memory, where an fsync costs nothing
    disk.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="loop-bench-", dir=disk) as scratch, scratch_database() as url:
        measure(SqliteLog(), Path(scratch), asked.seconds, asked.repeats)
        if url is None:
            sys.stdout.write(f"postgres  not measured: no server answers at {SERVER}\n")
        else:
            measure(PostgresLog(engine="postgres", url=url), Path(scratch), asked.seconds, asked.repeats)


if __name__ == "__main__":
    main()
