"""Find cases and worlds by their folder: the only loader."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from pipelines.case_study import CaseStudy, Source, World
from pipelines.errors import UsageError, nearest

_CASES = Path(__file__).parent / "cases"
Exported = TypeVar("Exported")


def names() -> list[str]:
    """List the cases, by the folders that hold a case.py."""
    return sorted(path.parent.name for path in _CASES.glob("*/case.py"))


def has_world(name: str) -> bool:
    """Say whether a case brings a simulated world: a world.py in its folder."""
    return (_CASES / name / "world.py").is_file()


@cache
def case(name: str) -> CaseStudy:
    """Load a case; an unknown name's error names the nearest known one.

    Raise UsageError where its file exports no CASE, or one of another name than the folder's.
    """
    if name not in names():
        raise UsageError(f"unknown case '{name}': {nearest(name, names())}")
    found = _exported(name, "case", "CASE", CaseStudy)
    if found.name != name:
        raise UsageError(
            f"{_CASES / name / 'case.py'} names its CASE '{found.name}', its folder is '{name}': "
            "give both one name, for a workspace and a registered model are called by it"
        )
    return found


@cache
def world(name: str) -> World:
    """Load a case's simulated world. For the runners alone: no training code may see it.

    Raise UsageError where the case brings none, or its file exports no WORLD.
    """
    case(name)
    if not has_world(name):
        raise UsageError(
            f"{_CASES / name / 'world.py'} does not exist: write it, with a WORLD, "
            "or run the case on real data (`loop run --source`)"
        )
    return _exported(name, "world", "WORLD", World)


def _exported(name: str, module: str, constant: str, kind: type[Exported]) -> Exported:
    """Import a file of a case and take what it must export; what its own imports raise is its own to tell."""
    found = getattr(import_module(f"pipelines.cases.{name}.{module}"), constant, None)
    if not isinstance(found, kind):
        raise UsageError(
            f"{_CASES / name / f'{module}.py'} must export `{constant}`, a {kind.__name__} of pipelines.case_study"
        )
    return found


def source(name: str, source_name: str) -> Source:
    """Find a case's real-data source by name."""
    sources = {each.name: each for each in case(name).sources}
    if source_name not in sources:
        raise UsageError(f"{name} has no source '{source_name}': {nearest(source_name, sources)}")
    return sources[source_name]
