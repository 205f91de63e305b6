"""Whatever is sent, the answer is one that the document describes: never a fault of the service."""

from __future__ import annotations

from typing import Any

import pytest
from probe_help import probe
from served_stub import NAME, Shop, click
from starlette.testclient import TestClient
from wire_help import JSON, bodies, check_problem, dumped, spoiled, wrong_actions

from pipelines.serving.app import make_app
from pipelines.serving.keys import Keys
from pipelines.serving.tokens import Tokens

DECIDE, ACTIONS = f"/v1/{NAME}/decide", f"/v1/{NAME}/actions"
GOOD = {
    "user_id": "u0",
    "device": "d",
    "visits": 1,
    "budget": 0.5,
    "new": True,
    "since": "2026-02-01T12:00:00Z",
}


def token(client: TestClient) -> str:
    found: str = client.post(DECIDE, json={"user_id": "u0"}).json()["places"][0]["token"]
    return found


def post(client: TestClient, path: str, content: bytes, media: str = JSON) -> Any:
    return client.post(path, content=content, headers={"content-type": media})


def test_a_body_that_is_wrong_is_told_so(client: TestClient, shop: Shop) -> None:
    for name, content in bodies():
        for path in (DECIDE, ACTIONS):
            assert check_problem(post(client, path, content))["status"] in (400, 422), name
    assert shop.log.end == 0


def test_other_media_are_read_as_json_or_refused(client: TestClient) -> None:
    for media in ("text/plain", "application/xml", "multipart/form-data", "", "application/json; charset=x"):
        assert post(client, DECIDE, b'{"user_id": "u0"}', media).status_code in (200, 415, 422), media
        check_problem(post(client, DECIDE, b"<user_id>u0</user_id>", media))


def test_any_value_in_any_field_is_kept_or_refused(client: TestClient, shop: Shop) -> None:
    kept = 0
    for name, body in spoiled(GOOD):
        reply = post(client, DECIDE, dumped(body))
        if reply.status_code == 200:
            kept += 1
            assert len(reply.json()["places"]) == 3, name
        else:
            assert check_problem(reply)["status"] == 422, name
    assert shop.logged("requests").height == shop.logged("_served").height == kept > 0


def test_any_value_in_an_action_is_kept_or_refused(client: TestClient, shop: Shop) -> None:
    mark = token(client)
    before, kept = shop.log.end, 0
    for name, body in wrong_actions(mark, "click"):
        reply = post(client, ACTIONS, dumped(body))
        if reply.status_code == 200:
            said = reply.json()
            assert said["accepted"] + len(said["refused"]) == len(body["actions"]), name
            kept += len(body["actions"])
        else:
            assert check_problem(reply)["status"] == 422, name
    rows = shop.logged("actions")
    assert rows.height + shop.logged("_refused").height == kept > 0
    assert shop.log.end > before
    assert rows["action_time"].max() <= shop.now, "nobody acts in the future"
    assert rows["value"].is_finite().drop_nulls().all()


def test_tokens_of_other_cases_and_of_nobody_earn_nothing(client: TestClient, shop: Shop) -> None:
    mark = token(client)
    other = Tokens([b"k" * 32], shop.service.options.token_life).sign(
        "another_case", {"impression_id": "i"}, shop.now
    )
    foreign = Tokens([b"z" * 32], shop.service.options.token_life).sign(
        NAME, {"impression_id": "i"}, shop.now
    )
    wrong = {
        "other case": other,
        "forged": foreign,
        "malformed": "A" * 100,
    } | {"forged " + str(n): mark[:-n] + "A" * n for n in (4, 20)}
    batch = [click(each, name) for name, each in wrong.items()] + [click(mark, "right")]
    said = client.post(ACTIONS, json={"actions": batch}).json()
    assert said["accepted"] == 1
    assert {each["action_id"]: each["reason"] for each in said["refused"]} == {
        name: "forged" if name.startswith("forged") else name for name in wrong
    }
    assert shop.logged("actions")["action_id"].to_list() == ["right"]


# --- by the document -------------------------------------------------------------------------------


def probed(shop: Shop, examples: int) -> None:
    shop.publish(1)
    shop.service.refresh()
    statuses = probe(make_app({NAME: shop.service}, Keys({})), examples)
    print(statuses)
    for path in (DECIDE, ACTIONS):
        assert {f"POST {path} 200", f"POST {path} 422"} <= statuses.keys(), "good ones and bad ones were sent"


def test_what_the_document_allows_and_what_it_does_not(shop: Shop) -> None:
    probed(shop, 5)


@pytest.mark.slow
def test_much_of_what_the_document_allows_and_does_not(shop: Shop) -> None:
    probed(shop, 300)
