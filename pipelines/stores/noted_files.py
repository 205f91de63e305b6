"""A location that notes which files were read of it, so that other files are known for others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.case_study import Location
from pipelines.stores.files import file_digest

Digests = Mapping[str, str | None]
"""The SHA-256 of each file that was asked for; None where there was none."""


@dataclass(frozen=True)
class NotedFiles:
    """A location (a Location), and what was asked of it until now."""

    location: Location
    noted: dict[str, str | None] = field(default_factory=dict)

    def fetch(self, name: str) -> Path:
        """Return the named file, and note its digest."""
        path = self.location.fetch(name)
        self.noted[name] = file_digest(path)
        return path

    def has(self, name: str) -> bool:
        """Say whether the named file exists, and note where it does not."""
        found = self.location.has(name)
        if not found:
            self.noted[name] = None
        return found

    def holds(self, digests: Digests) -> bool:
        """Say whether it holds these very files, and none of those that were not there."""
        now = NotedFiles(self.location)
        for name in digests:
            if now.has(name):
                now.fetch(name)
        return now.noted == digests
