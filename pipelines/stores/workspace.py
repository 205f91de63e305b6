"""A workspace: the one layout in which a case's data, features and model live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.errors import LoopError


@dataclass(frozen=True)
class Workspace:
    """The folders of one case under one runner.

    `runs/<case>` belongs to DVC, `runs/<case>-<source>` to `loop run`, `live/<case>` to the flows.
    """

    root: Path

    @property
    def name(self) -> str:
        """The folder's name, which is also that of the registered model: `<case>` or `<case>-<source>`."""
        return self.root.name

    @property
    def origin(self) -> str:
        """Who owns the workspace: 'runs' or 'live'."""
        return self.root.parent.name

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def quarantine(self) -> Path:
        return self.root / "quarantine"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def online(self) -> Path:
        return self.root / "online"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    @property
    def monitor(self) -> Path:
        return self.root / "monitor"

    @property
    def log(self) -> Path:
        """The action log that ingest reads in a live workspace."""
        return self.root / "log"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace alone, re-entrantly; a second process is told so at once, and writes nothing."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.root.parent / f".{self.root.name}.lock", is_singleton=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LoopError(
                f"another process is working in {self.root}: wait for it to end, or name another workspace"
            ) from None
        try:
            yield
        finally:
            lock.release()
