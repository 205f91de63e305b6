"""Who decides when to retrain: the system itself, or a control that stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import UsageError, nearest

Rule = Literal["triggered", "never", "every", "told", "lead", "fresh"]


@dataclass(frozen=True)
class Policy:
    """When an arm retrains. `every`: each `days` days; `told`: as soon as the shift's own labels teach."""

    name: str
    rule: Rule
    describe: str
    days: int = 0

    def asks(self, day: int, shift: int, mature: int, follow_ups: Sequence[int] = ()) -> str | None:
        """Say why a control retrains on the morning after day `day`, or None.

        `shift`: the day on which the scenario begins; `mature`: the first morning that knows labels of it;
        `follow_ups`: after how many days a change is learned again.
        """
        if self.rule == "every" and (day + 1) % self.days == 0:
            return f"scheduled: every {self.days} days" if self.days > 1 else "scheduled: every day"
        if self.rule == "fresh" and day >= shift and (day - shift) % self.days == 0:
            return "the reference: learned from this day's world alone"
        if self.rule == "lead" and day == -1:
            return "the first champion's own days are there to learn from"
        if self.rule == "told" and day + 1 == mature:
            return TOLD
        if self.rule == "told" and day + 1 - mature in follow_ups:
            return "told of the change: more of its labels have come"
        return None

    @property
    def until_shift(self) -> Policy:
        """Return the policy that lives the same days as this one until the scenario begins."""
        return FROZEN if self.rule in ("told", "fresh") else self


TOLD = "told of the change: its first labels have come"
TRIGGERED = Policy("triggered", "triggered", "retrains when `decide` says so: the system itself")
LEAD = Policy("lead", "lead", "serves the days before, and retrains on them once")
FROZEN = Policy("frozen", "never", "never retrains")
CONTROLS = (
    FROZEN,
    Policy("daily", "every", "retrains every day", 1),
    Policy("weekly", "every", "retrains every week", 7),
    Policy(
        "informed",
        "told",
        "retrains as soon as it may learn from labels of after the true change, and follows it up",
    ),
)
FRESH = Policy(
    "fresh", "fresh", "learns from a world in which what holds on the day has always held, every 3 days", 3
)
POLICIES = {policy.name: policy for policy in (TRIGGERED, *CONTROLS, FRESH)}


def find_policy(name: str) -> Policy:
    """Find an arm's policy by name."""
    if name not in POLICIES:
        raise UsageError(f"no arm '{name}': {nearest(name, POLICIES)}")
    return POLICIES[name]
