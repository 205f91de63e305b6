"""Model artifacts in object storage: a registry whose files stand in an S3 bucket, on a server of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from production_help import environment
from served_stub import CASE, open_shop, register

from pipelines.errors import LoopError
from pipelines.stores.models import load_model
from pipelines.stores.registry import Registry

BUCKET = "loops"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Serve S3 on loopback, and point MLflow's client at it as its user would."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    try:
        with environment(MLFLOW_S3_ENDPOINT_URL=url, **keys):
            bucket(url).create()
            yield url
    finally:
        server.stop()


@pytest.fixture(scope="module")
def registry(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Open a registry whose tables are a file, and whose artifacts stand in the bucket."""
    return Registry(
        f"sqlite:///{tmp_path_factory.mktemp('s3')}/mlflow.db", f"s3://{BUCKET}/artifacts", CASE.name
    )


def bucket(endpoint: str):  # type: ignore[no-untyped-def]
    return boto3.resource("s3", endpoint_url=endpoint).Bucket(BUCKET)


def test_a_champion_is_loaded_from_a_bucket_and_its_hashes_are_checked(
    registry: Registry, endpoint: str, tmp_path: Path
) -> None:
    version = register(registry, tmp_path / "trained", 3)
    registry.crown(version)
    champion = registry.champion()
    assert champion is not None and champion.digest == version.digest
    assert load_model(CASE, registry.load(champion)).turn == 3  # type: ignore[attr-defined]
    (model,) = [each for each in bucket(endpoint).objects.all() if each.key.endswith("turned.json")]
    assert model.key.startswith(f"artifacts/{CASE.name}/")

    model.put(Body=b'{"turn": 4}')
    again = Registry(registry.tracking_uri, registry.artifact_root, CASE.name)
    with pytest.raises(LoopError, match=r"turned\.json is not what its manifest says"):
        again.load(champion)


def test_a_bucket_that_is_gone_for_a_while_refuses_no_model(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(tmp_path, registry)
    shop.publish(1)
    assert shop.service.refresh()
    second = register(shop.registry, tmp_path / "second", 2)
    shop.registry.set_alias("champion", second)
    with monkeypatch.context() as gone:
        gone.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:1")
        gone.setenv("AWS_MAX_ATTEMPTS", "1")
        assert not shop.service.refresh()
        assert "cannot be used" in shop.service.state.problems[0]
        assert shop.service.state.first.version == "1"
    assert shop.service.refresh()
    assert (shop.service.state.first.version, shop.service.state.problems) == ("2", ())
    shop.service.close()
