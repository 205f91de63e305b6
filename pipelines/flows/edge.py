"""Where names become objects: a runner binds a case to a workspace, a moment and its parameters.

Steps are handed objects; only here, at the edge, is the catalog asked for a case, its world or its
source. The command line, DVC's stages and the Prefect flows all run a step through `Run`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from pipelines import catalog
from pipelines.case_study import Batch, CaseStudy, Judge, World
from pipelines.errors import UsageError, nearest
from pipelines.settings import CaseConfig, CaseParams, Limits, Project, parse
from pipelines.stores.files import read_json, write_json
from pipelines.stores.workspace import Workspace

WORLD_PROTOCOL, SEED = "logged", "seed.json"


@dataclass(frozen=True)
class Seed:
    """What a live workspace grew from: by which protocol its models are judged, and whether a world made its rows."""

    protocol: str = WORLD_PROTOCOL
    simulated: bool = True


def read_seed(workspace: Workspace) -> Seed:
    """Read a live workspace's seed; one that was not seeded yet would grow from the world."""
    path = workspace.root / SEED
    told = read_json(path) if path.is_file() else {}
    return Seed(**{name: told[name] for name in ("protocol", "simulated") if name in told})


@dataclass(frozen=True)
class Run:
    """One case, bound: everything a step needs, and nothing it may not see.

    `simulated` rows come from the case's world, whose truth is known.
    """

    project: Project
    case: CaseStudy
    workspace: Workspace
    as_of: datetime
    protocol: str = WORLD_PROTOCOL
    simulated: bool = True
    cause: str = ""

    @cached_property
    def params(self) -> CaseParams:
        """Read params.yaml, its `train` part checked by the case's own model."""
        params = self.project.case_params(self.case.name)
        where = f"{self.project.root / 'params.yaml'}: {self.case.name}.train"
        parse(self.case.params, params.train, where)
        return params

    @cached_property
    def config(self) -> CaseConfig:
        """Read configs/<case>.yaml, its gate checked by the case's own guardrails."""
        from pipelines.steps.gate import check_tolerances

        found = self.project.case_config(self.case.name)
        check_tolerances(self.case.framing, found.gate, f"configs/{self.case.name}.yaml")
        return found

    @property
    def limits(self) -> Limits:
        """What one account may contribute; a publisher's files are taken as they are."""
        return self.config.limits if self.simulated or self.workspace.origin == "live" else Limits()

    @cached_property
    def world(self) -> World:
        return catalog.world(self.case.name)

    @property
    def world_params(self) -> Any:
        """Validate the world's part of params.yaml by the world's own model."""
        where = f"{self.project.root / 'params.yaml'}: {self.case.name}.world"
        return parse(self.world.params, self.params.world, where)

    @property
    def world_start(self) -> datetime:
        """The simulated world's first midnight: the days of params.yaml before its `as_of`."""
        return self.params.as_of - timedelta(days=self.params.past_days)

    def judge(self) -> Judge | None:
        """Return the truth, where there is one."""
        if not self.simulated:
            return None
        return self.world.judge(self.world_params, self.params.seed, self.world_start)

    @property
    def registry(self) -> Any:
        """Open the registry under the workspace's name."""
        from pipelines.stores.registry import Registry

        return Registry(self.project.tracking_uri, self.project.artifact_root, self.workspace.name)

    @property
    def receipt(self) -> Path:
        """Where promote leaves its verdict: with the registry, so that both are lost together.

        In the checkout that works, even where that is an experiment's copy: it is an output of DVC's.
        A live promotion has a file of its own, so that it touches no output.
        """
        kind = "" if self.workspace.origin == "runs" else f"{self.workspace.origin}-"
        return self.project.root / "registry" / "promotions" / f"{kind}{self.workspace.name}.json"


def bind(project: Project, name: str, *, live: bool = False, as_of: datetime | None = None) -> Run:
    """Bind a case to `runs/<case>` (DVC's, on its simulated world) or `live/<case>` (the flows', on its seed)."""
    case = catalog.case(name)
    workspace = Workspace(project.root / ("live" if live else "runs") / name)
    seed = read_seed(workspace) if live else Seed()
    as_of = as_of or project.case_params(name).as_of
    return Run(project, case, workspace, as_of, seed.protocol, seed.simulated)


