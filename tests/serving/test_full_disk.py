"""The disk of the action log fills up under the service: 507, nothing acknowledged, and all is well with room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from machine_help import enlarge, mounted
from served_stub import CASE, NAME, Shop, click, open_shop
from starlette.testclient import TestClient
from wire_help import check_problem

from pipelines.steps.ingest import ingest_log
from pipelines.stores.lake import Lake
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

DECIDE, ACTIONS = f"/v1/{NAME}/decide", f"/v1/{NAME}/actions"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte, and the shop's log on it."""
    with mounted(tmp_path / "live" / NAME / "log", 1) as disk:
        yield disk


def fill(client: TestClient, token: str) -> tuple[list[str], Any]:
    """Send batches until one is not taken; return the ids that were acknowledged, and that reply."""
    taken: list[str] = []
    for batch in range(10_000):
        names = [f"{batch}-{uuid4().hex}" for _ in range(500)]
        reply = client.post(ACTIONS, json={"actions": [click(token, name) for name in names]})
        if reply.status_code != 200:
            return taken, reply
        taken += names
    raise AssertionError("the disk never filled up")


def test_a_full_disk_is_told_and_forgotten_when_there_is_room(
    small_disk: Path, tmp_path: Path, store: Registry
) -> None:
    shop: Shop = open_shop(tmp_path, store)
    assert Workspace(shop.ws.root).log == small_disk
    with shop.client() as client:
        token = client.post(DECIDE, json={"user_id": "u0"}).json()["places"][0]["token"]
        taken, reply = fill(client, token)
        assert taken
        said = check_problem(reply, 507)
        assert "full" in said["detail"] and reply.headers["retry-after"]
        large = {"user_id": "x" * 128}
        ends = shop.log.end
        while client.post(DECIDE, json=large).status_code == 200:  # the last pages are for small appends
            ends += 3
        check_problem(client.post(DECIDE, json=large), 507)
        assert shop.log.end == ends
        assert client.get("/healthz").status_code == 200 and client.get("/readyz").status_code == 503
        enlarge(small_disk, 8)
        assert client.post(DECIDE, json=large).status_code == 200
        more = [f"after-{n}" for n in range(100)]
        batch = {"actions": [click(token, name) for name in more]}
        assert client.post(ACTIONS, json=batch).json() == {"accepted": 100, "refused": []}
    logged = shop.logged("actions")["action_id"].to_list()
    assert logged == taken + more, "what was not acknowledged is not there"
    shop.service.close()
    with shop.log as log:
        ingest_log(CASE, shop.ws, log, as_of=shop.now)
    kept = Lake(shop.ws.lake, CASE.tables).scan("actions").collect()["action_id"]
    assert sorted(kept) == sorted(taken + more)
