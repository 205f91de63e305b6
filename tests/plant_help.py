"""The stub system as a project, with a world of its own that writes readings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import stub_case
import yaml

from pipelines import catalog
from pipelines.case_study import Batch, Users, World
from pipelines.flows import edge
from pipelines.settings import Frozen, Project
from pipelines.stores.files import write_json
from pipelines.stores.schemas import polars_schema
from pipelines.world.state import read_clock, world_day

A_DAY = 40


class HeatParams(Frozen):
    """The stub world has nothing to set."""


def heat_rows(params: Any, seed: int, start: datetime, days: int, state: Path) -> Iterator[Batch]:
    """Write A_DAY readings a day; the state holds only where the world stands."""
    stands = read_clock(state)
    assert stands is None or stands.next_day == start
    for number in range(days):
        day = start + timedelta(days=number)
        rng = np.random.default_rng([seed, world_day(day)])
        heat = rng.uniform(size=A_DAY)
        read_at = [day + timedelta(minutes=30 * reading) for reading in range(A_DAY)]
        rows = {
            "arrived_at": read_at,
            "reading_id": [f"{day:%Y%m%d}-{reading}" for reading in range(A_DAY)],
            "read_at": read_at,
            "heat": heat,
            "site": ["ab"[reading % 2] for reading in range(A_DAY)],
            "broke": (rng.uniform(size=A_DAY) < heat).astype(int),
        }
        schema = polars_schema(stub_case.Readings)
        yield Batch(
            "readings",
            pl.DataFrame({name: pl.Series(name, rows[name], dtype=schema[name]) for name in schema}),
            f"world/{day:%F}",
        )
    origin = world_day(stands.origin if stands else start)
    write_json(state / "world.json", {"origin": origin, "next_day": world_day(start) + days, "seed": seed})


def nobody(params: Any, seed: int, start: datetime) -> Users:
    """Refuse: the stub system is not served."""
    raise NotImplementedError


@dataclass
class Verdict:
    """Stands in for what monitor returns."""

    level: str = "none"
    reasons: tuple[str, ...] = ()
    end: str | None = None
    since: str | None = None
    columns: tuple[Any, ...] = ()

    def summary(self) -> str:
        return f"drift: {self.level}"


@dataclass
class Plant:
    """The project under test: what its steps did, and what its monitor will say."""

    project: Project
    steps: list[str]
    verdict: Verdict

    def configure(self, **sections: Any) -> None:
        """Change sections of the case's config."""
        path = self.project.root / "configs" / "breakdown.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))

    @property
    def live(self) -> Path:
        return self.project.root / "live" / "breakdown"


def record(monkeypatch: pytest.MonkeyPatch, plant: Plant) -> None:
    """Note every step that runs, whoever calls it."""
    from pipelines.steps import ingest

    def noted(name: str, step: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            plant.steps.append(name)
            return step(*args, **kwargs)

        return run

    for name, step in list(edge._PERFORM.items()):
        monkeypatch.setitem(edge._PERFORM, name, noted(name, step))
    monkeypatch.setitem(edge._PERFORM, "monitor", noted("monitor", lambda run: plant.verdict))
    monkeypatch.setattr(ingest, "ingest_log", noted("ingest", ingest.ingest_log))


def make_plant(root: Path, patch: pytest.MonkeyPatch, empty_store: Path) -> Plant:
    """Write the project's files, and put the stub system where the catalog looks."""
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "embedded.yaml").write_text("")
    (root / "configs" / "breakdown.yaml").write_text(yaml.safe_dump({"gate": {"resamples": 100}}))
    section = {"as_of": "2026-03-01T00:00:00Z", "seed": 7, "window": {"train_days": 6, "evaluate_days": 4}}
    (root / "params.yaml").write_text(yaml.safe_dump({"breakdown": section}))
    (root / "registry").mkdir()
    shutil.copy(empty_store, root / "registry" / "mlflow.db")
    case = replace(
        stub_case.CASE,
        label=replace(stub_case.CASE.label, matures=False),
        heuristics={"always": lambda dataset, params: stub_case.Mixture(0.0, 99)},
    )
    patch.setattr(catalog, "names", lambda: ["breakdown"])
    patch.setattr(catalog, "case", lambda name: case)
    world = World(HeatParams, heat_rows, lambda *_: stub_case.Truth(), nobody)
    patch.setattr(catalog, "has_world", lambda name: True)
    patch.setattr(catalog, "world", lambda name: world)
    for room in ("split", "hold_out", "signals"):
        patch.setattr(f"pipelines.steps.{room}.open_dataset", stub_case.open_stub)
    patch.setenv("LOOP_ROOT", str(root))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = Plant(Project(root), [], Verdict())
    record(patch, found)
    return found
