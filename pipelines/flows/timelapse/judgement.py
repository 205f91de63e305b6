"""What a watch sees and decides each morning, kept as figures and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pipelines.flows import work
from pipelines.flows.edge import Run, perform

if TYPE_CHECKING:
    from pipelines.learning.drift import Verdict
    from pipelines.steps.signals import Performance


@dataclass(frozen=True)
class Judgement:
    """A watch's findings: the verdict's level on drift, its alarms, and what was decided, in words.

    `kinds` are those of the reasons for a retrain, asked for or not; `cause` says why one is asked for, None
    where it is not. `held`: a broken column holds training. `parity`: differences between served features and
    those that training would see.
    """

    drift: str
    alarms: tuple[str, ...]
    decided: str
    kinds: tuple[str, ...]
    cause: str | None
    held: bool
    performance: Mapping[str, float] | None
    parity: int | None


UNWATCHED = Judgement("unwatched", (), "", (), None, False, None, None)


def judge_day(run: Run) -> Judgement:
    """Watch as the watch flow does: monitor, gather the signals, decide, write the cause down, check parity."""
    verdict = cast("Verdict", perform(run, "monitor"))
    signals = work.look(run, verdict)
    decision, cause = work.resolve(run, signals)
    parity = work.compare(run)
    return Judgement(
        verdict.level,
        tuple(signals.alarms),
        decision.words,
        tuple(reason.kind for reason in decision.reasons),
        cause.words if cause else None,
        decision.action == "hold",
        None if signals.performance is None else _figures(signals.performance),
        None if parity is None else sum(parity.differences.values()),
    )


def _figures(found: Performance) -> dict[str, float]:
    now = found.now
    return {"now": now.value, "low": now.low, "high": now.high, "n": float(now.n), "then": found.then}
