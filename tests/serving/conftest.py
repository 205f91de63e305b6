"""A served system for every test of this room; MLflow's tables are made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_stub import Shop, open_shop
from starlette.testclient import TestClient

from pipelines.stores.registry import Registry


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Open one MLflow store for all tests: it takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    opened = Registry(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"), "store")
    assert opened.aliases() == {}
    return opened


@pytest.fixture
def shop(tmp_path: Path, store: Registry) -> Iterator[Shop]:
    """The small system, without a champion."""
    opened = open_shop(tmp_path, store)
    yield opened
    opened.service.close()


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    """The small system on HTTP, for everybody on this machine."""
    with shop.client() as client:
        yield client
