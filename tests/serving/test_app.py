"""The service on HTTP: every route, every problem, keys, metrics, and a document that clients are generated from."""

from __future__ import annotations

import hmac
import json
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from served_stub import NAME, NOON, PLACES, Shop, click, order, shown
from starlette.testclient import TestClient
from wire_help import check_problem

from pipelines.errors import DataError, UsageError
from pipelines.serving.keys import Keys
from pipelines.serving.limits import MOST_BYTES
from pipelines.serving.problems import MEDIA, ProblemError
from pipelines.serving.wire import MOST_ACTIONS
from pipelines.stores.action_log import LogBusy, LogFull

DECIDE, ACTIONS, ASKED = f"/v1/{NAME}/decide", f"/v1/{NAME}/actions", {"user_id": "u0"}
KEYS = {scope: f"{scope}-" + "0123456789abcdef" for scope in ("decide", "collect", "admin")}


def decided(client: TestClient, **more: Any) -> dict[str, Any]:
    reply = client.post(DECIDE, json={**ASKED, **more})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def fail(error: Exception) -> Any:
    def raising(*_: Any) -> Any:
        raise error

    return raising


# --- what goes well --------------------------------------------------------------------------------


def test_an_answer_is_in_the_log_before_it_is_given(shop: Shop, client: TestClient) -> None:
    answer = decided(
        client, device="phone", visits=3, budget=0.5, new=True, since="2026-02-01T13:00:00+02:00"
    )
    assert (answer["policy"], answer["model_version"], answer["fallback"]) == (
        "heuristic",
        None,
        ["heuristic"],
    )
    assert answer["features"] == {"as_of": "2026-02-01T12:00:00Z", "stale": False}
    assert answer["logged"] == "durable"
    assert shown(answer) == order(0)
    requests, impressions, served = (shop.logged(name) for name in ("requests", "impressions", "_served"))
    assert requests["request_id"].to_list() == [answer["request_id"]]
    assert requests["device"].to_list() == ["phone"]
    assert impressions["impression_id"].to_list() == [each["impression_id"] for each in answer["places"]]
    assert impressions["video_id"].to_list() == shown(answer)
    assert impressions["propensity"].to_list() == [each["propensity"] for each in answer["places"]]
    assert served.select("visits", "budget", "new", "seen").rows() == [(3, 0.5, True, 7)]
    assert requests.select("visits", "budget", "new").rows() == [(3, 0.5, True)]


def test_actions_are_tied_to_what_was_shown(shop: Shop, client: TestClient) -> None:
    place = decided(client)["places"][1]
    sent = [
        click(place["token"], "a1", value=1.0),
        click(place["token"], "a1", value=1.0),
        click(place["token"], "a2", action_time="2026-02-01T11:00:00+00:00"),
        click(place["token"], "a3", action_time="2027-01-01T00:00:00+00:00"),
    ]
    assert client.post(ACTIONS, json={"actions": sent}).json() == {"accepted": 4, "refused": []}
    logged = shop.logged("actions")
    assert logged["action_id"].to_list() == ["a1", "a1", "a2", "a3"]
    assert set(logged["impression_id"]) == {place["impression_id"]}
    assert set(logged["video_id"]) == {place["item"]["video_id"]} and set(logged["user_id"]) == {"u0"}
    times = logged["action_time"].to_list()
    assert times == [NOON] * 4, "nothing happens in the future, nor before it was shown"


def test_what_a_slow_clock_tells_happened_after_the_impression(shop: Shop, client: TestClient) -> None:
    """Else a label would count it as none of what was shown, and with it each that comes later."""
    token = decided(client)["places"][0]["token"]
    shop.now = NOON + timedelta(minutes=10)
    for number, minutes in enumerate((-1, 5, 11)):
        at = (NOON + timedelta(minutes=minutes)).isoformat()
        reply = client.post(ACTIONS, json={"actions": [click(token, f"a{number}", action_time=at)]})
        assert reply.json()["accepted"] == 1
    times = shop.logged("actions")["action_time"].to_list()
    assert [(time - NOON) / timedelta(minutes=1) for time in times] == [0, 5, 10]
    assert shop.logged("impressions")["impression_time"][0] == times[0]


def test_a_place_of_the_longest_ids_earns_actions(client: TestClient) -> None:
    for letter in ("x", "\x01", "\U0001f600", '"'):
        place = decided(client, user_id=letter * 128)["places"][0]
        reply = client.post(ACTIONS, json={"actions": [click(place["token"], letter * 128)]})
        assert reply.json() == {"accepted": 1, "refused": []}, letter


