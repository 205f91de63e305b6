"""What the log keeps of a caller's address: enough to count by, nothing to read back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from served_stub import NAME, Shop, click
from starlette.testclient import TestClient

from pipelines.serving.address import network_of
from pipelines.serving.app import make_app
from pipelines.serving.keys import Keys
from pipelines.serving.tokens import Tokens


@pytest.mark.parametrize(
    "host", [None, "", "testclient", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]
)
def test_this_machine_and_what_is_no_address_are_nobody(host: str | None) -> None:
    assert network_of(host) is None


def test_one_who_has_a_network_of_ipv6_counts_once() -> None:
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"


def test_a_pseudonym_is_the_key_holders_alone() -> None:
    one, other = (Tokens([key * 32], timedelta(days=1)) for key in (b"a", b"b"))
    assert one.pseudonym("192.0.2.7") == one.pseudonym("192.0.2.7") != one.pseudonym("192.0.2.8")
    assert one.pseudonym("192.0.2.7") != other.pseudonym("192.0.2.7")
    assert "192" not in one.pseudonym("192.0.2.7")


@pytest.mark.parametrize(("host", "known"), [("192.0.2.7", True), ("127.0.0.1", False)])
def test_the_log_keeps_a_pseudonym_of_where_an_action_came_from(shop: Shop, host: str, known: bool) -> None:
    app = make_app({NAME: shop.service}, Keys({}), refresh_seconds=60.0)
    with TestClient(app, client=(host, 50_000)) as client:
        answer = client.post(f"/v1/{NAME}/decide", json={"user_id": "u0"}).json()
        sent = click(answer["places"][0]["token"])
        assert client.post(f"/v1/{NAME}/actions", json={"actions": [sent]}).json()["accepted"] == 1
        posed = client.post(f"/v1/{NAME}/actions", json={"actions": [sent | {"address": "mine"}]})
        assert posed.status_code == 422
    [address] = shop.logged("actions")["address"].to_list()
    assert address == (shop.service.address(host) if known else None)
    assert (address is not None) == known
