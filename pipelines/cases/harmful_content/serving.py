"""How a post is decided on: let through, sent to review, or removed. Explored answers are audits: reviews by chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.case_study import Answer, Serving, Stock
from pipelines.cases.harmful_content.model import HarmModel
from pipelines.cases.harmful_content.posts import distinct
from pipelines.cases.harmful_content.tables import DECISIONS, HARMS, MOST_PEOPLE

ALLOW, REVIEW, REMOVE = range(len(DECISIONS))
POOL = pl.DataFrame({"decision": DECISIONS})
AUDIT = np.array([0.0, 1.0, 0.0])
MANY_REPORTS = 2
SEES = ("report", "vote", "verdict", "outcome")
"""Actions that say what was seen in a post; an appeal says only that its author disagrees."""
_HARM: Any = Literal[HARMS]


class PostRequest(BaseModel):
    """A post was submitted, or gained reports and is looked at again."""

    model_config = ConfigDict(extra="forbid")

    author_id: str = Field(min_length=1, max_length=128)
    text: str = Field(max_length=10_000)
    audience: float | None = Field(default=None, ge=0, le=MOST_PEOPLE)
    client: str | None = Field(default=None, max_length=32)
    reports: int | None = Field(default=None, ge=0)


class PostTold(BaseModel):
    """What an action tells of a post: the harms that were seen in it."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"action": {"enum": list(SEES)}}},
            "then": {"required": ["harms"], "properties": {"harms": {"type": "array"}}},
        }
    )

    action: str
    harms: list[_HARM] | None = Field(
        default=None,
        max_length=len(HARMS),
        description=f"needed by {', '.join(SEES)}; empty: none was seen",
        examples=[["spam"]],
    )

    @model_validator(mode="after")
    def _seen(self) -> Self:
        if self.harms is None and self.action in SEES:
            raise ValueError(f"a {self.action} tells the harms that were seen: 'harms' is missing ([]: none)")
        return self


@dataclass(frozen=True)
class ModelDecides:
    """The model's thresholds: sure enough to remove, likely enough to be looked at, or neither."""

    model: HarmModel

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Decide on posts; the score is the greatest probability of any harm, the details those of each."""
        posts, place = distinct(asked)
        scores = self.model.scores(posts)[place]
        likely = np.where(self.model.names(scores) > 0, REVIEW, ALLOW)
        decision = np.where(self.model.removes(scores), REMOVE, likely)
        details = {harm: scores[:, [k]] for k, harm in enumerate(self.model.harms)}
        return Answer(POOL, decision[:, None], scores.max(axis=1, keepdims=True), AUDIT, details)


class ReportsDecide:
    """Without a model: what was reported twice is reviewed."""

    def answer(self, asked: pl.DataFrame) -> Answer:
        """Decide on posts by their reports."""
        reports = asked["reports"].cast(pl.Float64).fill_null(0.0).to_numpy()
        decision = np.where(reports >= MANY_REPORTS, REVIEW, ALLOW)
        return Answer(POOL, decision[:, None], reports[:, None], AUDIT)


def ready(model: HarmModel, stock: Stock) -> ModelDecides:
    """Let a model decide; it needs no stock."""
    return ModelDecides(model)


def fallback(stock: Stock) -> ReportsDecide:
    """Let the reports decide."""
    return ReportsDecide()


SERVING = Serving(
    request=PostRequest,
    actions=("report", "vote", "verdict", "appeal", "outcome"),
    places=1,
    own=("author_record", "author_profile"),
    views=(),
    tables=(),
    ready=ready,
    fallback=fallback,
    told=PostTold,
    decisions=DECISIONS,
)
