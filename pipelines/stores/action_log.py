"""The action log: what serving and simulated users write, durable before it is acknowledged.

One row of a database table holds the rows of one append, as an Arrow IPC stream (zstd): a simulated
day costs one row, and so does an HTTP batch. The log is at least once in: who got no answer sends again,
and nothing is deduplicated here. The lake's fold by key makes it exactly once counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from io import BytesIO
from types import TracebackType

import polars as pl

from pipelines.case_study import Batch
from pipelines.errors import DataError, UsageError
from pipelines.settings import PostgresLog, SqliteLog
from pipelines.stores.action_log_commit import Engine, Entry, GroupCommit, LogBusy, LogFull
from pipelines.stores.workspace import Workspace

__all__ = ["ActionLog", "LogBusy", "LogFull", "open_action_log"]

_ENTRY_BYTES = 16 * 2**20
"""A larger append becomes several rows of one transaction, so that a reader's memory is bounded."""


class ActionLog:
    """An `EventLog` for many writers: threads, coroutines and processes append, and share commits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._commits = GroupCommit(engine)

    @property
    def end(self) -> int:
        """The offset after the newest row; 0 for an empty log."""
        return self._engine.end()

    def append(self, table: str, rows: pl.DataFrame) -> int:
        """Make the rows durable and return the offset that stands after them. No rows: nothing to do.

        Raises LogFull, LogBusy or LoopError where they were not acknowledged. They may stand in the log all
        the same (an answer can be lost, too): appending them again is safe.
        """
        return self.submit(table, rows).result()

    def submit(self, table: str, rows: pl.DataFrame) -> Future[int]:
        """Queue rows; the future gives what `append` returns or raises. LogBusy is raised at once.

        A coroutine awaits `asyncio.wrap_future` of it.
        """
        return self.submit_all([(table, rows)])

    def submit_all(self, parts: Sequence[tuple[str, pl.DataFrame]]) -> Future[int]:
        """Queue rows of several tables that become durable together, in their order, or not at all."""
        entries = [entry for table, rows in parts for entry in _encode(table, rows)]
        if entries:
            return self._commits.submit(entries)
        nothing: Future[int] = Future()
        nothing.set_result(self.end)
        return nothing

    def read(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Yield (offset, batch) for everything appended after the watermark, in order.

        Raises DataError for a row that cannot be read, and where the log ends before the watermark.
        """
        offset = 0
        for offset, table, payload in self._engine.scan(after):
            origin = f"log/{offset:012d}-{table}"
            try:
                rows = pl.read_ipc_stream(BytesIO(payload))
            except (pl.exceptions.PolarsError, OSError) as error:
                raise DataError(
                    f"{origin} cannot be read ({error}); put the log back from a backup, or delete its"
                    f" row with offset {offset} to go on without it"
                ) from error
            yield offset, Batch(table, rows, origin)
        if offset == 0 and after > 0:
            check_end(self.end, after)

    def close(self) -> None:
        """Commit what waits, and let go of the database."""
        self._commits.close()
        self._engine.close()

    def __enter__(self) -> ActionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_end(end: int, seen: int) -> None:
    """Refuse a log that ends before what was read of it: DataError."""
    if end < seen:
        raise DataError(
            f"the log ends at offset {end}, but was read up to {seen} before: it was lost or replaced, or the"
            " profile names another engine than before; put the old log back, or remove lake/_watermarks to"
            " read this one from its start (no row is counted twice)"
        )


def require_unused(settings: SqliteLog | PostgresLog, workspace: Workspace) -> None:
    """Refuse to begin a workspace under a name whose log still holds rows of an earlier one: UsageError.

    In PostgreSQL they outlive the folder, and would all be read into the new lake.
    """
    with open_action_log(settings, workspace) as log:
        end = log.end
    if end:
        raise UsageError(
            f"the action log holds {end:,} rows of an earlier {workspace.name}, which would be read into the new "
            f"one: \"DELETE FROM action_log WHERE case_name = '{workspace.name}'\" in its database forgets them"
        )


def open_action_log(settings: SqliteLog | PostgresLog, workspace: Workspace) -> ActionLog:
    """Open a workspace's log in the engine that the profile names; nothing is made before the first append.

    In PostgreSQL the workspace's name tells its rows from others': one database a checkout.
    """
    if isinstance(settings, SqliteLog):
        from pipelines.stores.action_log_sqlite import SqliteEngine

        return ActionLog(SqliteEngine(workspace.log / "actions.db", workspace.name))
    from pipelines.stores.action_log_postgres import PostgresEngine

    return ActionLog(PostgresEngine(settings.url, workspace.name))


def _encode(table: str, rows: pl.DataFrame) -> Iterator[Entry]:
    if rows.is_empty():
        return
    parts = -(-int(rows.estimated_size()) // _ENTRY_BYTES) or 1
    for part in rows.iter_slices(-(-rows.height // parts)):
        stream = BytesIO()
        part.write_ipc_stream(stream, compression="zstd")
        yield Entry(table, part.height, stream.getvalue())
