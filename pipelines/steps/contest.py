"""Contest: after a fall the recipe meets the champion on the newest rows of people whom it has not seen.

The rows that a model is judged by are the newest days, which it has not learned from. Where a fall began within
them, it was learned before the fall, and fails at what came since as the champion does, or worse: that says nothing of
what will serve, which has learned from those very days. So the recipe is fitted on them too, without the people held
out.
"""

from __future__ import annotations

from datetime import datetime

from pipelines.case_study import CaseStudy, Model
from pipelines.errors import DataError
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.scores import score
from pipelines.settings import CaseParams, Gate, Platform, parse
from pipelines.steps.gate import gain
from pipelines.steps.recency import FEWEST_UNITS, People, person
from pipelines.steps.split import find_protocol, newest
from pipelines.stores.dataset import open_dataset
from pipelines.stores.workspace import Workspace

_RECIPE, _RIVAL = "recipe", "champion"


def meet(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    start: datetime,
    unseen: datetime,
    rival: Model,
    params: CaseParams,
    platform: Platform,
    protocol: str,
    gate: Gate,
) -> Estimate | None:
    """Measure how much better than a rival the recipe is that learns from [start, as_of), on rows from `unseen` on.

    Neither knows those: the recipe not the people, the rival not the days. None where they are too few to tell.
    """
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    who, measure, metric = person(case), find_protocol(case, protocol).measure, case.framing.primary_metric

    def window(begin: datetime, held: bool) -> People:
        return People(open_dataset(case, ws, begin, as_of, params.seed, platform), who, held)

    others, test = window(newest(case, ws, as_of, params, platform).start, False), window(unseen, True)
    try:
        models = {_RECIPE: case.fit(window(start, False), settings).model, _RIVAL: rival}
        measured = {name: measure(model, others, test, None) for name, model in models.items()}
    except DataError:
        return None
    known = measured[_RECIPE].statistics.get(metric)
    if known is None or len(known.units) < FEWEST_UNITS:
        return None
    scores = score(measured, metric, gate.resamples, params.seed)
    found = gain(scores, case.framing, metric, _RECIPE, _RIVAL)
    return None if found is None else found.estimate(gate.confidence)
