"""The causes of retrains, in a live workspace's journal: each is told once, and acted on once.

A cause is written down before its event is sent, and the event's id follows from the cause's. So a watch that
is killed in between sends the same event again, and the server drops a copy it has seen. A cause is taken when its
retrain has come to an end: one that died is asked for again, and one that finds its cause taken ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

from pipelines.steps.decide import DRIFT, FALLS, Decision, Reason
from pipelines.steps.signals import Fall
from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

EVENT_PREFIX = "loop."
SCHEDULED = "scheduled"
"""The cause of a retrain that the calendar asks for, and no reason: an incident holds it."""
PATIENCE, SENDINGS = timedelta(hours=6), 3
"""How long a cause waits for its retrain to end before it is sent again, and how often it is sent at most."""


@dataclass(frozen=True)
class Cause:
    """Why a retrain was asked for. `event` names the gravest reason; `words` tells them all.

    `reasons` tell the kind of each, when its fall began (ISO), as far as is known, and which columns drifted.
    `sent_at` is the wall's moment of the last sending, which is number `sendings`.
    """

    id: str
    event: str
    words: str
    found_at: str
    reasons: Sequence[Mapping[str, Any]] = ()
    sent: bool = False
    taken: bool = False
    sent_at: str | None = None
    sendings: int = 0

    @property
    def event_id(self) -> UUID:
        """Return the id of the event that it is sent by: another each time that it is sent anew."""
        own = UUID(self.id)
        return own if self.sendings < 2 else uuid5(own, str(self.sendings))


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
        """List when each fall began that a retrain was asked for, oldest first.

        Of reasons told together the last beginning counts. Performance is measured on all rows since the champion's
        own: those of before the fall are among them, and what learns from them too chooses what pleased then.
        """
        return [max(began) for cause in self.causes() if (began := list(_began(cause)))]

    def last(self, kind: str) -> datetime | None:
        """Return when the newest fall of a kind began that a retrain was asked for."""
        return max((since for cause in self.causes() for since in _began(cause, kind)), default=None)

    def drifted(self) -> tuple[datetime | None, set[str] | None]:
        """Return when the newest drift began that a retrain was asked for, and which columns were named for it.

        None for the columns where a journal of before did not keep them.
        """
        since = self.last(DRIFT)
        causes = [each for each in self.causes() if since is not None and since in _began(each, DRIFT)]
        reasons = [each for cause in causes for each in cause.reasons if each["kind"] == DRIFT]
        if any("columns" not in each for each in reasons):
            return since, None
        return since, {name for each in reasons for name in each["columns"]}

    def asked(self, kind: str) -> datetime | None:
        """Return when a retrain was last asked for by a reason of a kind."""
        found = (cause.found_at for cause in self.causes() for each in cause.reasons if each["kind"] == kind)
        return max(map(datetime.fromisoformat, found), default=None)

    def note(self, decision: Decision, now: datetime) -> Cause | None:
        """Write down the cause of a decision to retrain; None where it is another."""
        if decision.action != "retrain":
            return None
        event = EVENT_PREFIX + decision.reasons[0].kind
        cause = Cause(str(uuid4()), event, decision.cause, now.isoformat(), [*map(_plain, decision.reasons)])
        self._write([*self.causes(), cause])
        return cause

    def send(self, emit: Callable[[Cause], None], wall: datetime, again: bool = True) -> list[Cause]:
        """Emit every cause that was not sent yet, and note each once `emit` has returned.

        One that no retrain has come to an end for, hours after it was sent, is sent `again`: its run died, or failed.
        """
        sent = []
        for cause in self.causes():
            if cause.taken or (cause.sent and not (again and _overdue(cause, wall))):
                continue
            now = replace(cause, sent=True, sent_at=wall.isoformat(), sendings=cause.sendings + 1)
            emit(now)
            self._set(now)
            sent.append(now)
        return sent

    def taken(self, identity: str) -> bool:
        """Say whether a retrain has come to its end for the cause."""
        return any(cause.taken for cause in self.causes() if cause.id == identity)

    def finish(self) -> None:
        """Note that a retrain has come to its verdict: whoever asked for it, it has learned for all causes by then."""
        self._write([replace(cause, sent=True, taken=True) for cause in self.causes()])

    def _set(self, cause: Cause) -> None:
        self._write([cause if each.id == cause.id else each for each in self.causes()])

    def _write(self, causes: Sequence[Cause]) -> None:
        write_json(self._path, [asdict(each) for each in causes])


def _overdue(cause: Cause, wall: datetime) -> bool:
    if cause.sent_at is None or cause.sendings >= SENDINGS:
        return False
    return wall - datetime.fromisoformat(cause.sent_at) >= PATIENCE


def _plain(reason: Reason) -> dict[str, Any]:
    since = None if reason.since is None else reason.since.isoformat()
    return {"kind": reason.kind, "since": since, "columns": list(reason.columns)}


def _began(cause: Cause, kind: str | None = None) -> Iterator[datetime]:
    for each in cause.reasons:
        if each["since"] is not None and kind in (None, each["kind"]):
            yield datetime.fromisoformat(each["since"])
