"""Real rows for ad click prediction: the WNS click prediction data, and the Open Bandit logs.

wns           `X.csv` (session_id, DateTime, user_id, product, campaign_id, …) and `y.csv`: 0 or 1, no header,
              aligned by row. Nobody observed positions, or when a click came: it counts as at once.
open-bandit   a folder `random/` or `bts/` a policy, or one policy's files by themselves: `all.csv`, `men.csv` or
              `women.csv` (timestamp, item_id, position, click, propensity_score, …) and `item_context.csv`.

Both name no ad. In wns an ad is what shares product, campaign and categories. Open Bandit's items are ads of
one campaign; hashed codes of the items differ from policy to policy, so those of the first folder are kept.
"""

from __future__ import annotations

from pipelines.case_study import Observed, Source
from pipelines.cases.ad_click.open_bandit import read_open_bandit
from pipelines.cases.ad_click.wns import read_wns

WNS = Source(
    name="wns",
    describe="ad impressions of six days with user, campaign, product and page, and whether they were clicked",
    observed=Observed(positions=False, propensities=False),
    protocols=("time",),
    read=read_wns,
    zone="UTC",
)
"""The publisher does not say in which zone its times are; UTC keeps its days and hours as they are written."""

OPEN_BANDIT = Source(
    name="open-bandit",
    describe="items shown on a fashion shop's page by two policies, with position, propensity and click",
    observed=Observed(authors=False),
    protocols=("time",),
    read=read_open_bandit,
)
