"""The case, and the parts it is made of. Replace: the framing first, then part by part."""

from __future__ import annotations

from pipelines.case_study import CaseStudy, Contributions, Framing
from pipelines.case_template.features import FEATURES
from pipelines.case_template.heuristics import HEURISTICS
from pipelines.case_template.label import ATTRIBUTION, LABEL
from pipelines.case_template.model import fit, load
from pipelines.case_template.params import TrainParams
from pipelines.case_template.predictions import predictions
from pipelines.case_template.protocols import LOGGED
from pipelines.case_template.serving import SERVING
from pipelines.case_template.sources import CSV
from pipelines.case_template.tables import TABLES

FRAMING = Framing(
    business_objective="Users find what they like among the first items they are shown.",
    ml_objective="How likely is it that this user clicks this item at this position?",
    label="Clicked within one hour of being shown.",
    attribution=ATTRIBUTION,
    primary_metric="normalized_entropy",
    guardrails=("calibration_error",),
    lower_is_better=("normalized_entropy", "calibration_error"),
)

CASE = CaseStudy(
    name="example_case",
    framing=FRAMING,
    tables=TABLES,
    sources=(CSV,),
    features=FEATURES,
    service="example_case_v1",
    label=LABEL,
    params=TrainParams,
    fit=fit,
    load=load,
    heuristics=HEURISTICS,
    protocols={LOGGED.name: LOGGED},
    predictions=predictions,
    serving=SERVING,
    contributions=Contributions(actor=("user_id",), target=("item_id",)),
)
