"""Signals: what a decision rests on, measured: alarms, incidents, labels, performance known and estimated."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.case_study import CaseStudy
from pipelines.errors import DataError
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.estimated_performance import EstimatedPerformance
from pipelines.learning.scores import narrowed, score
from pipelines.settings import CaseParams, Gate, Platform
from pipelines.steps.incidents import Incident
from pipelines.steps.judged import judged_figures
from pipelines.steps.outcome import Outcome
from pipelines.steps.recency import SINCE
from pipelines.steps.split import find_protocol, split
from pipelines.stores.dataset import open_dataset
from pipelines.stores.models import load_model, read_manifest, read_record
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)
_SCORER = "champion"


@dataclass(frozen=True)
class Performance:
    """The champion's primary metric on rows of [start, end), newer than itself, and when it was judged.

    `then_half` is half the width of the interval that it was judged with.
    """

    metric: str
    version: str
    now: Estimate
    then: float
    then_half: float
    lower_is_better: bool = False
    start: datetime | None = None
    end: datetime | None = None

    def fell(self, drop: float) -> bool:
        """Say whether it got worse by more than `drop` for all that chance may have done, then and now.

        It is asked every day: were it enough to be surely worse at all, one quiet day in forty would say so.
        """
        now = self.now
        worse = now.value - self.then if self.lower_is_better else self.then - now.value
        half = now.value - now.low if self.lower_is_better else now.high - now.value
        return worse - math.hypot(half, self.then_half) > drop


@dataclass(frozen=True)
class OnTrial:
    """A version that live users meet, in words, and the moment until which it has learned, where that is known.

    `early`: its last stage has not opened, so few have met it, or nobody.
    """

    words: str
    learned: datetime | None = None
    early: bool = False


@dataclass(frozen=True)
class Fall:
    """A fall (of performance, of outcome, by drift) that a retrain was asked for, and why, in words.

    What learns on its first day knows next to nothing of what came with it.
    """

    found: datetime
    words: str


@dataclass(frozen=True)
class Signals:
    """What `watch` saw: drift alarms in words, labels that matured since the last training, performance.

    `performance` is None where there is no champion, or not enough newer rows to measure it on; `estimated`
    where no estimate is applicable. `drifting_since` is the first day of the alarm (ISO), `trained` the
    moment of the last training, and `incidents` are open and closed ones since what it learned from. `trial`
    says which version is on trial with live users. `outcome` and `answered` are None until a champion has
    served for a week. `fall` is the newest that a retrain was asked for. `drifting` are the columns of the alarm;
    `drifted` is when the newest drift began that a retrain was asked for, `drifted_columns` are those of all that
    began then (None: not known), and `foreseen` is when one was last asked for because of an estimate.
    """

    alarms: Sequence[str]
    new_labels: int
    performance: Performance | None
    estimated: EstimatedPerformance | None = None
    incidents: Sequence[Incident] = ()
    trained: datetime | None = None
    drifting_since: str | None = None
    trial: OnTrial | None = None
    outcome: Outcome | None = None
    fall: Fall | None = None
    answered: Outcome | None = None
    drifted: datetime | None = None
    drifting: Collection[str] = ()
    drifted_columns: Collection[str] | None = ()
    foreseen: datetime | None = None


def last_training(ws: Workspace, registry: Registry) -> tuple[datetime, datetime]:
    """Read when the last training that came to a verdict took place, and since when it looked at rows: (start, moment).

    A model in the workspace that no version holds was left by a retrain that died: nothing was learned by it.
    """
    folder = ws.model
    if registry.find(read_manifest(folder)["digest"]) is None:
        ours = (each for each in registry.versions() if each.tags.get("origin") == ws.origin)
        if (newest := next(ours, registry.champion())) is not None:
            folder = registry.load(registry.judged(newest))
    record = read_record(folder)
    start, end = (datetime.fromisoformat(record["window"][name]) for name in ("start", "end"))
    if SINCE in record:  # what came before a fall was looked at, and is what a broken column is held to
        start = end - timedelta(days=record["days"]["train_days"])
    return start, datetime.fromisoformat(record["as_of"])


def count_new_labels(
    case: CaseStudy, ws: Workspace, trained: datetime, as_of: datetime, seed: int, platform: Platform
) -> int:
    """Count the labels that came to teach after the last training, until `as_of`."""
    if as_of <= trained:
        return 0
    start = trained - case.told_after
    return open_dataset(case, ws, start, as_of, seed, platform, provisional=True).labels().height


def measure_champion(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    protocol: str,
    gate: Gate,
    registry: Registry,
) -> Performance | None:
    """Measure the champion on mature rows that are newer than its own evaluation.

    Return None where there is no champion, or fewer such units than the gate asks for, or none to measure by.
    """
    champion = registry.champion()
    if champion is None:
        return None
    divided = split(case, ws, as_of, params, platform, protocol)
    judged = datetime.fromisoformat(champion.tags["as_of"])
    start = max(divided.test.start, judged)
    primary = case.framing.primary_metric
    known = judged_figures(champion, registry)
    if start >= as_of or not {primary, f"{primary}_low", f"{primary}_high"} <= known.keys():
        return None
    newest = open_dataset(case, ws, start, as_of, params.seed, platform)
    if newest.labels().is_empty():
        return None
    model = load_model(case, registry.load(champion))
    try:
        measured = find_protocol(case, protocol).measure(model, divided.train, newest, None)
    except DataError as error:  # a quiet day: what decides besides it must not wait
        _log.info("%s: the champion is not measured: %s", case.name, error)
        return None
    if primary not in measured.statistics or len(measured.statistics[primary].units) < gate.minimum_units:
        return None
    found = score({_SCORER: narrowed(measured, primary)}, primary, gate.resamples, params.seed).get(
        _SCORER, primary
    )
    if found is None:
        return None
    worse_up = primary in case.framing.lower_is_better
    now = found.estimate(gate.confidence)
    half = (known[f"{primary}_high"] - known[f"{primary}_low"]) / 2
    return Performance(primary, champion.number, now, known[primary], half, worse_up, start, as_of)