def test_a_batch_may_be_as_long_as_is_said(client: TestClient) -> None:
    token = decided(client, user_id="x" * 128)["places"][0]["token"]
    batch = {"actions": [click(token, f"{n:0128}", value=0.1) for n in range(MOST_ACTIONS)]}
    assert client.post(ACTIONS, json=batch).json()["accepted"] == MOST_ACTIONS


def test_callers_at_once_are_each_told_of_their_own(shop: Shop, client: TestClient) -> None:
    token = decided(client)["places"][0]["token"]

    def send(caller: int) -> None:
        for turn in range(5):
            names = [f"{caller}-{turn}-{n}" for n in range(caller + 1)]
            batch = [click(token, name) for name in names] + [click("hello", f"{caller}-{turn}-forged")]
            said = client.post(ACTIONS, json={"actions": batch}).json()
            refused = [{"action_id": f"{caller}-{turn}-forged", "reason": "malformed"}]
            told.append(said == {"accepted": caller + 1, "refused": refused})

    told: list[bool] = []
    callers = [threading.Thread(target=send, args=(caller,)) for caller in range(8)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert told == [True] * 40
    logged = shop.logged("actions")["action_id"]
    assert logged.n_unique() == logged.len() == 5 * sum(range(1, 9))


def test_who_answers_is_told(shop: Shop, client: TestClient) -> None:
    told = client.get(f"/v1/{NAME}").json()
    assert (told["case"], told["policy"], told["model_version"], told["problems"]) == (
        NAME,
        "heuristic",
        None,
        [],
    )
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok", "systems": {NAME: "heuristic"}}


# --- problems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/no_such_case", 404),
        ("POST", "/v1/no_such_case/decide", 404),
        ("POST", f"/v1/{NAME}/decide/more", 404),
        ("GET", "/v1/%00/%ff", 404),
        ("GET", DECIDE, 405),
        ("PUT", ACTIONS, 405),
        ("DELETE", f"/v1/{NAME}", 405),
        ("BREW", "/healthz", 405),
    ],
)
def test_what_is_not_there_is_a_problem(client: TestClient, method: str, path: str, status: int) -> None:
    reply = client.request(method, path)
    said = check_problem(reply, status)
    assert status != 404 or said["detail"].endswith(": /openapi.json lists what is")
    assert status != 405 or reply.headers["allow"]


def test_wrong_fields_are_named(client: TestClient) -> None:
    said = check_problem(client.post(DECIDE, json={"user_id": "", "colour": "red"}), 422)
    assert [each["field"] for each in said["errors"]] == ["body.user_id", "body.colour"]
    assert all(each["reason"] for each in said["errors"])
    said = check_problem(client.post(ACTIONS, json={"actions": [click("t"), {"action_id": "a"}]}), 422)
    assert {each["field"] for each in said["errors"]} == {"body.actions.1.token", "body.actions.1.action"}


def test_a_number_too_large_for_its_column_is_the_senders(shop: Shop, client: TestClient) -> None:
    for number in (2**63, -(2**63) - 1, 10**400):
        check_problem(client.post(DECIDE, json={**ASKED, "visits": number}), 422)
    assert shop.log.end == 0


@pytest.mark.parametrize("budget", ["1e999", "-1e999", "NaN", "Infinity"])
def test_what_is_no_finite_number_is_the_senders(shop: Shop, client: TestClient, budget: str) -> None:
    """One infinite weight would make every mean that it enters no number, and a guardrail blind."""
    check_problem(client.post(DECIDE, content=f'{{"user_id": "u0", "budget": {budget}}}'), 422)
    assert shop.log.end == 0


