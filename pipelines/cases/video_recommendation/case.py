"""Video recommendation: retrieve a few hundred of all videos, rank them, show ten."""

from __future__ import annotations

from pipelines.case_study import CaseStudy, Contributions, Framing
from pipelines.cases.video_recommendation.features import FEATURES
from pipelines.cases.video_recommendation.fitting import fit
from pipelines.cases.video_recommendation.heuristics import HEURISTICS
from pipelines.cases.video_recommendation.label import ATTRIBUTION, LABEL
from pipelines.cases.video_recommendation.logged import LOGGED
from pipelines.cases.video_recommendation.model import load
from pipelines.cases.video_recommendation.next_watches import RANDOM, TIME
from pipelines.cases.video_recommendation.params import VideoParams
from pipelines.cases.video_recommendation.predictions import predictions
from pipelines.cases.video_recommendation.serving import SERVING
from pipelines.cases.video_recommendation.sources import MOVIETWEETINGS
from pipelines.cases.video_recommendation.tables import TABLES

FRAMING = Framing(
    business_objective="People spend their time on the home page well: they watch what they are shown, and "
    "come back.",
    ml_objective="Of all live videos, order those first that this user would watch at least half of now.",
    label="Watched at least half within 24 hours of being shown; a rating stands for a watch.",
    attribution=ATTRIBUTION,
    primary_metric="ndcg_at_10",
    guardrails=("coverage_at_10",),
)

CASE = CaseStudy(
    name="video_recommendation",
    framing=FRAMING,
    tables=TABLES,
    sources=(MOVIETWEETINGS,),
    features=FEATURES,
    service="video_recommendation_v1",
    label=LABEL,
    params=VideoParams,
    fit=fit,
    load=load,
    heuristics=HEURISTICS,
    protocols={each.name: each for each in (LOGGED, TIME, RANDOM)},
    predictions=predictions,
    serving=SERVING,
    contributions=Contributions(actor=("user_id",), target=("video_id",)),
)
