"""PostgreSQL as several stores use it: is the database there, and who makes its tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.errors import LoopError, UsageError

if TYPE_CHECKING:
    import psycopg

_LOCK = 7_014_882  # this module's class of advisory locks
_PATIENCE = "60s"
PATIENCE: dict[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # what is sent and not acknowledged
    "keepalives_idle": 5,  # a server that took a query, and died before it answered
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "application_name": "ml-loops",
}
"""How long a connection waits for a server that is silent."""


def is_postgres(url: str) -> bool:
    """Say whether a URL names a PostgreSQL database, whatever its driver."""
    return urlsplit(url).scheme.partition("+")[0] in ("postgres", "postgresql")


def place(url: str) -> str:
    """Name a database as host:port/name: without its user, password and options."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'local'}:{parts.port or 5432}{parts.path}"


def require_database(url: str, what: str) -> None:
    """Make sure that a database answers and exists.

    It is never made here: a slip in a URL would give a new and empty store, and an empty registry has no
    champion. Raises UsageError with the command that makes it, LoopError where no server answers.
    """
    _connect(url, what).close()


@contextmanager
def making_tables(url: str, what: str) -> Iterator[None]:
    """Let one process at a time make a store's tables: two that do it at once break them."""
    from psycopg.errors import LockNotAvailable

    with _connect(url, what) as connection:
        connection.execute(f"SET lock_timeout = '{_PATIENCE}'")
        try:
            connection.execute("SELECT pg_advisory_lock(%s, 0)", (_LOCK,))
        except LockNotAvailable as error:
            raise LoopError(f"{what} ({place(url)}) is held by another process for {_PATIENCE}") from error
        yield
        # Closing frees it too, but only once the server has seen the end: the next one would wait for that.
        connection.execute("SELECT pg_advisory_unlock(%s, 0)", (_LOCK,))


def missing_database(url: str) -> str:
    """Say how to make a database that is missing."""
    parts = urlsplit(url)
    where = f"-h {parts.hostname} -p {parts.port or 5432} " if parts.hostname else ""
    return f"make it once, with a role that may: createdb {where}{parts.path.lstrip('/')}"


def _connect(url: str, what: str) -> psycopg.Connection[Any]:
    try:
        import psycopg
    except ImportError:
        raise UsageError(
            f"{what} is to be in PostgreSQL, but psycopg is not installed: pip install 'ml-loops[production]'"
        ) from None
    parts = urlsplit(url)
    libpq = parts.query if "asyncpg" not in parts.scheme else ""  # whose options are others
    plain = parts._replace(scheme="postgresql", query=libpq).geturl()
    try:
        return psycopg.connect(plain, autocommit=True, **PATIENCE)
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        if f'database "{parts.path.lstrip("/")}" does not exist' in reason:
            raise UsageError(f"{what}: {place(url)} does not exist; {missing_database(url)}") from error
        raise LoopError(
            f"{what} in PostgreSQL ({place(url)}) cannot be reached: {reason}; see that the server runs, and "
            "that PGHOST, PGPORT, PGUSER and PGPASSWORD (or ~/.pgpass) are right"
        ) from error
