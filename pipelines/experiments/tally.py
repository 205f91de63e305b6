"""How a challenger did at answering, as the services that asked it count: one file a service, summed by readers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

_LEAST = 10
"""Failures below which nothing is said: one bad request is no broken model."""


@dataclass(frozen=True)
class Tally:
    """Requests that a challenger was `asked`, and `failed` to answer, and of both those of users who met it
    (`treated`, `treated_failed`); in the shadow how many were `compared` with the champion's answers, `agreed`
    with their first place, and were `dropped` for want of time, and the `microseconds` that its answers took."""

    asked: int = 0
    failed: int = 0
    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    microseconds: int = 0
    treated: int = 0
    treated_failed: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def broken(self, share: float) -> str | None:
        """Say of what it fails to answer more than a share; None where of nothing.

        The shadow answers for everybody: what it did well must not hide what the few who meet the challenger see.
        """
        shadow = (self.asked - self.treated, self.failed - self.treated_failed, "")
        for asked, failed, where in ((self.treated, self.treated_failed, " of users who met it"), shadow):
            if failed >= _LEAST and failed > share * asked:
                return f"it failed to answer {failed:,} of {asked:,} requests{where}"
        return None


def write_tally(ws: Workspace, version: str, service: str, tally: Tally) -> None:
    """Keep what one service counted of a version so far."""
    write_json(ws.root / "challenger" / f"{version}-{service}.json", asdict(tally))


def read_tally(ws: Workspace, version: str) -> Tally:
    """Sum what all services counted of a version."""
    files = sorted((ws.root / "challenger").glob(f"{version}-*.json"))
    return sum((Tally(**read_json(file)) for file in files), Tally())
