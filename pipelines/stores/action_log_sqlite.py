"""The action log in a SQLite file: write-ahead log, an fsync a commit (`synchronous=FULL`)."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

from pipelines.errors import DataError, LoopError
from pipelines.stores.action_log_commit import Entry, LogFull
from pipelines.stores.files import fsync

_SCHEMA = """
CREATE TABLE action_log (
    "offset" INTEGER PRIMARY KEY,
    case_name TEXT NOT NULL,
    table_name TEXT NOT NULL,
    received_at INTEGER NOT NULL, -- microseconds UTC by the wall's clock: for people, nothing reads it
    rows INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT
"""
_PATIENCE_SECONDS = 30.0
_PAGE_ROWS = 16
# A quota, or a limit on a file's size, is a failed write to SQLite.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SPOILED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class SqliteEngine:
    """One file that several processes append to and read. SQLite lets them write one after the other."""

    def __init__(self, path: Path, case: str) -> None:
        self.path = path
        self.case = case
        self._writer: tuple[os.stat_result, sqlite3.Connection] | None = None

    def commit(self, entries: Sequence[Entry]) -> int:
        """Store the entries in one transaction and return the last offset."""
        with self._explained():
            connection = self._writing()
            connection.execute("BEGIN IMMEDIATE")
            try:
                end = self._end(connection)
                now = time.time_ns() // 1000
                connection.executemany(
                    "INSERT INTO action_log VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        (end + number, self.case, entry.table, now, entry.rows, entry.payload)
                        for number, entry in enumerate(entries, start=1)
                    ),
                )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return end + len(entries)

    def scan(self, after: int) -> Iterator[tuple[int, str, bytes]]:
        """Read page by page, so that no long read keeps the write-ahead log from being folded in."""
        if not self.path.is_file():
            return
        with self._explained(), closing(self._connect(self.path)) as connection:
            while page := connection.execute(
                'SELECT "offset", table_name, payload FROM action_log'
                ' WHERE case_name = ? AND "offset" > ? ORDER BY "offset" LIMIT ?',
                (self.case, after, _PAGE_ROWS),
            ).fetchall():
                yield from page
                after = page[-1][0]

    def end(self) -> int:
        """Return the newest offset; 0 where there is no file yet."""
        if not self.path.is_file():
            return 0
        with self._explained(), closing(self._connect(self.path)) as connection:
            return self._end(connection)

    def close(self) -> None:
        """Close the writing connection."""
        if self._writer is not None:
            self._writer[1].close()
            self._writer = None

    def _writing(self) -> sqlite3.Connection:
        """Return the writing connection; a file that was removed or replaced under it is opened anew."""
        if self._writer is not None:
            opened, connection = self._writer
            if self.path.exists() and os.path.samestat(opened, self.path.stat()):
                return connection
            self.close()
        self._create()
        connection = self._connect(self.path)
        self._writer = self.path.stat(), connection
        return connection

    def _create(self) -> None:
        """Make the file as a whole, once, whoever comes first."""
        folder = self.path.parent
        if self.path.is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if self.path.is_file():
                return
            aside = folder / f".{self.path.name}.tmp"
            aside.unlink(missing_ok=True)
            with closing(self._connect(aside)) as connection:
                connection.execute(_SCHEMA)
                connection.execute("PRAGMA journal_mode = WAL")
            aside.rename(self.path)
            fsync(folder)
            fsync(folder.parent)

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(
            path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _end(self, connection: sqlite3.Connection) -> int:
        # SQLite's one writer holds its lock by now: nobody else counts from the same end.
        return int(connection.execute('SELECT coalesce(max("offset"), 0) FROM action_log').fetchone()[0])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL_ERRNO:
                raise
            raise self._full() from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code in _FULL:
                raise self._full() from error
            if code & 0xFF in _SPOILED:
                raise DataError(
                    f"{self.path} is spoiled ({error}): put it back from a backup, or save what is left of it"
                    " with `sqlite3 actions.db .recover`"
                ) from error
            if code & 0xFF == sqlite3.SQLITE_BUSY:
                raise LoopError(
                    f"another process has been writing to {self.path} for {_PATIENCE_SECONDS:.0f} s:"
                    " wait for it to end, and send it again"
                ) from error
            raise LoopError(f"{self.path} cannot be used: {error}") from error

    def _full(self) -> LogFull:
        return LogFull(
            f"the disk that holds {self.path} is full: nothing of this was acknowledged;"
            " free some space and send it again"
        )
