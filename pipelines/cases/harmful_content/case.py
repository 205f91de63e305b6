"""Harmful content: several harms at once, from text, author and reports; labels late, from reviewers."""

from __future__ import annotations

from pipelines.case_study import CaseStudy, Contributions, Framing
from pipelines.cases.harmful_content.features import FEATURES
from pipelines.cases.harmful_content.fitting import fit
from pipelines.cases.harmful_content.heuristics import HEURISTICS
from pipelines.cases.harmful_content.label import ATTRIBUTION, LABEL
from pipelines.cases.harmful_content.model import load
from pipelines.cases.harmful_content.params import HarmParams
from pipelines.cases.harmful_content.predictions import predictions
from pipelines.cases.harmful_content.protocols import LOGGED, RANDOM
from pipelines.cases.harmful_content.serving import SERVING
from pipelines.cases.harmful_content.sources import DAVIDSON
from pipelines.cases.harmful_content.tables import TABLES

FRAMING = Framing(
    business_objective="People seldom see harmful posts, and authors seldom lose a harmless one.",
    ml_objective="For each harm, estimate the probability that reviewers would find it in the post.",
    label="The reviewers' last word on the post and harm within 4 days of the decision, appeals included.",
    attribution=ATTRIBUTION,
    primary_metric="pr_auc_macro",
    guardrails=("harmful_view_share", "removals_overturned"),
    lower_is_better=("harmful_view_share", "removals_overturned", "appeals_upheld", "log_loss"),
    selection_metric="log_loss",  # of a few dozen posts, two or three hold a harm: no order to speak of
)

CASE = CaseStudy(
    name="harmful_content",
    framing=FRAMING,
    tables=TABLES,
    sources=(DAVIDSON,),
    features=FEATURES,
    service="harmful_content_v1",
    label=LABEL,
    params=HarmParams,
    fit=fit,
    load=load,
    heuristics=HEURISTICS,
    protocols={each.name: each for each in (LOGGED, RANDOM)},
    predictions=predictions,
    serving=SERVING,
    contributions=Contributions(target=("impression_id",), words=("report",)),
)
