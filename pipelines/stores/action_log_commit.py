"""Group commit: whoever appends while a commit is under way shares the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from pipelines.errors import LoopError

_GROUP_BYTES = 32 * 2**20
_WAITING_BYTES = 256 * 2**20
_PATIENCE = 10.0  # seconds: a commit takes milliseconds


class LogFull(LoopError):  # noqa: N818  # a state of the log, as the reply names it
    """The disk has no room for the log: nothing of what was appended is acknowledged."""


class LogBusy(LoopError):  # noqa: N818  # a state of the log, as the reply names it
    """Too much waits to be written, or the database is silent: nothing of what was appended was acknowledged."""


@dataclass(frozen=True)
class Entry:
    """One row of the log: some rows of one table, encoded."""

    table: str
    rows: int
    payload: bytes


class Engine(Protocol):
    """The database that keeps the log. `commit` is called by one thread at a time."""

    def commit(self, entries: Sequence[Entry]) -> int:
        """Store the entries in one durable transaction, numbered without a gap; return the last offset.

        Raises LogFull or LoopError, and nothing was acknowledged.
        """

    def scan(self, after: int) -> Iterator[tuple[int, str, bytes]]:
        """Yield (offset, table, payload) of what stands after the offset, in order, in bounded memory."""

    def end(self) -> int:
        """Return the newest offset; 0 for an empty log."""

    def close(self) -> None:
        """Close the writing connection."""


@dataclass(frozen=True)
class _Waiting:
    entries: Sequence[Entry]
    size: int
    offset: Future[int]


class GroupCommit:
    """One thread that commits everything that waits in one transaction.

    Nobody waits for a timer: an idle writer commits at once, and what comes meanwhile makes the next
    group. A group is bounded in bytes, and so is the wait for it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._began: float | None = None  # the commit that is under way, by a clock that only runs forward

    def submit(self, entries: Sequence[Entry]) -> Future[int]:
        """Queue entries that become durable together; the future gives the offset after them, or the error.

        Raises LogBusy where too much waits already, or where a commit has been under way for seconds and one waits
        for it: who comes first finds out whether the database is back.
        """
        one = _Waiting(entries, sum(len(entry.payload) for entry in entries), Future())
        with self._changed:
            if self._closed:
                raise LoopError("the log is closed: open it again to append to it")
            if self._waiting and self._bytes + one.size > _WAITING_BYTES:
                raise LogBusy(
                    f"{self._bytes / 2**20:.0f} MiB wait to be written to the log: send it again in a moment"
                )
            if self._silent and any(not each.offset.cancelled() for each in self._waiting):
                raise LogBusy(f"the log has been silent for more than {_PATIENCE:.0f} s: send it again later")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="action-log", daemon=True)
                self._thread.start()
            self._waiting.append(one)
            self._bytes += one.size
            self._changed.notify()
        return one.offset

    @property
    def _silent(self) -> bool:
        began = self._began
        return began is not None and monotonic() - began > _PATIENCE

    def close(self) -> None:
        """Commit what waits, and stop."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while group := self._next():
            self._commit(group)

    def _next(self) -> list[_Waiting]:
        """Wait for something to commit; nothing once closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            group: list[_Waiting] = []
            room = _GROUP_BYTES
            while self._waiting and (not group or self._waiting[0].size <= room):
                one = self._waiting.popleft()
                self._bytes -= one.size
                room -= one.size
                group.append(one)
            return group

    def _commit(self, group: Sequence[_Waiting]) -> None:
        # Who gave up waiting (a cut connection) is left out, and can no longer give up from here on.
        group = [one for one in group if one.offset.set_running_or_notify_cancel()]
        entries = [entry for one in group for entry in one.entries]
        if not entries:
            return
        self._began = monotonic()
        try:
            offset = self._engine.commit(entries) - len(entries)
        except Exception as error:
            for one in group:
                one.offset.set_exception(error)
            return
        finally:
            self._began = None
        for one in group:
            offset += len(one.entries)
            one.offset.set_result(offset)