def test_a_body_too_long_is_refused_on_its_way(shop: Shop, client: TestClient) -> None:
    long = json.dumps({"user_id": "u0", "device": "x" * MOST_BYTES}).encode()
    check_problem(client.post(DECIDE, content=long), 413)
    sent = 0

    def pieces() -> Any:
        nonlocal sent
        for start in range(0, len(long), 2**16):
            sent += 1
            yield long[start : start + 2**16]

    check_problem(client.post(ACTIONS, content=pieces()), 413)  # in chunks: no length is said
    assert shop.log.end == 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LogFull("the disk that holds /home/me/actions.db is full"), 507),
        (LogBusy("256 MiB wait to be written to the log: send it again in a moment"), 503),
        (DataError("/home/me/actions.db is spoiled: put it back from a backup"), 503),
        (UsageError("/home/me/live/shop has no clock"), 503),
    ],
)
def test_what_the_log_cannot_take_is_not_acknowledged(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    token = decided(client)["places"][0]["token"]
    end = shop.log.end
    with monkeypatch.context() as patch:
        patch.setattr(shop.log._engine, "commit", fail(error))  # type: ignore[attr-defined]
        for path, body in ((DECIDE, ASKED), (ACTIONS, {"actions": [click(token)]})):
            reply = client.post(path, json=body)
            said = check_problem(reply, status)
            assert "nothing of" in said["detail"] and reply.headers["retry-after"] == "1"
        said = check_problem(client.get("/readyz"), 503)  # whoever balances load looks elsewhere meanwhile
        assert said["systems"] == [NAME]
        patch.setattr("pipelines.serving.durable._PATIENCE", 0.0)
        assert client.get("/readyz").status_code == 200, "it is tried again"
    assert shop.log.end == end
    assert client.post(ACTIONS, json={"actions": [click(token)]}).json()["accepted"] == 1
    assert client.get("/readyz").status_code == 200


def test_a_fault_is_a_problem_that_tells_nothing(
    shop: Shop, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.service, "decide", fail(ZeroDivisionError("secret of /home/me/pipelines/x.py")))
    reply = client.post(DECIDE, json=ASKED)
    check_problem(reply, 500)
    assert "secret" not in reply.text
    counted = f'loop_http_requests_total{{method="POST",route="{DECIDE}",status="500"}} 1.0'
    assert counted in client.get("/metrics").text


# --- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["decide", "collect"])
def test_a_key_opens_what_its_scope_says(shop: Shop, scope: str) -> None:
    path = {"decide": DECIDE, "collect": ACTIONS}[scope]
    allowed = {"decide": 200, "collect": 422}[scope]  # past the keys: an empty batch is no batch
    body = ASKED if scope == "decide" else {"actions": []}
    other = "collect" if scope == "decide" else "decide"
    with shop.client(KEYS) as client:

        def ask(authorization: str | None) -> Any:
            headers = {} if authorization is None else {"authorization": authorization}
            return client.post(path, json=body, headers=headers)

        for missing in (None, "", "Bearer", "Bearer ", f"Basic {KEYS[scope]}", KEYS[scope]):
            reply = ask(missing)
            check_problem(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"
        for wrong in (KEYS[scope] + "x", KEYS[scope][:-1], KEYS[scope].upper(), "x" * 10_000, "\xff\xfe"):
            check_problem(
                client.post(path, json=body, headers={"authorization": f"Bearer {wrong}".encode("latin-1")}),
                401,
            )
        check_problem(ask(f"Bearer {KEYS[other]}"), 403)
        for right in (scope, "admin"):
            assert ask(f"Bearer {KEYS[right]}").status_code == allowed
            assert ask(f"bearer {KEYS[right]}").status_code == allowed
        assert client.get("/healthz").status_code == 200, "a probe has no key"


def test_what_is_wrong_inside_is_told_to_admins_alone(shop: Shop) -> None:
    shop.service._ladder.state = replace(shop.service.state, problems=("version 1 is refused: /home/me/x",))
    with shop.client(KEYS) as client:
        check_problem(client.get(f"/v1/{NAME}"), 401)
        check_problem(client.get(f"/v1/{NAME}", headers={"authorization": f"Bearer {KEYS['decide']}"}), 403)
        told = client.get(f"/v1/{NAME}", headers={"authorization": f"Bearer {KEYS['admin']}"})
        assert told.json()["problems"] == ["version 1 is refused: /home/me/x"]
        for path in ("/readyz", "/healthz", "/metrics"):
            assert "/home/me" not in client.get(path).text


def test_nothing_is_told_of_a_body_without_a_key(shop: Shop) -> None:
    with shop.client(KEYS) as client:
        said = check_problem(client.post(DECIDE, json={"colour": "red"}), 401)
        assert "errors" not in said
        check_problem(client.post(DECIDE, content=b"{"), 401)


def test_the_document_tells_what_needs_a_key(shop: Shop) -> None:
    with shop.client(KEYS) as client:
        locked = client.get("/openapi.json").json()
    with shop.client() as client:
        open_ = client.get("/openapi.json").json()
    for path, method in ((DECIDE, "post"), (ACTIONS, "post"), (f"/v1/{NAME}", "get")):
        ((name, scopes),) = locked["paths"][path][method]["security"][0].items()
        assert scopes == [] and locked["components"]["securitySchemes"][name]["scheme"] == "bearer"
        assert "security" not in open_["paths"][path][method]
    assert "security" not in locked["paths"]["/healthz"]["get"]


def test_keys_are_compared_in_constant_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def note(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", note)
    with shop.client(KEYS) as client:
        client.post(DECIDE, json=ASKED, headers={"authorization": f"Bearer {KEYS['decide']}"})
    assert len(compared) == len(KEYS), "every key is compared, whichever matches"
    assert {len(one) == len(other) == 32 for one, other in compared} == {True}, "digests, of one length"


def test_keys_are_read_from_one_line() -> None:
    keys = Keys.parse(",".join(f" {scope}={key}" for scope, key in KEYS.items()) + ",")
    keys.check_bind("0.0.0.0")
    for text in ("decide", "decide=short", "=0123456789abcdef", "decide:0123456789abcdef"):
        with pytest.raises(UsageError, match="LOOP_API_KEYS"):
            Keys.parse(text)
    with pytest.raises(UsageError, match="unknown scope 'root'"):
        Keys.parse("root=0123456789abcdef")


def test_a_key_is_changed_without_a_gap() -> None:
    old, new = "0123456789abcdef", "fedcba9876543210"
    keys = Keys.parse(f"decide={old} , decide={new},collect={'c' * 16}")
    for key in (old, new):
        keys.check(f"Bearer {key}", "decide")
        with pytest.raises(ProblemError, match="does not allow"):
            keys.check(f"Bearer {key}", "collect")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", "2001:db8::1", ""])
def test_without_keys_nobody_else_may_call(host: str) -> None:
    with pytest.raises(UsageError, match=r"set LOOP_API_KEYS .*or bind 127\.0\.0\.1"):
        Keys.parse("").check_bind(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_keys_this_machine_may_call(host: str) -> None:
    Keys.parse("").check_bind(host)


# --- what others read ------------------------------------------------------------------------------


def test_metrics_count_by_route_and_never_by_what_a_caller_makes_up(shop: Shop, client: TestClient) -> None:
    token = decided(client)["places"][0]["token"]
    client.post(ACTIONS, json={"actions": [click(token), click("no token", "a2")]})
    for n in range(5):
        client.get(f"/v1/{n}")
        client.request(f"BREW{n}", "/healthz")
    reply = client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = reply.text.splitlines()
    for line in (
        f'loop_http_requests_total{{method="POST",route="{DECIDE}",status="200"}} 1.0',
        'loop_http_requests_total{method="GET",route="unmatched",status="404"} 5.0',
        f'loop_http_seconds_count{{route="{ACTIONS}"}} 1.0',
        f'loop_service_total{{case="{NAME}",what="requests"}} 1.0',
        f'loop_service_total{{case="{NAME}",what="actions"}} 1.0',
        f'loop_service_total{{case="{NAME}",what="actions_refused"}} 1.0',
        f'loop_model_version{{case="{NAME}"}} 0.0',
    ):
        assert line in lines, line
    (as_of,) = (line.split()[1] for line in lines if line.startswith("loop_features_as_of{"))
    assert float(as_of) == NOON.timestamp()
    assert not [line for line in lines if "BREW" in line or "/v1/3" in line]


def test_a_client_can_be_generated_from_the_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operations = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in operations]
    assert len(set(names)) == len(names)
    assert {f"{NAME}_decide", f"{NAME}_actions", f"{NAME}_describe"} <= set(names)
    schemas = document["components"]["schemas"]
    assert {"Problem", "Ask", "DecisionOut", "ShopActions", "ShopAction", "CollectedOut"} <= schemas.keys()
    assert schemas["ShopAction"]["properties"]["action"]["enum"] == ["click", "watch", "like"]
    for path in (DECIDE, ACTIONS):
        replies = document["paths"][path]["post"]["responses"]
        assert replies.keys() == {"200", "400", "401", "403", "413", "422", "500", "503", "507"}
        for status, each in replies.items():
            (media,) = each["content"]
            assert media == ("application/json" if status == "200" else MEDIA)
            assert each["content"][media]["schema"]["$ref"].rpartition("/")[2] in schemas
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas, f"{name} is not described"


def test_an_answer_has_as_many_places_as_are_said(client: TestClient) -> None:
    assert [each["position"] for each in decided(client)["places"]] == list(range(1, PLACES + 1))
