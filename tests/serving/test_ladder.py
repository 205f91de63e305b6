"""Who answers when something breaks or changes: nobody waits, nobody goes away with nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from served_stub import (
    NAME,
    NOON,
    UNFIT,
    VIDEOS,
    Answers_,
    Shop,
    assemble,
    materialized,
    order,
    register,
    shown,
)
from starlette.testclient import TestClient

from pipelines.case_study import Answer
from pipelines.serving import ladder
from pipelines.stores.lake import Lake
from pipelines.stores.models import load_model
from pipelines.stores.registry import Registry

DECIDE = f"/v1/{NAME}/decide"


def decided(client: TestClient) -> dict[str, Any]:
    reply = client.post(DECIDE, json={"user_id": "u0"})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    assert answer["places"], "no answer is empty"
    return answer


def answering(shop: Shop) -> tuple[str, list[str], list[str]]:
    """Ask once: who answered, what is shown, what stood in."""
    with shop.client() as client:
        answer = decided(client)
    return answer["policy"], list(shown(answer)), answer["fallback"]


@contextmanager
def unplugged(registry: Registry) -> Iterator[None]:
    """Take the registry's database away, as an outage does."""
    path = Path(registry.tracking_uri.removeprefix("sqlite:///"))
    aside = path.with_suffix(".aside")
    registry.client._get_registry_client().store.engine.dispose()
    path.rename(aside)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        aside.rename(path)


def spoil(registry: Registry, version: Any) -> None:
    """Change a byte of a registered model."""
    path = registry.load(version) / "model" / "turned.json"
    path.write_text(path.read_text().replace("}", " }"))


def fail(error: Exception) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising


def wait_until(true: Callable[[], bool], seconds: float = 30) -> None:
    patience = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < patience, "nothing happened in time"
        time.sleep(0.02)


def test_a_new_champion_is_taken_up_within_seconds_and_no_request_is_dropped(shop: Shop) -> None:
    first = shop.publish(1)
    second = register(shop.registry, shop.ws.root / "trained-2", 2)
    shop.service.refresh()
    answers: list[tuple[float, dict[str, Any]]] = []
    failed: list[Any] = []
    enough = threading.Event()
    with shop.client(refresh=0.1) as client:

        def ask() -> None:
            while not enough.is_set():
                asked = time.monotonic()
                reply = client.post(DECIDE, json={"user_id": "u0"})
                if reply.status_code != 200:
                    failed.append(reply.text)
                else:
                    answers.append((asked, reply.json()))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: len(answers) >= 20)
            shop.registry.crown(second)
            moved = time.monotonic()
            wait_until(lambda: answers[-1][1]["model_version"] == second.number)
            taken_up = time.monotonic()
            known = len(answers)
            wait_until(lambda: len(answers) >= known + 20)
        finally:
            enough.set()
            for thread in threads:
                thread.join()
    assert not failed
    assert taken_up - moved < 10
    versions = {first.number: order(1), second.number: order(2)}
    assert {answer["model_version"] for _, answer in answers} == versions.keys()
    for _, answer in answers:  # none is half of one and half of the other
        assert (answer["policy"], answer["fallback"]) == ("champion", [])
        assert list(shown(answer)) == versions[answer["model_version"]]
    late = [answer["model_version"] for asked, answer in answers if asked > taken_up]
    assert late and set(late) == {second.number}
    logged = shop.logged("requests")
    assert set(logged["request_id"]) == {answer["request_id"] for _, answer in answers}
    assert dict(logged.select("request_id", "model_version").iter_rows()) == {
        answer["request_id"]: answer["model_version"] for _, answer in answers
    }


