"""The tables of harmful content: a post is the request, the decision on it the impression.

Real sources may tell neither times nor authors, so both may be null here.
"""

from __future__ import annotations

import pandera.polars as pa
import polars as pl

from pipelines.case_study import Table
from pipelines.stores.schemas import Actions, Impressions, Requests, Rows, Utc

HARMS = ("hate", "violence", "offensive", "spam")
"""The classes of harm, the gravest first. A post may have several, or none."""
DECISIONS = ("allow", "review", "remove")
MOST_PEOPLE = 1e12
"""An audience beyond is no count of people, and would outweigh all others in what is shared out by it."""


class Authors(Rows):
    """Accounts, as they registered."""

    author_id: str = pa.Field(str_length={"min_value": 1})
    registered_at: Utc
    country: str = pa.Field(nullable=True)


class Posts(Requests):
    """A post was submitted; `audience` is how many people it is expected to reach."""

    request_time: Utc = pa.Field(nullable=True)
    author_id: str = pa.Field(nullable=True)
    text: str
    audience: float = pa.Field(nullable=True, ge=0, le=MOST_PEOPLE)
    client: str = pa.Field(nullable=True)


class Decisions(Impressions):
    """A post was let through, sent to review, or removed; `reports` had come in by then.

    `propensity` is the probability of this very decision: that a post was reviewed by chance, say.
    """

    impression_time: Utc = pa.Field(nullable=True)
    decision: str = pa.Field(isin=DECISIONS)
    reports: pl.Int64 = pa.Field(nullable=True, ge=0)


class PostActions(Actions):
    """A user's report, a reviewer's vote, the reviewers' verdict, an author's appeal, and its outcome.

    `harms` are those that were seen: none (an empty list) means that the post is harmless.
    """

    action: str = pa.Field(isin=["report", "vote", "verdict", "appeal", "outcome"])
    action_time: Utc = pa.Field(nullable=True)
    author_id: str = pa.Field(nullable=True)
    harms: pl.List = pa.Field(nullable=True, dtype_kwargs={"inner": pl.String})


TABLES = (
    Table("authors", ("author_id",), "registered_at", Authors),
    Table("requests", ("request_id",), "request_time", Posts),
    Table("impressions", ("impression_id",), "impression_time", Decisions),
    Table("actions", ("action_id",), "action_time", PostActions),
)
