"""The action log in PostgreSQL: one table for all cases, `synchronous_commit` on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from pipelines.errors import LoopError, UsageError
from pipelines.stores.action_log_commit import Entry, LogFull
from pipelines.stores.postgres import PATIENCE, missing_database, place

try:
    import psycopg
except ImportError as missing:
    raise UsageError(
        "the action log is to be in PostgreSQL, but psycopg is not installed: pip install 'ml-loops[production]'"
    ) from missing

_SCHEMA = """
CREATE TABLE action_log (
    "offset" bigint NOT NULL,
    case_name text NOT NULL,
    table_name text NOT NULL,
    received_at bigint NOT NULL, -- microseconds UTC by the wall's clock: for people, nothing reads it
    rows integer NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (case_name, "offset")
)
"""
_INSERT = """
WITH added AS (
    INSERT INTO action_log
    SELECT
        (SELECT coalesce(max("offset"), 0) FROM action_log WHERE case_name = %(case)s) + number,
        %(case)s, table_name, %(now)s, rows, payload
    FROM unnest(%(tables)s::text[], %(rows)s::integer[], %(payloads)b::bytea[])
        WITH ORDINALITY AS entry (table_name, rows, payload, number)
    RETURNING "offset"
)
SELECT max("offset") FROM added
"""
_LOCK = 7_014_881  # this table's class of advisory locks
_SESSION = """
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed'; -- a later snapshot than the lock's, whatever the server's default
SET lock_timeout = '30s';
SET statement_timeout = '60s'
"""
_PAGE_ROWS = 16


class PostgresEngine:
    """One case's rows in a database.

    Appends of one case take turns, by an advisory lock held until the commit is visible. Without it two
    transactions could draw offsets 1 and 2 and commit 2 first: a reader that saw 2 would take it as
    its watermark and never read 1. A connection that was lost is made anew, once, at the next append.
    """

    def __init__(self, url: str, case: str) -> None:
        self.url = url
        self.case = case
        self._writer: psycopg.Connection[Any] | None = None

    def commit(self, entries: Sequence[Entry]) -> int:
        """Store the entries in one transaction and return the last offset."""
        with self._explained():
            if self._writer is not None:
                try:
                    return self._store(self._writer, entries)
                except psycopg.OperationalError:
                    if not self._writer.broken:
                        raise
            # Whether the lost connection's commit arrived is unknown; twice is safe, never is not.
            self.close()
            self._writer = self._connect()
            _make(self._writer)
            return self._store(self._writer, entries)

    def scan(self, after: int) -> Iterator[tuple[int, str, bytes]]:
        """Read page by page: no transaction stays open between two of them."""
        with self._explained(), closing(self._connect()) as connection:
            if not _made(connection):
                return
            while page := connection.execute(
                'SELECT "offset", table_name, payload FROM action_log'
                ' WHERE case_name = %s AND "offset" > %s ORDER BY "offset" LIMIT %s',
                (self.case, after, _PAGE_ROWS),
                binary=True,
            ).fetchall():
                yield from page
                after = page[-1][0]

    def end(self) -> int:
        """Return the newest offset; 0 where there is none."""
        with self._explained(), closing(self._connect()) as connection:
            return self._end(connection) if _made(connection) else 0

    def close(self) -> None:
        """Close the writing connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _store(self, connection: psycopg.Connection[Any], entries: Sequence[Entry]) -> int:
        """Send everything at once, and wait for one answer: the commit's."""
        with connection.pipeline(), connection.transaction():
            # A statement of its own: the next one then sees everything that was committed before.
            connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, self.case))
            added = connection.execute(
                _INSERT,
                {
                    "case": self.case,
                    "now": time.time_ns() // 1000,
                    "tables": [entry.table for entry in entries],
                    "rows": [entry.rows for entry in entries],
                    "payloads": [entry.payload for entry in entries],
                },
            )
        found = added.fetchone()
        if found is None or found[0] is None:
            raise LoopError(f"PostgreSQL ({place(self.url)}) did not say what it stored")
        return int(found[0])

    def _end(self, connection: psycopg.Connection[Any]) -> int:
        query = 'SELECT coalesce(max("offset"), 0) FROM action_log WHERE case_name = %s'
        found = connection.execute(query, (self.case,)).fetchone()
        return int(found[0]) if found else 0

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.url, autocommit=True, **PATIENCE)
        connection.execute(_SESSION)
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.DiskFull as error:
            raise LogFull(
                f"PostgreSQL's disk ({place(self.url)}) is full: nothing of this was acknowledged;"
                " free some space there and send it again"
            ) from error
        except psycopg.Error as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            remedy = "see that the server runs and that action_log.url in configs/ is right, and do it again"
            if "does not exist" in reason:
                remedy = missing_database(self.url)
            raise LoopError(
                f"the action log in PostgreSQL ({place(self.url)}) cannot be used: {reason}; {remedy}"
            ) from error


def _make(connection: psycopg.Connection[Any]) -> None:
    """Make the table, once, whoever comes first."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK,))
        if not _made(connection):
            connection.execute(_SCHEMA)
            # It is compressed already: the server need not try again.
            connection.execute("ALTER TABLE action_log ALTER payload SET STORAGE EXTERNAL")


def _made(connection: psycopg.Connection[Any]) -> bool:
    found = connection.execute("SELECT to_regclass('action_log') IS NOT NULL").fetchone()
    return bool(found and found[0])
