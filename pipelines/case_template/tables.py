"""The tables: a catalogue, requests, impressions, actions. Replace: the columns that yours have."""

from __future__ import annotations

from typing import Optional

import pandera.polars as pa

from pipelines.case_study import Table
from pipelines.stores.schemas import Actions, Impressions, Requests, Rows, Utc

PLACES = 3
"""How many items a request is shown."""


class Items(Rows):
    """What can be shown. `available_until` is null, or left out, where nobody can tell."""

    item_id: str = pa.Field(str_length={"min_value": 1})
    kind: str = pa.Field(nullable=True)
    created_at: Utc
    available_until: Optional[Utc] = pa.Field(nullable=True)  # noqa: UP045  # pandera reads "may be absent" from Optional


class ItemRequests(Requests):
    """Somebody asks for items; `segment` is what is known of them."""

    user_id: str = pa.Field(str_length={"min_value": 1})
    segment: str = pa.Field(nullable=True)


class ItemImpressions(Impressions):
    """An item shown at a position. `explored` where the places were filled uniformly at random."""

    user_id: str = pa.Field(str_length={"min_value": 1})
    segment: str = pa.Field(nullable=True)
    item_id: str = pa.Field(str_length={"min_value": 1})
    kind: str = pa.Field(nullable=True)
    explored: bool = pa.Field(nullable=True)


class ItemActions(Actions):
    """A click."""

    action: str = pa.Field(isin=["click"])
    user_id: str = pa.Field(str_length={"min_value": 1})
    item_id: str = pa.Field(str_length={"min_value": 1})


TABLES = (
    Table("items", ("item_id",), "created_at", Items),
    Table("requests", ("request_id",), "request_time", ItemRequests),
    Table("impressions", ("impression_id",), "impression_time", ItemImpressions),
    Table("actions", ("action_id",), "action_time", ItemActions),
)
