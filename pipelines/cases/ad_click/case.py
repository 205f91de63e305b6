"""Ad click prediction: how likely is it that this user clicks this ad here and now?"""

from __future__ import annotations

from pipelines.case_study import CaseStudy, Contributions, Framing
from pipelines.cases.ad_click.features import FEATURES
from pipelines.cases.ad_click.heuristics import HEURISTICS
from pipelines.cases.ad_click.label import ATTRIBUTION, LABEL
from pipelines.cases.ad_click.model import fit, load
from pipelines.cases.ad_click.params import AdParams
from pipelines.cases.ad_click.predictions import predictions
from pipelines.cases.ad_click.protocols import LOGGED, TIME
from pipelines.cases.ad_click.serving import SERVING
from pipelines.cases.ad_click.sources import OPEN_BANDIT, WNS
from pipelines.cases.ad_click.tables import TABLES

FRAMING = Framing(
    business_objective="Each ad place earns what it can, and no advertiser pays for a click that was never "
    "likely.",
    ml_objective="How likely is it that this user clicks this ad here and now? An auction multiplies the answer "
    "by a bid, so it has to be a probability, not an order.",
    label="Clicked within one hour of being shown.",
    attribution=ATTRIBUTION,
    primary_metric="normalized_entropy",
    guardrails=("calibration_error",),
    lower_is_better=("normalized_entropy", "log_loss", "calibration_error"),
)

CASE = CaseStudy(
    name="ad_click",
    framing=FRAMING,
    tables=TABLES,
    sources=(WNS, OPEN_BANDIT),
    features=FEATURES,
    service="ad_click_v1",
    label=LABEL,
    params=AdParams,
    fit=fit,
    load=load,
    heuristics=HEURISTICS,
    protocols={each.name: each for each in (LOGGED, TIME)},
    predictions=predictions,
    serving=SERVING,
    contributions=Contributions(actor=("user_id",), target=("ad_id",)),
)
