"""Find cases and worlds by their folder: the only loader."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from pipelines.case_study import CaseStudy, Source, World
from pipelines.errors import UsageError, nearest

_CASES = Path(__file__).parent / "cases"


def names() -> list[str]:
    """List the cases, by the folders that hold a case.py."""
    return sorted(path.parent.name for path in _CASES.glob("*/case.py"))


@cache
def case(name: str) -> CaseStudy:
    """Load a case; an unknown name's error names the nearest known one."""
    if name not in names():
        raise UsageError(f"unknown case '{name}': {nearest(name, names())}")
    found: CaseStudy = import_module(f"pipelines.cases.{name}.case").CASE
    return found


@cache
def world(name: str) -> World:
    """Load a case's simulated world. For the runners alone: no training code may see it."""
    case(name)
    found: World = import_module(f"pipelines.cases.{name}.world").WORLD
    return found


def source(name: str, source_name: str) -> Source:
    """Find a case's real-data source by name."""
    sources = {each.name: each for each in case(name).sources}
    if source_name not in sources:
        raise UsageError(f"{name} has no source '{source_name}': {nearest(source_name, sources)}")
    return sources[source_name]
