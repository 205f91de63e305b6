"""Video recommendation: what its models read, in training and in serving.

Counts and rates end in the days of their window. Times are Unix seconds. Snapshots are sparse: a row
stands until the next one, so no view expires (ttl 0).
"""

from datetime import timedelta

from entities import user, video
from feast import FeatureService, FeatureView, Field
from feast.types import Array, Float64, Int64, String
from sources import snapshots

CASE = "video_recommendation"
FOREVER = timedelta(0)

user_activity = FeatureView(
    name="user_activity",
    description="What a user was shown and did lately.",
    entities=[user],
    ttl=FOREVER,
    source=snapshots(CASE, "user_activity"),
    schema=[
        Field(name="user_impressions_1d", dtype=Int64),
        Field(name="user_watches_1d", dtype=Int64),
        Field(name="user_watch_rate_1d", dtype=Float64),
        Field(name="user_impressions_7d", dtype=Int64),
        Field(name="user_watches_7d", dtype=Int64),
        Field(name="user_watch_rate_7d", dtype=Float64),
        Field(name="user_impressions_28d", dtype=Int64),
        Field(name="user_watches_28d", dtype=Int64),
        Field(name="user_watch_rate_28d", dtype=Float64),
        Field(name="user_clicks_7d", dtype=Int64),
        Field(name="user_likes_28d", dtype=Int64),
        Field(name="user_mean_value_28d", dtype=Float64, description="Mean share watched, or mean rating."),
        Field(name="user_days_active_28d", dtype=Int64),
        Field(name="user_last_active", dtype=Int64, description="Null after 28 quiet days."),
    ],
)

user_history = FeatureView(
    name="user_history",
    description="The last 50 videos a user watched or rated, newest first.",
    entities=[user],
    ttl=FOREVER,
    source=snapshots(CASE, "user_history"),
    schema=[
        Field(name="recent_videos", dtype=Array(String)),
        Field(name="recent_values", dtype=Array(Float64), description="Share watched, or rating."),
        Field(name="recent_times", dtype=Array(Int64)),
    ],
)

video_popularity = FeatureView(
    name="video_popularity",
    description="How often a video was shown, watched and liked lately.",
    entities=[video],
    ttl=FOREVER,
    source=snapshots(CASE, "video_popularity"),
    schema=[
        Field(name="video_watches_1d", dtype=Int64),
        Field(name="video_watches_7d", dtype=Int64),
        Field(name="video_watches_28d", dtype=Int64),
        Field(name="video_watches_90d", dtype=Int64),
        Field(name="video_watches_365d", dtype=Int64),
        Field(name="video_impressions_1d", dtype=Int64),
        Field(name="video_watch_rate_1d", dtype=Float64),
        Field(name="video_impressions_7d", dtype=Int64),
        Field(name="video_watch_rate_7d", dtype=Float64),
        Field(name="video_impressions_28d", dtype=Int64),
        Field(name="video_watch_rate_28d", dtype=Float64),
        Field(name="video_likes_28d", dtype=Int64),
        Field(name="video_mean_value_28d", dtype=Float64, description="Mean share watched, or mean rating."),
        Field(name="video_mean_value_365d", dtype=Float64),
        Field(name="video_watchers_28d", dtype=Int64, description="Distinct users who watched."),
        Field(name="video_first_seen", dtype=Int64, description="Within the last 365 days."),
    ],
)

video_profile = FeatureView(
    name="video_profile",
    description="The catalogue, as it was known at the time.",
    entities=[video],
    ttl=FOREVER,
    source=snapshots(CASE, "video_profile"),
    schema=[
        Field(name="published_at", dtype=Int64, description="Null where the publisher does not tell it."),
        Field(name="duration_seconds", dtype=Float64),
        Field(name="genres", dtype=Array(String)),
        Field(name="creator_id", dtype=String),
        Field(name="language", dtype=String),
    ],
)

video_recommendation_v1 = FeatureService(
    name="video_recommendation_v1",
    description="Two-tower retrieval and the ranker behind it.",
    features=[user_activity, user_history, video_popularity, video_profile],
)
