"""A case is whole: framing, tables, features, config, parameters, tiny world, and a page for people."""

from __future__ import annotations

import re
from pathlib import Path

from tiny_project import tiny_section

from pipelines import catalog
from pipelines.flows.edge import WORLD_PROTOCOL
from pipelines.settings import CaseParams, Project, parse
from pipelines.stores.schemas import polars_schema

ROOT = Path(__file__).parents[2]
STEPS = ["Clarify and frame", "Data", "Model", "Deploy and monitor"]
"""The framework's four steps, which are the headings of every case's page."""


def test_its_page_goes_through_the_four_steps(case_name: str) -> None:
    page = (ROOT / "pipelines" / "cases" / case_name / "README.md").read_text()
    assert re.findall(r"^## \d\. (.+)$", page, flags=re.MULTILINE)[:4] == STEPS
    case = catalog.case(case_name)
    for name in (*case.heuristics, *case.protocols, *(source.name for source in case.sources)):
        assert name in page, f"the page does not say what '{name}' is"


def test_its_framing_says_what_is_asked_of_the_model(case_name: str) -> None:
    framing = catalog.case(case_name).framing
    for text in (framing.business_objective, framing.ml_objective, framing.label):
        assert len(text.split()) >= 4
    assert framing.attribution.total_seconds() > 0
    assert framing.guardrails, "a model must not win by what nobody wants"


def test_its_tables_can_be_read_by_key_and_time(case_name: str) -> None:
    case = catalog.case(case_name)
    names = [table.name for table in case.tables]
    assert len(set(names)) == len(names)
    for table in case.tables:
        assert {*table.key, table.time, "arrived_at"} <= set(polars_schema(table.schema))
    reads = {*case.label.reads, *(name for feature in case.features for name in feature.reads)}
    assert reads <= set(names)


def test_its_protocols_exist(case_name: str) -> None:
    case = catalog.case(case_name)
    assert WORLD_PROTOCOL in case.protocols or not catalog.has_world(case_name)
    for source in case.sources:
        assert source.protocols and set(source.protocols) <= set(case.protocols)


def test_its_config_and_parameters_are_declared(case_name: str) -> None:
    project, case = Project(ROOT), catalog.case(case_name)
    assert (ROOT / "configs" / f"{case_name}.yaml").is_file()
    assert set(project.case_config(case_name).gate.guardrail_tolerance) <= set(case.framing.guardrails)
    parse(case.params, project.case_params(case_name).train, "train")
    if catalog.has_world(case_name):
        world, tiny = catalog.world(case_name), parse(CaseParams, tiny_section(case_name), "tiny.yaml")
        parse(case.params, tiny.train, "train")
        for params in (project.case_params(case_name), tiny):
            parse(world.params, params.world, "world")


def test_its_views_are_declared_to_feast(case_name: str) -> None:
    """What is computed is held against it column by column when the features are opened."""
    text = (ROOT / "feature_repo" / f"{case_name}.py").read_text()
    case = catalog.case(case_name)
    for name in (case.service, *(feature.name for feature in case.features)):
        assert f'"{name}"' in text, f"feature_repo/{case_name}.py declares no '{name}'"
