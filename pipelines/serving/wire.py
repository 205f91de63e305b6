"""What goes over the wire: typed requests and responses, made from a case's declaration."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from pipelines.case_study import Serving
from pipelines.serving.service import Collected, Decision
from pipelines.settings import UtcDatetime

MOST_ACTIONS = 1000


class Strict(BaseModel):
    """A model of the wire: no unknown field."""

    model_config = ConfigDict(extra="forbid")


class PlaceOut(Strict):
    """One place of an answer. Send its token back with what the user did."""

    impression_id: str
    position: int
    item: dict[str, str | int | float | bool | None] = Field(description="the keys of what stands there")
    score: float | None = Field(description="the model's score; null where the place was drawn at random")
    propensity: float
    details: dict[str, float | None] = {}
    token: str


class FeaturesOut(Strict):
    """How fresh what the answer was given with is."""

    as_of: datetime
    stale: bool


class DecisionOut(Strict):
    """An answer."""

    request_id: str
    time: datetime
    policy: str = Field(description="champion, challenger, previous or heuristic")
    model_version: str | None
    arm: str | None = Field(description="of the experiment that the request takes part in; null: none")
    explored: bool
    fallback: list[str] = Field(description="what had to stand in; empty when all is well")
    features: FeaturesOut
    logged: Literal["durable"] = "durable"
    places: list[PlaceOut]

    @classmethod
    def of(cls, found: Decision) -> DecisionOut:
        """Make it from a decision."""
        places = [
            PlaceOut(
                impression_id=each.impression_id,
                position=each.position,
                item=dict(each.item),
                score=each.score,
                propensity=each.propensity,
                details=dict(each.details),
                token=each.token,
            )
            for each in found.places
        ]
        return cls(
            request_id=found.request_id,
            time=found.time,
            policy=found.policy,
            model_version=found.model_version,
            arm=found.arm,
            explored=found.explored,
            fallback=list(found.fallback),
            features=FeaturesOut(as_of=found.features_as_of, stale=found.features_stale),
            places=places,
        )


class RefusedOut(Strict):
    """An action that went to quarantine."""

    action_id: str
    reason: str


class CollectedOut(Strict):
    """What became of a batch: all of it is durable."""

    accepted: int
    refused: list[RefusedOut]

    @classmethod
    def of(cls, found: Collected) -> CollectedOut:
        """Make it from what the service says."""
        refused = [RefusedOut(action_id=each["action_id"], reason=each["reason"]) for each in found.refused]
        return cls(accepted=found.accepted, refused=refused)


def actions_model(case: str, serving: Serving) -> type[BaseModel]:
    """Make the model of a batch of a case's actions, with what else they tell."""
    base: Any = Strict if serving.told is None else (Strict, serving.told)
    word: Any = Literal[serving.actions]
    identifier = Field(
        min_length=1,
        max_length=128,
        description="yours, of all your clients one alone (a UUID): sent twice it counts once",
    )
    action = create_model(
        f"{_camel(case)}Action",
        __base__=base,
        action_id=(str, identifier),
        token=(str, Field(min_length=1, max_length=2048, description="of the place that it is about")),
        action=(word, ...),
        value=(float | None, Field(default=None, allow_inf_nan=False)),
        action_time=(UtcDatetime | None, Field(default=None, description="default: when it arrives")),
    )
    several = Field(min_length=1, max_length=MOST_ACTIONS)
    made: type[BaseModel] = create_model(
        f"{_camel(case)}Actions",
        __base__=Strict,
        actions=(list[action], several),  # type: ignore[valid-type]
    )
    return made


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
