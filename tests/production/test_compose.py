"""compose.yaml and the Dockerfile name only what exists. Images are built by users: here no container runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from production_help import HERE, environment

from pipelines.settings import Platform, Project

COMPOSE: dict[str, Any] = yaml.safe_load((HERE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: each for name, each in SERVICES.items() if each["image"] == "ml-loops"}
EXAMPLE = (HERE / ".env.example").read_text()
DOCKERFILE = (HERE / "Dockerfile").read_text()


def platform() -> Platform:
    """Read the profile as the containers do."""
    variables = OURS["worker"]["environment"]
    with environment(**{name: str(value) for name, value in variables.items() if "${" not in str(value)}):
        return Project(HERE, variables["LOOP_PROFILE"]).platform


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
def test_a_command_and_its_options_exist(name: str, tmp_path: Path) -> None:
    words = OURS[name]["command"]
    first = next(place for place, word in enumerate([*words, "--"]) if word.startswith("--"))
    command = [str(Path(sys.executable).parent / words[0]), *words[1:first], "--help"]
    plain = {"COLUMNS": "200", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    missing = [word for word in words if word.startswith("--") and word not in done.stdout]
    assert not missing, f"{' '.join(words[:first])} has no {missing}"


def test_every_variable_is_explained_or_has_a_default() -> None:
    needed = set(re.findall(r"(?<!\$)\$\{(\w+):\?", (HERE / "compose.yaml").read_text()))
    assert needed == set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
    assert all(line.endswith("=") for line in EXAMPLE.splitlines() if line and not line.startswith("#")), (
        "no secret"
    )


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for each in SERVICES.values() for port in each.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert "LOOP_API_KEYS" in OURS["serve"]["environment"], "the service refuses 0.0.0.0 without keys"


def test_our_containers_are_read_only_and_without_rights() -> None:
    for name, each in OURS.items():
        assert each["read_only"] and each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
    assert re.search(r"^USER [1-9]\d+$", DOCKERFILE, re.MULTILINE), (
        "a number, so that it is known not to be root"
    )
    for each in OURS.values():
        for mounted in (volume.partition(":")[2] for volume in each.get("volumes", [])):
            assert re.search(rf"chown .*{mounted}\b", DOCKERFILE), f"the user may not write to {mounted}"


def test_what_a_service_refers_to_is_there() -> None:
    for name, each in SERVICES.items():
        assert set(each.get("depends_on", {})) <= set(SERVICES), name
        volumes = {volume.partition(":")[0] for volume in each.get("volumes", [])}
        assert volumes <= set(COMPOSE["volumes"]), name
        assert {used["source"] for used in each.get("configs", [])} <= set(COMPOSE["configs"]), name
        for needed, condition in each.get("depends_on", {}).items():
            assert condition["condition"] == "service_started" or "healthcheck" in SERVICES[needed], (
                name,
                needed,
            )


def test_the_databases_and_hosts_are_the_profiles() -> None:
    found = platform()
    made = set(re.findall(r"CREATE DATABASE (\w+)", COMPOSE["configs"]["databases"]["content"]))
    made.add(SERVICES["postgres"]["environment"]["POSTGRES_DB"])
    urls = [
        found.action_log.url,
        found.mlflow.tracking_uri,
        found.prefect.database,
        found.feast.registry["path"],
    ]  # type: ignore[union-attr]
    named = [re.fullmatch(r"postgresql(?:\+\w+)?://postgres:5432/(\w+)(?:\?.*)?", str(url)) for url in urls]
    assert {each[1] for each in named if each} == made and all(named)
    assert found.feast.online_store["connection_string"].startswith("redis:6379,")
    server = OURS["prefect"]["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert server == found.prefect.database
    command = OURS["mlflow"]["command"]
    backend = command[command.index("--backend-store-uri") + 1]
    assert found.mlflow.tracking_uri.partition("?")[0] == backend
    assert command[command.index("--default-artifact-root") + 1] == f"/app/{found.mlflow.artifacts}"


def test_the_image_gets_what_it_copies() -> None:
    kept = {line[1:] for line in (HERE / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert copied == kept
    assert all((HERE / name).exists() for name in kept)
