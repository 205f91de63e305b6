"""Harmful content: what its models read of a post's author, in training and in serving.

Counts and rates end in the days of their window. Snapshots are sparse: a row stands until the next one,
so no view expires (ttl 0).
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Float64, Int64, String
from sources import snapshots

CASE = "harmful_content"
FOREVER = timedelta(0)

author = Entity(
    name="author", join_keys=["author_id"], value_type=ValueType.STRING, description="Somebody who posts."
)

author_record = FeatureView(
    name="author_record",
    description="What became of an author's posts lately: reports, reviews, appeals.",
    entities=[author],
    ttl=FOREVER,
    source=snapshots(CASE, "author_record"),
    schema=[
        Field(name="author_posts_7d", dtype=Int64),
        Field(name="author_reports_7d", dtype=Int64),
        Field(name="author_reviews_7d", dtype=Int64),
        Field(name="author_harmful_7d", dtype=Int64, description="Reviews that found any harm."),
        Field(name="author_posts_28d", dtype=Int64),
        Field(name="author_reports_28d", dtype=Int64),
        Field(name="author_reviews_28d", dtype=Int64),
        Field(name="author_harmful_28d", dtype=Int64),
        Field(name="author_harm_rate_28d", dtype=Float64, description="Harmful of all reviews, shrunk."),
        Field(name="author_hate_28d", dtype=Int64),
        Field(name="author_violence_28d", dtype=Int64),
        Field(name="author_offensive_28d", dtype=Int64),
        Field(name="author_spam_28d", dtype=Int64),
        Field(name="author_overturned_28d", dtype=Int64, description="Verdicts overturned on appeal."),
    ],
)

author_profile = FeatureView(
    name="author_profile",
    description="The account, as it registered.",
    entities=[author],
    ttl=FOREVER,
    source=snapshots(CASE, "author_profile"),
    schema=[
        Field(name="author_country", dtype=String),
        Field(name="author_since", dtype=Int64, description="Unix seconds."),
    ],
)

harmful_content_v1 = FeatureService(
    name="harmful_content_v1",
    description="What the classifier knows of a post's author.",
    features=[author_record, author_profile],
)