def test_a_new_champion_that_was_changed_is_refused_and_the_old_one_serves_on(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    second = shop.publish(2)
    spoil(shop.registry, second)
    for _ in range(3):  # told for as long as it stands
        shop.service.refresh()
        (problem,) = shop.service.state.problems
        assert f"version {second.number} is refused" in problem and "SHA-256 differs" in problem
        assert answering(shop) == ("previous", order(1), ["previous"])
    third = shop.publish(3)
    assert shop.service.refresh()
    assert answering(shop) == ("champion", order(3), [])
    assert shop.service.state.first.version == third.number
    assert shop.service.state.problems == ()


def test_at_the_start_a_champion_that_was_changed_gives_way_to_the_one_before(shop: Shop) -> None:
    shop.publish(1)
    spoil(shop.registry, shop.publish(2))
    fresh = assemble(shop.ws, shop.registry)
    policy, items, fallback = answering(fresh)
    assert (policy, items, fallback) == ("previous", order(1), ["previous"])
    assert "refused" in fresh.service.state.problems[0]
    fresh.service.close()


@pytest.mark.parametrize("at_start", [True, False])
def test_a_champion_that_todays_code_cannot_load_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    """Its files are whole: a parameter was renamed since, say."""
    shop.publish(1)
    shop.service.refresh()
    second = shop.publish(2)

    def load(case: Any, folder: Path) -> Any:
        if json.loads((folder / "model" / "turned.json").read_text())["turn"] == 2:
            raise KeyError("depth")
        return load_model(case, folder)

    monkeypatch.setattr(ladder, "load_model", load)
    served = assemble(shop.ws, shop.registry) if at_start else shop
    served.service.refresh()
    assert answering(served) == ("previous", order(1), ["previous"])
    (problem,) = served.service.state.problems
    assert f"version {second.number} cannot be loaded: KeyError: 'depth'" in problem
    materialized(shop.ws, NOON + timedelta(hours=1))
    assert served.service.refresh(), "what is newer is taken up all the same"
    served.service.close()


def test_a_model_that_cannot_be_read_just_now_is_tried_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.publish(1)
    shop.service.refresh()
    shop.publish(2)
    with monkeypatch.context() as patch:
        patch.setattr(ladder, "load_model", fail(PermissionError("model/turned.json")))
        assert not shop.service.refresh()
        assert any("cannot be read just now" in problem for problem in shop.service.state.problems)
        assert answering(shop) == ("champion", order(1), [])
    assert shop.service.refresh()
    assert answering(shop) == ("champion", order(2), []) and shop.service.state.problems == ()


def test_a_rollback_is_taken_up_too(shop: Shop) -> None:
    first = shop.publish(1)
    shop.publish(2)
    shop.service.refresh()
    assert answering(shop)[:2] == ("champion", order(2))
    shop.registry.crown(first)
    assert shop.service.refresh()
    assert answering(shop) == ("champion", order(1), [])
    assert [rung.policy for rung in shop.service.state.rungs] == ["champion", "previous", "heuristic"]


def test_an_outage_of_the_registry_is_told_and_nothing_changes(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    before = shop.service.state.rungs
    with unplugged(shop.registry):
        assert not shop.service.refresh()
        assert any("registry" in problem for problem in shop.service.state.problems)
        assert shop.service.state.rungs == before
        assert answering(shop) == ("champion", order(1), [])
    assert not shop.service.refresh()
    assert shop.service.state.problems == ()
    shop.publish(2)
    assert shop.service.refresh()
    assert answering(shop)[1] == order(2)


def test_a_champion_that_fails_to_answer_gives_way_to_the_last_good_one(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    shop.publish(-1)
    assert shop.service.refresh()
    assert answering(shop) == ("previous", order(1), ["previous"])
    assert shop.service.counts["failed_champion"] == 1
    assert shop.logged("requests")["policy"].to_list() == ["previous"], "the log tells who answered"


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda answer: replace(answer, ranked=answer.ranked + VIDEOS),
        lambda answer: replace(answer, ranked=answer.ranked - VIDEOS),
        lambda answer: replace(answer, ranked=answer.ranked[0], scores=answer.scores[0]),
        lambda answer: replace(answer, ranked=answer.ranked.astype(float)),
        lambda answer: replace(answer, scores=answer.scores[:, :1]),
        lambda answer: replace(answer, ranked=np.full_like(answer.ranked, -1)),
        lambda answer: replace(answer, pool=answer.pool.clear()),
        lambda answer: replace(answer, chances=np.full(VIDEOS, 1 / VIDEOS)),
        lambda answer: replace(answer, details={"sure": np.zeros(3)}),
    ],
)
def test_an_answer_that_cannot_be_shown_gives_way_as_one_that_fails(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, spoilt: Callable[[Answer], Answer]
) -> None:
    shop.publish(1)
    shop.service.refresh()
    shop.publish(2)
    assert shop.service.refresh()
    good = Answers_.answer

    def answer(self: Answers_, asked: pl.DataFrame) -> Answer:
        found = good(self, asked)
        return spoilt(found) if self.turn == 2 else found

    monkeypatch.setattr(Answers_, "answer", answer)
    assert answering(shop) == ("previous", order(1), ["previous"])
    assert shop.service.counts["failed_champion"] == 1


def test_where_all_models_fail_the_heuristic_answers(shop: Shop) -> None:
    shop.publish(-1)
    shop.publish(-2)
    shop.service.refresh()
    assert answering(shop) == ("heuristic", order(0), ["heuristic"])
    assert shop.logged("requests")["model_version"].to_list() == [None]


def test_a_model_that_cannot_be_made_ready_is_told(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    shop.publish(UNFIT)
    assert shop.service.refresh()
    stock = shop.service.state.stock
    for _ in range(2):
        assert "cannot be made ready" in shop.service.state.problems[0]
        assert answering(shop) == ("previous", order(1), ["previous"])
        assert not shop.service.refresh(), "nothing new: it is not tried again and again"
    assert shop.service.state.stock is stock


def test_a_dead_online_store_means_features_that_are_null(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    shop.own.down = True
    assert answering(shop) == ("champion", order(1), ["no_features"])
    shop.own.down = False
    assert answering(shop) == ("champion", order(1), [])
    assert shop.logged("_served").select("features_read", "seen").rows() == [(False, None), (True, 7)]


def test_a_user_without_features_gets_an_answer(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    (answer,) = shop.service.decide([shop.service.serving.request(user_id="nobody")])
    assert answer.policy == "champion" and len(answer.places) == 3 and answer.fallback == ()
    assert shop.logged("_served")["seen"].to_list() == [None]


def test_old_features_are_told_and_newer_ones_taken_up(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    shop.now = NOON + timedelta(days=2, seconds=1)
    assert answering(shop)[2] == ["stale_features"]
    videos = Lake(shop.ws.lake, shop.service.case.tables).scan("videos").collect()
    new = videos.head(1).with_columns(video_id=pl.lit("v99"), arrived_at=pl.lit(NOON + timedelta(days=1)))
    Lake(shop.ws.lake, shop.service.case.tables).append("videos", new)
    materialized(shop.ws, NOON + timedelta(days=2))
    assert shop.service.refresh()
    assert answering(shop)[2] == []
    assert "v99" in shop.service.state.stock.table("videos")["video_id"]


def test_features_that_cannot_be_read_again_leave_the_old_ones(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    note = shop.ws.online / f"materialized-{NAME}.json"
    whole = note.read_text()
    note.unlink()
    assert not shop.service.refresh()
    assert "holds no features" in shop.service.state.problems[0]
    assert answering(shop) == ("champion", order(1), [])
    note.write_text(whole)
    shop.service.refresh()
    assert shop.service.state.problems == ()


def test_a_catalogue_that_is_spoiled_on_the_disk_leaves_the_old_one(shop: Shop) -> None:
    shop.publish(1)
    shop.service.refresh()
    (file,) = shop.ws.lake.glob("videos/**/*.parquet")
    whole = file.read_bytes()
    file.write_bytes(b"spoiled")
    materialized(shop.ws, NOON + timedelta(days=1))
    assert not shop.service.refresh()
    assert "cannot be taken up" in shop.service.state.problems[0]
    assert answering(shop) == ("champion", order(1), [])
    file.write_bytes(whole)
    assert shop.service.refresh()
    assert shop.service.state.stock.moment == NOON + timedelta(days=1)
    assert shop.service.state.problems == ()
