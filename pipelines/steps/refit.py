"""Refit: once the gate has passed a model, fit the same recipe on the newest days too, those it was judged by.

A model that is judged by the newest `evaluate_days` has not learned from them, so it is as old as they are on
the day it begins to serve. What the gate judges is a recipe; what serves is the recipe fitted on everything.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pipelines.case_study import CaseStudy
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.scores import Scores, narrowed, score
from pipelines.settings import CaseParams, Platform
from pipelines.steps.evaluate import MODEL, Evaluation
from pipelines.steps.gate import gain
from pipelines.steps.recency import Choice
from pipelines.steps.split import by_days, find_protocol, newest, split, training_data
from pipelines.steps.train import Trained, fit_chosen
from pipelines.stores.models import load_model, read_record
from pipelines.stores.workspace import Workspace

REFIT = "refit"
JUDGED = "judged"
"""In a refit's record: the digest of the model that was judged in its place."""


def is_refit(case: CaseStudy, params: CaseParams, protocol: str) -> bool:
    """Say whether what serves is fitted once more: where asked for, and rows are divided by days alone."""
    return params.window.refit and by_days(find_protocol(case, protocol))


def refit(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    protocol: str,
    judged: str,
    folder: Path,
    choice: Choice | None = None,
) -> Trained:
    """Fit the model on the `train_days` until `as_of` and write it to `folder`; `judged` is whose refit it is.

    After a fall, on the part of these days that was chosen.
    """
    dataset, origin = newest(case, ws, as_of, params, platform), {JUDGED: judged}
    return fit_chosen(case, ws, as_of, params, platform, protocol, dataset, folder, choice, origin)


def gain_of_refit(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    evaluation: Evaluation,
    folder: Path,
) -> Estimate | None:
    """Measure how much better a refit is than the judged model on rows that it alone has seen.

    It can only find out what went wrong: a refit that is surely worse on its own rows must not serve. What has learned
    from what came since a fall alone has none from before it.
    """
    content, primary = evaluation.content, case.framing.primary_metric
    divided = split(case, ws, as_of, params, platform, content["protocol"])
    measure = find_protocol(case, content["protocol"]).measure
    models, test, known = {REFIT: load_model(case, folder)}, divided.test, evaluation.scores
    begun = datetime.fromisoformat(read_record(folder)["window"]["start"])
    if begun > test.start:
        models, known = {**models, MODEL: load_model(case, ws.model)}, Scores({}, {})
        test = training_data(case, ws, begun, as_of, params, platform)
    measured = {
        name: narrowed(measure(model, divided.train, test, None), primary) for name, model in models.items()
    }
    scores = known.merged(score(measured, primary, content["resamples"], content["seed"]))
    found = gain(scores, case.framing, primary, REFIT, MODEL)
    return None if found is None else found.estimate(content["confidence"])
