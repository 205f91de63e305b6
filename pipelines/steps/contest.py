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
from pipelines.learning.scores import narrowed, score
from pipelines.settings import CaseParams, Gate, Platform, parse
from pipelines.steps.evaluate import MODEL
from pipelines.steps.gate import CHAMPION, Judgement, judge_contest
from pipelines.steps.recency import FEWEST_UNITS, People, person
from pipelines.steps.split import find_protocol, newest, training_data
from pipelines.stores.workspace import Workspace


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
) -> Judgement | None:
    """Judge the recipe that learns from [start, as_of) against the champion, on rows from `unseen` on.

    Neither knows those: the recipe not the people, the champion not the days. None where they are too few to tell.
    """
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    measure, framing = find_protocol(case, protocol).measure, case.framing
    everyone = training_data(case, ws, unseen, as_of, params, platform)
    who = person(case, everyone)

    def others(begin: datetime) -> People:
        return People(training_data(case, ws, begin, as_of, params, platform), who, False)

    known, test = others(newest(case, ws, as_of, params, platform).start), People(everyone, who, True)
    try:
        models = {MODEL: case.fit(others(start), settings).model, CHAMPION: rival}
        measured = {name: measure(model, known, test, None) for name, model in models.items()}
    except DataError:
        return None
    found = measured[MODEL].statistics.get(framing.selects)
    if found is None or len(found.units) < FEWEST_UNITS:
        return None
    where = f"since {unseen:%Y-%m-%d}, on {len(found.units):,} units of people whom it had not seen"
    metrics = {framing.selects, framing.primary_metric, *framing.guardrails}
    asked = {name: narrowed(each, *sorted(metrics)) for name, each in measured.items()}
    scores = score(asked, framing.primary_metric, gate.resamples, params.seed)
    return judge_contest(scores, framing, gate, MODEL, CHAMPION, where)
