"""What the models read, in training and in serving. Replace: with what features.py computes.

Counts and rates end in the days of their window. Snapshots are sparse: a row stands until the next one, so no view
expires (ttl 0).
"""

from datetime import timedelta

from entities import user
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int64
from sources import snapshots

CASE = "example_case"
FOREVER = timedelta(0)

item = Entity(
    name="example_case_item",
    join_keys=["item_id"],
    value_type=ValueType.STRING,
    description="An item of the catalogue.",
)


def _schema(name: str) -> list[Field]:
    counts = [
        Field(name=f"{name}_{what}_{days}d", dtype=Int64)
        for days in (7, 28)
        for what in ("impressions", "clicks")
    ]
    return counts + [Field(name=f"{name}_click_rate_{days}d", dtype=Float64) for days in (7, 28)]


users = FeatureView(
    name="example_case_user",
    description="How often a user was shown items, and clicked.",
    entities=[user],
    ttl=FOREVER,
    source=snapshots(CASE, "example_case_user"),
    schema=_schema("user"),
)

items = FeatureView(
    name="example_case_item",
    description="How often an item was shown and clicked.",
    entities=[item],
    ttl=FOREVER,
    source=snapshots(CASE, "example_case_item"),
    schema=_schema("item"),
)

service = FeatureService(
    name="example_case_v1",
    description="The trees that predict clicks.",
    features=[users, items],
)
