"""An experiment of a live workspace: the file that says so, which the service follows and the review moves on."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any

from pipelines.errors import LoopError
from pipelines.experiments.declaration import Experiment
from pipelines.settings import Canary, Frozen, Measure, UtcDatetime, parse
from pipelines.stores.files import read_json, write_json
from pipelines.stores.registry import Version
from pipelines.stores.workspace import Workspace

CONTROL, TREATMENT = "control", "treatment"
BEFORE = "before_"
"""What stands before the name of a count of the time before the experiment."""


class Running(Frozen):
    """A challenger on trial against the champion of `started`.

    Who takes part goes by `day`, which a review moves on, and last did when it `moved`: where nobody looks, no stage
    opens. It stays as it
    is when the experiment `ended`, with the last `verdict`.
    """

    case: str
    unit: str
    canary: Canary
    challenger: Version
    champion: str
    started: UtcDatetime
    day: int = 0
    moved: UtcDatetime | None = None
    ended: UtcDatetime | None = None
    verdict: dict[str, Any] | None = None

    @cached_property
    def declaration(self) -> Experiment:
        """Declare the experiment that the settings ask for; UsageError where it could not decide."""
        canary = self.canary
        first = canary.shadow_days
        days = accumulate(repeat(canary.stage_days, len(canary.shares) - 1), initial=first)
        stages = [
            {"from_day": day, "exposure": 2 * share} for day, share in zip(days, canary.shares, strict=True)
        ]
        content = {
            "name": f"version-{self.challenger.number}",
            "layer": self.case,
            "unit": self.unit,
            "metric": _metric(canary.metric),
            "guardrails": [
                {"metric": _metric(each), "tolerance": each.tolerance} for each in canary.guardrails
            ],
            "arms": {CONTROL: 0.5, TREATMENT: 0.5},
            "stages": [{"from_day": 0, "exposure": 0.0}] * (first > 0) + stages,
            **canary.model_dump(
                include={"planned_units", "minimum_units", "confidence", "minimum_days", "maximum_days"}
            ),
        }
        return parse(Experiment, content, f"configs/{self.case}.yaml: experiment")

    @property
    def share(self) -> float:
        """Return the share of all units that meet the challenger now; 0: it is in the shadow."""
        return self.declaration.exposure(self.day) / 2

    @property
    def stage(self) -> str:
        """Name the stage in words."""
        if self.ended is not None:
            return "ended"
        return f"canary, {self.share:.0%} of the units" if self.share else "shadow"


def path(ws: Workspace) -> Path:
    """Name the file that keeps a workspace's experiment."""
    return ws.root / "experiment.json"


def read(ws: Workspace) -> Running | None:
    """Read the workspace's experiment, the last one where it has ended; None where there never was one."""
    file = path(ws)
    if not file.is_file():
        return None
    try:
        return parse(Running, read_json(file), str(file))
    except ValueError as error:
        raise LoopError(f"{file} is no JSON ({error}): remove it, and start the experiment again") from None


def read_open(ws: Workspace) -> Running | None:
    """Read the experiment that runs; None where there is none, or it has ended."""
    found = read(ws)
    return found if found is not None and found.ended is None else None


def write(ws: Workspace, running: Running) -> None:
    """Keep the experiment; whoever reads sees the old file or the new one."""
    write_json(path(ws), running.model_dump(mode="json"))


def _metric(measure: Measure) -> dict[str, Any]:
    """Declare a measure as a metric, with the same counts of the time before as its covariate."""
    return {
        **measure.model_dump(exclude={"tolerance"}),
        "covariate": BEFORE + measure.numerator,
        "covariate_denominator": BEFORE + measure.denominator,
    }
