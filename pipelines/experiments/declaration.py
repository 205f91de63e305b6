"""An experiment's declaration: typed, frozen, and refused where it could not decide rightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from pydantic import Field, model_validator

from pipelines.errors import UsageError
from pipelines.settings import Frozen


class Metric(Frozen):
    """What is measured for each unit: a mean, or with a `denominator` a ratio of means (clicks / impressions).

    All names are columns of the outcomes, one row a unit. The covariates hold what the unit did before the
    experiment (a mean, or a ratio as well); they only make the interval narrower.
    """

    name: str
    numerator: str
    denominator: str | None = None
    covariate: str | None = None
    covariate_denominator: str | None = None
    lower_is_better: bool = False

    @property
    def sign(self) -> int:
        """Return -1 for a metric that is better the lower it is, else 1."""
        return -1 if self.lower_is_better else 1


class Guardrail(Frozen):
    """A metric that may get worse by `tolerance` at most (absolute, in the metric's own unit)."""

    metric: Metric
    tolerance: float = Field(gt=0)


class Stage(Frozen):
    """From day `from_day` (0 is the first) the share `exposure` of all units takes part."""

    from_day: int = Field(ge=0)
    exposure: float = Field(ge=0, le=1)


class Experiment(Frozen):
    """Two arms, compared by one metric and held by guardrails.

    `unit` names the column whose values are assigned (a user). Experiments of one `layer` share no unit: each
    has its own `span` of it. `arms` are shares of those who take part, the control first. Who takes part grows
    by `stages`, alike in both arms, so that they stay comparable. `planned_units` is the number of units in
    both arms together at which the interval is tightest: the designed size. Days are counted from the start.
    """

    name: str
    layer: str
    unit: str
    metric: Metric
    planned_units: int = Field(ge=2)
    arms: Mapping[str, float] = {"champion": 0.5, "challenger": 0.5}
    span: tuple[float, float] = (0.0, 1.0)
    stages: tuple[Stage, ...] = (Stage(from_day=0, exposure=1.0),)
    guardrails: tuple[Guardrail, ...] = ()
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    minimum_days: int = Field(default=7, ge=1)
    maximum_days: int = Field(default=30, ge=1)
    minimum_units: int = Field(default=100, ge=2)
    """Units an arm before an interval counts: it holds for large samples only."""

    @model_validator(mode="after")
    def _can_decide(self) -> Experiment:
        if len(self.arms) != 2 or min(self.arms.values()) <= 0 or abs(sum(self.arms.values()) - 1) > 1e-9:
            raise ValueError("arms must be two, the control first, with shares above 0 that sum to 1")
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ValueError("span must be two numbers, 0 <= low < high <= 1")
        if not self.stages or self.stages[0].from_day != 0:
            raise ValueError("stages must begin on day 0")
        if any(a.from_day >= b.from_day or a.exposure > b.exposure for a, b in pairwise(self.stages)):
            raise ValueError("stages must come one after the other and never shrink")
        if not self.stages[-1].from_day < self.minimum_days <= self.maximum_days:
            raise ValueError(
                "minimum_days must lie after the last stage's first day, and not after maximum_days"
            )
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError("metrics must have names of their own")
        return self

    @property
    def control(self) -> str:
        """Name the arm that the other is compared with."""
        return next(iter(self.arms))

    @property
    def treatment(self) -> str:
        """Name the arm on trial."""
        return list(self.arms)[1]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """List the metric that decides, then those of the guardrails."""
        return (self.metric, *(guardrail.metric for guardrail in self.guardrails))

    def exposure(self, day: int) -> float:
        """Return the share of all units that takes part on a day (0 is the first)."""
        return next(stage.exposure for stage in reversed(self.stages) if stage.from_day <= max(day, 0))


def check_layers(experiments: Sequence[Experiment]) -> None:
    """Refuse experiments that would share units: spans of one layer must not overlap (UsageError)."""
    ordered = sorted(experiments, key=lambda experiment: (experiment.layer, experiment.span))
    for first, second in pairwise(ordered):
        if first.layer == second.layer and second.span[0] < first.span[1]:
            raise UsageError(
                f"experiments '{first.name}' and '{second.name}' share units of layer '{first.layer}': "
                "give them spans that do not overlap, or layers of their own"
            )
