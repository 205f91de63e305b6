"""The causes of retrains, in a live workspace's journal: each is told once, and acted on once.

A cause is written down before its event is sent, and the event carries the cause's id. So a watch that
is killed in between sends the same event again, the server drops a copy it has seen, and a retrain that
finds its cause taken ends at once: at least once, and then only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from uuid import uuid4

from pipelines.steps.decide import FALLS, Decision, Reason
from pipelines.steps.signals import Fall
from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

EVENT_PREFIX = "loop."
SCHEDULED = "scheduled"
"""The cause of a retrain that the calendar asks for, and no reason: an incident holds it."""


@dataclass(frozen=True)
class Cause:
    """Why a retrain was asked for. `event` names the gravest reason; `words` tells them all.

    `reasons` tell the kind of each, when its fall began (ISO), as far as is known, and whose performance fell.
    """

    id: str
    event: str
    words: str
    found_at: str
    reasons: Sequence[Mapping[str, str | None]] = ()
    sent: bool = False
    taken: bool = False


class Journal:
    """The causes of one live workspace, oldest first; its users hold the workspace's turn."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.root / "causes.json"

    def causes(self) -> list[Cause]:
        """Read all causes."""
        return [Cause(**each) for each in read_json(self._path)] if self._path.is_file() else []

    def history(self) -> list[datetime]:
        """List when retrains were asked for, oldest first."""
        return [datetime.fromisoformat(cause.found_at) for cause in self.causes()]

    def fall(self) -> Fall | None:
        """Return the newest fall that a retrain was asked for."""
        for cause in reversed(self.causes()):
            if cause.event.removeprefix(EVENT_PREFIX) in FALLS:
                return Fall(datetime.fromisoformat(cause.found_at), cause.words)
        return None

    def falls(self) -> list[datetime]:
        """List when each fall began that a retrain was asked for, oldest first."""
        return [since for cause in self.causes() for since in _began(cause)]

    def fallen(self) -> set[str]:
        """Name the versions whose performance fell before a retrain was asked for."""
        told = (each["version"] for cause in self.causes() for each in cause.reasons)
        return {version for version in told if version is not None}

    def last(self, kind: str) -> datetime | None:
        """Return when the newest fall of a kind began that a retrain was asked for."""
        return max((since for cause in self.causes() for since in _began(cause, kind)), default=None)

    def note(self, decision: Decision, now: datetime) -> Cause | None:
        """Write down the cause of a decision to retrain; None where it is another."""
        if decision.action != "retrain":
            return None
        event = EVENT_PREFIX + decision.reasons[0].kind
        cause = Cause(str(uuid4()), event, decision.cause, now.isoformat(), [*map(_plain, decision.reasons)])
        self._write([*self.causes(), cause])
        return cause

    def send(self, emit: Callable[[Cause], None]) -> list[Cause]:
        """Emit every cause that was not sent yet, and note each once `emit` has returned."""
        sent = []
        for cause in self.causes():
            if not cause.sent:
                emit(cause)
                self._set(replace(cause, sent=True))
                sent.append(cause)
        return sent

    def take(self, identity: str) -> bool:
        """Say whether a retrain may act on the cause: yes, unless another did."""
        for cause in self.causes():
            if cause.id == identity:
                self._set(replace(cause, sent=True, taken=True))
                return not cause.taken
        return True

    def _set(self, cause: Cause) -> None:
        self._write([cause if each.id == cause.id else each for each in self.causes()])

    def _write(self, causes: Sequence[Cause]) -> None:
        write_json(self._path, [asdict(each) for each in causes])


def _plain(reason: Reason) -> dict[str, str | None]:
    since = None if reason.since is None else reason.since.isoformat()
    return {"kind": reason.kind, "since": since, "version": reason.version}


def _began(cause: Cause, kind: str | None = None) -> Iterator[datetime]:
    for each in cause.reasons:
        if each["since"] is not None and kind in (None, each["kind"]):
            yield datetime.fromisoformat(each["since"])