def bind_source(project: Project, name: str, source: str) -> Run:
    """Bind a case on a real source to `runs/<case>-<source>`."""
    found = catalog.source(name, source)
    workspace = Workspace(project.root / "runs" / f"{name}-{source}")
    params = project.case_params(name)
    return Run(project, catalog.case(name), workspace, params.as_of, found.protocols[0], simulated=False)


def perform(run: Run, step: str) -> Any:
    """Run one step by name and note how long it took."""
    if step not in _PERFORM:
        raise UsageError(f"unknown step '{step}': {nearest(step, _PERFORM)}")
    with run.workspace.lock(), timed(run.workspace, step):
        return _PERFORM[step](run)


@contextmanager
def timed(workspace: Workspace, step: str) -> Iterator[None]:
    """Note how long a step took, if it ends well."""
    started = time.perf_counter()
    yield
    note_seconds(workspace, step, time.perf_counter() - started)


def note_seconds(workspace: Workspace, step: str, seconds: float) -> None:
    """Remember a step's wall time, for `loop status`."""
    path = workspace.root / "seconds.json"
    known = read_json(path) if path.exists() else {}
    write_json(path, {**known, step: round(seconds, 2)})


def inside_experiment() -> bool:
    """Say whether this is a stage of `dvc exp run`, whose promotions move no alias."""
    return bool(os.environ.get("DVC_EXP_NAME") or os.environ.get("DVC_EXP_BASELINE_REV"))


def world_batches(run: Run) -> Iterator[Batch]:
    """Simulate the days that params.yaml asks for, from the world's first day to `as_of`."""
    days = run.params.past_days
    state = run.workspace.root / "world"
    return run.world.rows(run.world_params, run.params.seed, run.world_start, days, state)


def _ingest(run: Run) -> Any:
    from pipelines.steps.ingest import ingest

    batches = world_batches(run)
    return ingest(run.case, run.workspace, batches, source="world", as_of=run.as_of, limits=run.limits)


def _features(run: Run) -> Any:
    from pipelines.steps.features import build_features

    return build_features(run.case, run.workspace, run.as_of)


def _train(run: Run) -> Any:
    from pipelines.steps.train import train

    return train(
        run.case,
        run.workspace,
        run.as_of,
        run.params,
        run.project.platform,
        run.protocol,
        _falls(run),
    )


def _falls(run: Run) -> list[datetime]:
    """List when the falls began that a live workspace has been retrained for."""
    from pipelines.flows.causes import Journal

    return Journal(run.workspace).falls()


def _evaluate(run: Run) -> Any:
    from pipelines.steps.evaluate import evaluate

    return evaluate(
        run.case,
        run.workspace,
        run.as_of,
        run.params,
        run.project.platform,
        run.protocol,
        run.judge(),
        gate=run.config.gate,
    )


def _promote(run: Run) -> Any:
    from pipelines.steps.promote import promote

    return promote(
        run.case,
        run.workspace,
        run.as_of,
        run.params,
        run.project.platform,
        run.config.gate,
        run.registry,
        mode=run.config.promotion,
        move_alias=not inside_experiment(),
        origin=run.workspace.origin,
        receipt=run.receipt,
        falls=_falls(run),
    )


def _monitor(run: Run) -> Any:
    """Watch the model that was just built; in a live workspace the champion, for that is what users meet.

    A refit is watched as it was judged: on the newest days of the reference that model was not flattered.
    """
    from pipelines.steps.monitor import monitor

    folder, registry = run.workspace.model, run.registry
    if run.workspace.origin == "live" and (champion := registry.champion()) is not None:
        folder = registry.load(registry.judged(champion))
    platform = run.project.platform
    return monitor(run.case, run.workspace, run.as_of, run.config.alarms, platform, model_folder=folder)


_PERFORM: dict[str, Callable[[Run], Any]] = {
    "ingest": _ingest,
    "features": _features,
    "train": _train,
    "evaluate": _evaluate,
    "promote": _promote,
    "monitor": _monitor,
}
