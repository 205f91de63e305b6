"""Refit: once the gate has passed a model, fit the same recipe on the newest days too, those it was judged by.

A model that is judged by the newest `evaluate_days` has not learned from them, so it is as old as they are on
the day it begins to serve. What the gate judges is a recipe; what serves is the recipe fitted on everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipelines.case_study import CaseStudy
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.scores import Scores, score
from pipelines.settings import CaseParams, Platform
from pipelines.steps.evaluate import MODEL, Evaluation
from pipelines.steps.gate import gain
from pipelines.steps.split import by_days, find_protocol, newest, split
from pipelines.steps.train import Trained, fit_recent
from pipelines.stores.models import load_model
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
    falls: Sequence[datetime] = (),
) -> Trained:
    """Fit the model on the `train_days` until `as_of` and write it to `folder`; `judged` is whose refit it is.

    After `falls`, on the part of these days that tells the newest rows best.
    """
    dataset = newest(case, ws, as_of, params, platform)
    return fit_recent(case, ws, as_of, params, platform, protocol, dataset, folder, falls, {JUDGED: judged})


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

    It can only find out what went wrong: a refit that is surely worse on its own rows must not serve.
    """
    content = evaluation.content
    divided = split(case, ws, as_of, params, platform, content["protocol"])
    measure = find_protocol(case, content["protocol"]).measure
    measured = measure(load_model(case, folder), divided.train, divided.test, None)
    primary = case.framing.primary_metric
    scores: Scores = evaluation.scores.merged(
        score({REFIT: measured}, primary, content["resamples"], content["seed"])
    )
    found = gain(scores, case.framing, primary, REFIT, MODEL)
    return None if found is None else found.estimate(content["confidence"])
