"""prefect.yaml: what is committed is what the cases and their configs say."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from plant_help import Plant

from pipelines import catalog
from pipelines.flows.deployments import FLOWS, render_prefect, resource
from pipelines.settings import Project
from pipelines.steps.decide import KINDS


def deployments(plant: Plant) -> dict[str, Any]:
    found = yaml.safe_load(render_prefect(plant.project))["deployments"]
    return {each["entrypoint"].rpartition(".")[2]: each for each in found}


def test_what_is_committed_is_current() -> None:
    project = Project.find()
    assert (project.root / "prefect.yaml").read_text() == render_prefect(project), "run `loop sync`"


def test_every_case_has_every_flow_of_its_own() -> None:
    found = yaml.safe_load(render_prefect(Project.find()))["deployments"]
    assert len(found) == len(catalog.names()) * len(FLOWS)
    assert {each["parameters"]["case"] for each in found} == set(catalog.names())
    assert all(each["name"] == each["parameters"]["case"].replace("_", "-") for each in found)


@pytest.mark.parametrize("name", FLOWS)
def test_entrypoints_are_flows_of_that_name(name: str) -> None:
    from prefect.flows import load_flow_from_entrypoint

    assert load_flow_from_entrypoint(f"pipelines.flows.{name}.{name}").name == name


def test_a_second_run_waits_for_the_first(plant: Plant) -> None:
    for each in deployments(plant).values():
        assert each["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_schedules_follow_the_cadence(plant: Plant) -> None:
    plant.configure(cadence={"watch": "*/10 * * * *", "retrain": "0 3 * * 1"})
    found = deployments(plant)
    assert found["watch"]["schedules"] == [{"cron": "*/10 * * * *", "timezone": "UTC"}]
    told = {"parameters": {"cause": "scheduled"}}
    assert found["retrain"]["schedules"] == [{"cron": "0 3 * * 1", "timezone": "UTC", **told}]
    assert found["build"]["schedules"] == []


def test_only_retrain_is_triggered_and_by_its_own_case(plant: Plant) -> None:
    found = deployments(plant)
    assert "triggers" not in found["watch"] and "triggers" not in found["build"]
    (trigger,) = found["retrain"]["triggers"]
    assert trigger["match"] == {"prefect.resource.id": resource("breakdown")}
    assert trigger["expect"] == [f"loop.{kind}" for kind in KINDS]
    assert trigger["parameters"]["event"] == "{{ event.payload.id }}"
