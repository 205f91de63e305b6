"""The tables of ad click prediction."""

from __future__ import annotations

from typing import Optional

import pandera.polars as pa

from pipelines.case_study import Table
from pipelines.stores.schemas import Actions, Impressions, Requests, Rows, Utc

USER_CONTEXT = (
    "audience",
    "gender",
    "age",
    "city_level",
    "depth",
    "trait_0",
    "trait_1",
    "trait_2",
    "trait_3",
)
"""What was known of the user when they asked; the traits are a publisher's own, without a meaning."""
PAGE_CONTEXT = ("device", "site")


class Ads(Rows):
    """The catalogue; `created_at` is null where a publisher does not tell it.

    `available_until` says when an ad's campaign ends; null, or left out, where nobody can tell.
    """

    ad_id: str = pa.Field(str_length={"min_value": 1})
    campaign_id: str = pa.Field(nullable=True)
    category: str = pa.Field(nullable=True)
    subcategory: str = pa.Field(nullable=True)
    product: str = pa.Field(nullable=True)
    bid: float = pa.Field(nullable=True, gt=0)
    created_at: Utc = pa.Field(nullable=True)
    available_until: Optional[Utc] = pa.Field(nullable=True)  # noqa: UP045  # pandera reads "may be absent" from Optional


class AdRequests(Requests):
    """A page asks for ads; `user_id` is null where the log names nobody."""

    user_id: str = pa.Field(nullable=True)
    device: str = pa.Field(nullable=True)
    site: str = pa.Field(nullable=True)
    audience: str = pa.Field(nullable=True)
    gender: str = pa.Field(nullable=True)
    age: str = pa.Field(nullable=True)
    city_level: str = pa.Field(nullable=True)
    depth: str = pa.Field(nullable=True)
    trait_0: str = pa.Field(nullable=True)
    trait_1: str = pa.Field(nullable=True)
    trait_2: str = pa.Field(nullable=True)
    trait_3: str = pa.Field(nullable=True)


class AdImpressions(Impressions):
    """An ad shown at a position of a page.

    `explored` where the page was filled uniformly at random; `affinity` is the publisher's own count of how
    often the user clicked the ad's item before.
    """

    user_id: str = pa.Field(nullable=True)
    ad_id: str = pa.Field(str_length={"min_value": 1})
    campaign_id: str = pa.Field(nullable=True)
    category: str = pa.Field(nullable=True)
    explored: bool = pa.Field(nullable=True)
    affinity: float = pa.Field(nullable=True)


class AdActions(Actions):
    """A click."""

    action: str = pa.Field(isin=["click"])
    user_id: str = pa.Field(nullable=True)
    ad_id: str = pa.Field(str_length={"min_value": 1})
    campaign_id: str = pa.Field(nullable=True)
    category: str = pa.Field(nullable=True)


TABLES = (
    Table("ads", ("ad_id",), "created_at", Ads),
    Table("requests", ("request_id",), "request_time", AdRequests),
    Table("impressions", ("impression_id",), "impression_time", AdImpressions),
    Table("actions", ("action_id",), "action_time", AdActions),
)
