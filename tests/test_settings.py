"""Configuration is typed; a slip of the pen is named, with what was probably meant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.errors import UsageError
from pipelines.settings import CaseConfig, CaseParams, Project, parse


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "embedded.yaml").write_text("")
    (tmp_path / "params.yaml").write_text('toy:\n  as_of: "2026-01-02T00:00:00Z"\n')
    return Project(tmp_path)


def test_params_are_read_in_utc(project: Project) -> None:
    (project.root / "params.yaml").write_text('toy:\n  as_of: "2026-01-02T01:00:00+01:00"\n')
    assert project.case_params("toy").as_of == datetime(2026, 1, 2, tzinfo=UTC)


def test_unknown_section_names_the_nearest(project: Project) -> None:
    with pytest.raises(UsageError, match="did you mean 'toy'"):
        project.case_params("tory")


@pytest.mark.parametrize(
    ("content", "hint"),
    [({"gate": {"confidense": 0.9}}, "confidence"), ({"promotoin": "direct"}, "promotion")],
)
def test_unknown_key_names_the_nearest(content: dict, hint: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{hint}'"):
        parse(CaseConfig, content, "configs/toy.yaml")


def test_naive_time_is_refused() -> None:
    with pytest.raises(UsageError, match="as_of"):
        parse(CaseParams, {"as_of": "2026-01-02T00:00:00"}, "params.yaml: toy")


def test_broken_yaml_names_the_file(project: Project) -> None:
    (project.root / "params.yaml").write_text("toy: [")
    with pytest.raises(UsageError, match=r"params\.yaml is not valid YAML"):
        project.case_params("toy")


def test_unknown_profile_names_the_nearest(project: Project) -> None:
    (project.root / "configs" / "toy.yaml").write_text("")
    with pytest.raises(UsageError, match="unknown profile 'embeded': did you mean 'embedded'"):
        _ = Project(project.root, "embeded").platform
    with pytest.raises(UsageError, match=r"unknown profile 'tool': known: embedded$"):
        _ = Project(project.root, "tool").platform


@pytest.mark.parametrize(
    ("named", "found"), [(None, "embedded"), ("", "embedded"), ("production", "production")]
)
def test_the_profile_is_the_environments(
    project: Project, monkeypatch: pytest.MonkeyPatch, named: str | None, found: str
) -> None:
    monkeypatch.delenv("LOOP_ROOT", raising=False)
    monkeypatch.delenv("LOOP_PROFILE", raising=False)
    if named is not None:
        monkeypatch.setenv("LOOP_PROFILE", named)
    (project.root / "configs" / "production.yaml").write_text("")
    assert Project.find(start=project.root).profile == found


def test_the_profiles_of_this_checkout_are_what_they_say() -> None:
    root = Path(__file__).parents[1]
    assert Project(root).platform.action_log.engine == "sqlite"
    assert Project(root, "production").platform.action_log.engine == "postgres"


def test_no_project_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOP_ROOT", raising=False)
    with pytest.raises(UsageError, match="LOOP_ROOT"):
        Project.find(start=tmp_path)


def test_registry_is_that_of_the_checkout_an_experiment_came_from(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "origin"))
    assert project.tracking_uri == f"sqlite:///{tmp_path}/origin/registry/mlflow.db"
    monkeypatch.delenv("DVC_ROOT")
    assert project.tracking_uri == f"sqlite:///{project.root}/registry/mlflow.db"


def test_a_profile_reads_the_environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project.root / "configs" / "embedded.yaml"
    path.write_text('mlflow: {tracking_uri: "http://${HOST:-here}:${PORT}", artifacts: "${PLACE:-}x"}')
    monkeypatch.setenv("PORT", "5001")
    monkeypatch.setenv("HOST", "")
    monkeypatch.setenv("PLACE", "s3://bucket/")
    assert project.platform.mlflow.tracking_uri == "http://here:5001"
    assert project.platform.mlflow.artifacts == "s3://bucket/x"
    monkeypatch.delenv("PORT")
    with pytest.raises(UsageError, match=r"embedded\.yaml needs the environment variable PORT"):
        _ = Project(project.root).platform


def test_the_production_profile_holds_no_password_and_follows_the_usual_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(__file__).parents[1]
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("LOOP_DATABASE", "other")
    monkeypatch.setenv("REDIS_HOST", "cache.example")
    monkeypatch.delenv("REDIS_PASSWORD", raising=False)
    platform = Project(root, "production").platform
    assert platform.action_log.url == "postgresql://db.example:6543/other"  # type: ignore[union-attr]
    assert platform.mlflow.tracking_uri.startswith("postgresql+psycopg://db.example:6543/other_mlflow")
    assert platform.prefect.database == "postgresql+asyncpg://db.example:6543/other_prefect"
    assert str(platform.feast.registry["path"]).startswith("postgresql+psycopg://db.example:6543/other_feast")
    assert "cache.example:6379,db=0," in platform.feast.online_store["connection_string"]
    assert ",password=," in platform.feast.online_store["connection_string"]
