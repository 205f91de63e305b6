"""What is sent or shown and would not be logged is refused in words: training would see nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import served_stub
from pydantic import BaseModel
from served_stub import CASE, SERVING, Ask, Shop, ready

from pipelines.case_study import Answer, Serving, Stock
from pipelines.errors import LoopError
from pipelines.serving.rows import check_logged, log_tables

TABLES = log_tables(CASE)


class More(Ask):
    """A request with a field that no table has."""

    mood: str | None = None


class Placed(Ask):
    """A request with a field that stands beside what was shown."""

    explored: bool | None = None


class Told(BaseModel):
    """What an action tells, with a field that no table has."""

    action: str
    stars: int | None = None


class Wide:
    """Answers as the stub does, out of a pool with a column that impressions lack."""

    def __init__(self, stock: Stock) -> None:
        self._plain = ready(served_stub.Turned(0), stock)

    def answer(self, asked: Any) -> Answer:
        found = self._plain.answer(asked)
        return replace(found, pool=found.pool.with_columns(shelf=pl.lit("upper")))


def test_a_request_field_that_no_table_keeps_is_refused_when_the_service_opens(shop: Shop) -> None:
    service = shop.service
    serving = replace(SERVING, request=More)
    given = (service._ladder, service._own, shop.log, service._tokens, service.options, lambda: shop.now)
    with pytest.raises(LoopError, match=r"shop: 'mood' of More is no column of 'requests' or 'impressions'"):
        type(service)(CASE, serving, *given, service._rng)


@pytest.mark.parametrize("serving", [SERVING, replace(SERVING, request=Placed)])
def test_what_requests_or_impressions_keep_is_taken(serving: Serving) -> None:
    check_logged(CASE, serving, TABLES)


def test_what_an_action_tells_and_no_table_keeps_is_refused() -> None:
    with pytest.raises(LoopError, match=r"'stars' of Told is no column of 'actions'.*declare the column"):
        check_logged(CASE, replace(SERVING, told=Told), TABLES)


def rungs(shop: Shop, answers: Mapping[str, Any]) -> None:
    """Let others stand on the ladder."""
    state = shop.service.state
    found = tuple(replace(rung, answerer=answers.get(rung.policy, rung.answerer)) for rung in state.rungs)
    shop.service._ladder.state = replace(state, rungs=found)


def test_a_pool_that_is_not_logged_does_not_answer(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """The next one answers; where there is none, the first request says why."""
    shop.publish(1)
    shop.service.refresh()
    wide = Wide(shop.service.state.stock)
    rungs(shop, {"champion": wide})
    (answer,) = shop.service.decide([Ask(user_id="u0")])
    assert answer.policy == "heuristic" and shop.service.counts["failed_champion"] == 1
    assert "shop: 'shelf' of an answer's pool is no column of 'impressions'" in caplog.text
    rungs(shop, {"champion": wide, "heuristic": wide})
    with pytest.raises(LoopError, match="declare the column, or leave it out of the pool"):
        shop.service.decide([Ask(user_id="u0")])
