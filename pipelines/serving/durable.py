"""The action log as a service writes to it: with patience, but not for ever; it says whether the log fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic

import polars as pl

from pipelines.errors import LoopError
from pipelines.stores.action_log import ActionLog, LogBusy

_PATIENCE = 10.0  # seconds: a commit takes milliseconds


class Durable:
    """Writes to a log. What `submit` takes is durable once `wait` returns; either raises LoopError."""

    def __init__(self, log: ActionLog) -> None:
        self._log = log
        self._failed: float | None = None

    @property
    def failing(self) -> bool:
        """Say whether the log has failed within the last seconds, and has taken nothing since."""
        return self._failed is not None and monotonic() - self._failed < _PATIENCE

    def submit(self, parts: Sequence[tuple[str, pl.DataFrame]]) -> Future[int]:
        """Queue rows of several tables that become durable together."""
        with self._noted():
            return self._log.submit_all(parts)

    def wait(self, written: Future[int]) -> None:
        """Wait until what was submitted is durable; but not for ever on a log that hangs."""
        with self._noted():
            try:
                written.result(_PATIENCE)
            except TimeoutError:
                written.cancel()
                raise LogBusy(
                    f"the log has not answered for {_PATIENCE:.0f} s: nothing was acknowledged, send it again"
                ) from None
        self._failed = None

    def close(self) -> None:
        """Commit what waits, and let go of the log."""
        self._log.close()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except LoopError:
            self._failed = monotonic()
            raise
