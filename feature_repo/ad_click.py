"""Ad click prediction: what its models read, in training and in serving.

Counts and rates end in the days of their window; rates are shrunk towards 5 % as if 20 impressions had been
seen before. Snapshots are sparse: a row stands until the next one, so no view expires (ttl 0).
"""

from datetime import timedelta

from entities import user
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int64
from sources import snapshots

CASE = "ad_click"
FOREVER = timedelta(0)
STRING = ValueType.STRING

ad = Entity(name="ad", join_keys=["ad_id"], value_type=STRING, description="An ad of the catalogue.")
campaign = Entity(
    name="campaign", join_keys=["campaign_id"], value_type=STRING, description="An advertiser's campaign."
)
category = Entity(
    name="ad_category", join_keys=["category"], value_type=STRING, description="What ads are about."
)


def _schema(name: str) -> list[Field]:
    counts = [
        Field(name=f"{name}_{what}_{days}d", dtype=Int64)
        for days in (1, 7, 28)
        for what in ("impressions", "clicks")
    ]
    return counts + [Field(name=f"{name}_click_rate_{days}d", dtype=Float64) for days in (7, 28)]


ad_user_clicks = FeatureView(
    name="ad_user_clicks",
    description="How often a user was shown ads, and clicked.",
    entities=[user],
    ttl=FOREVER,
    source=snapshots(CASE, "ad_user_clicks"),
    schema=_schema("user"),
)

ad_clicks = FeatureView(
    name="ad_clicks",
    description="How often an ad was shown and clicked.",
    entities=[ad],
    ttl=FOREVER,
    source=snapshots(CASE, "ad_clicks"),
    schema=_schema("ad"),
)

ad_campaign_clicks = FeatureView(
    name="ad_campaign_clicks",
    description="How often the ads of a campaign were shown and clicked.",
    entities=[campaign],
    ttl=FOREVER,
    source=snapshots(CASE, "ad_campaign_clicks"),
    schema=_schema("campaign"),
)

ad_interest_clicks = FeatureView(
    name="ad_interest_clicks",
    description="How often a user was shown ads of a category, and clicked.",
    entities=[user, category],
    ttl=FOREVER,
    source=snapshots(CASE, "ad_interest_clicks"),
    schema=_schema("interest"),
)

ad_click_v1 = FeatureService(
    name="ad_click_v1",
    description="The trees that predict clicks.",
    features=[ad_user_clicks, ad_clicks, ad_campaign_clicks, ad_interest_clicks],
)
