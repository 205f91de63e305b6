"""How a challenger did at answering, as the services that asked it count: one file a service, summed by readers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

_LEAST = 10
"""Failures below which nothing is said: one bad request is no broken model."""


@dataclass(frozen=True)
class Tally:
    """Requests that a challenger was `asked`, and `failed` to answer; in the shadow also how many were
    `compared` with the champion's answers, `agreed` with their first place, and were `dropped` for want of
    time, and the `microseconds` that its answers took."""

    asked: int = 0
    failed: int = 0
    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    microseconds: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def broken(self, share: float) -> bool:
        """Say whether it fails to answer more than a share of its requests."""
        return self.failed >= _LEAST and self.failed > share * self.asked


def write_tally(ws: Workspace, version: str, service: str, tally: Tally) -> None:
    """Keep what one service counted of a version so far."""
    write_json(ws.root / "challenger" / f"{version}-{service}.json", asdict(tally))


def read_tally(ws: Workspace, version: str) -> Tally:
    """Sum what all services counted of a version."""
    files = sorted((ws.root / "challenger").glob(f"{version}-*.json"))
    return sum((Tally(**read_json(file)) for file in files), Tally())
