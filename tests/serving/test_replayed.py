"""Tokens over HTTP: forged, replayed, expired, of another system; and what of it reaches the lake."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import polars as pl
from served_stub import CASE, KEY, LIFE, NAME, Shop, click
from starlette.testclient import TestClient

from pipelines.serving.tokens import Tokens
from pipelines.steps.ingest import Manifest, ingest_log
from pipelines.stores.lake import Lake
from pipelines.stores.quarantine import Quarantine

DECIDE, ACTIONS = f"/v1/{NAME}/decide", f"/v1/{NAME}/actions"


def place(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.post(DECIDE, json={"user_id": "u0"}).json()["places"][0]
    return found


def send(client: TestClient, *actions: dict[str, Any]) -> dict[str, Any]:
    reply = client.post(ACTIONS, json={"actions": list(actions)})
    assert reply.status_code == 200, reply.text
    said: dict[str, Any] = reply.json()
    return said


def ingested(shop: Shop) -> tuple[Manifest, pl.DataFrame, list[str]]:
    """Ingest the log; return the manifest, the lake's actions, and why others are in quarantine."""
    manifest = ingest_log(CASE, shop.ws, shop.log, as_of=shop.now)
    refused = Quarantine(shop.ws.quarantine, shop.ws.lake.name).entries("actions")
    reasons = [each.problems[0]["reason"] for each in refused]
    return manifest, Lake(shop.ws.lake, CASE.tables).scan("actions").collect(), reasons


def test_an_action_that_is_replayed_counts_once_whenever_it_comes(shop: Shop, client: TestClient) -> None:
    token = place(client)["token"]
    first = click(token, "a1", value=1.0)
    assert send(client, first, first)["accepted"] == 2
    manifest, kept, _ = ingested(shop)
    assert manifest.tables["actions"].duplicate == 1
    shop.now += timedelta(days=1)
    changed = click(token, "a1", value=5.0, action_time="2026-02-01T12:30:00Z")
    assert send(client, changed)["accepted"] == 1
    manifest, again, _ = ingested(shop)
    assert again.rows() == kept.rows(), "the first to arrive stays"
    assert kept.height == 1 and manifest.tables["actions"].duplicate == 1


def test_a_token_earns_several_actions_by_ids_of_their_own(shop: Shop, client: TestClient) -> None:
    """Replays of a token under new ids are rows of one impression: what they may earn, limits and labels say."""
    shown = place(client)
    assert send(client, *(click(shown["token"], f"a{n}") for n in range(3)))["accepted"] == 3
    _, kept, _ = ingested(shop)
    assert kept["action_id"].sort().to_list() == ["a0", "a1", "a2"]
    assert set(kept["impression_id"]) == {shown["impression_id"]}, "no token earns for another place"


def test_what_is_forged_expired_or_of_another_system_is_quarantined(shop: Shop, client: TestClient) -> None:
    claims = {"impression_id": "i1", "user_id": "u0", "video_id": "v0"}
    other = Tokens([KEY], LIFE).sign("another_case", claims, shop.now)
    foreign = Tokens([b"z" * 32], LIFE).sign(NAME, claims, shop.now)
    token = place(client)["token"]
    cut = token[:-5] + ("AAAAA" if token[-5:] != "AAAAA" else "BBBBB")
    said = send(
        client, *(click(each, f"a{n}") for n, each in enumerate([other, foreign, cut, "hello", token]))
    )
    told = {each["action_id"]: each["reason"] for each in said["refused"]}
    assert said["accepted"] == 1
    assert told == {"a0": "other case", "a1": "forged", "a2": "forged", "a3": "malformed"}
    shop.now += LIFE
    assert send(client, click(token, "a5"))["accepted"] == 1, "a token is good for its life"
    shop.now += timedelta(seconds=1)
    assert send(client, click(token, "a6"))["refused"] == [{"action_id": "a6", "reason": "expired"}]
    assert send(client, click(cut, "a7"))["refused"][0]["reason"] == "forged", "age is no secret to be told"
    _, kept, reasons = ingested(shop)
    assert kept["action_id"].sort().to_list() == ["a4", "a5"]
    assert Counter(reasons) == {"other case": 1, "forged": 3, "malformed": 1, "expired": 1}


def test_an_id_that_was_refused_may_come_back_with_a_right_token(shop: Shop, client: TestClient) -> None:
    token = place(client)["token"]
    assert send(client, click("hello", "a1"))["accepted"] == 0
    assert send(client, click(token, "a1"))["accepted"] == 1
    _, kept, reasons = ingested(shop)
    assert kept["action_id"].to_list() == ["a1"] and reasons == ["malformed"]
