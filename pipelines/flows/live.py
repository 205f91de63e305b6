"""The live workspace: seeded once from a finished run, then fed by its action log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta

from filelock import FileLock, Timeout

from pipelines import catalog
from pipelines.errors import LoopError, UsageError
from pipelines.flows import clock
from pipelines.flows.edge import SEED, Run, Seed, bind, bind_source
from pipelines.settings import Project
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.stores.models import read_record
from pipelines.stores.workspace import Workspace

# What a run hands on. The online store is built anew: its registry names the folder it lies in.
_SEEDED = ("lake", "quarantine", "features", "model", "evaluation", "monitor", "world")
_NEEDED = ("lake", "model")


def bind_live(project: Project, name: str, *, as_of: datetime | None = None, cause: str = "") -> Run:
    """Bind a case to its live workspace, as of its clock's last midnight."""
    run = bind(project, name, live=True, as_of=as_of)
    require_seeded(run.workspace)
    return replace(run, as_of=as_of or clock.read(run.workspace).today(), cause=cause)


def is_seeded(workspace: Workspace) -> bool:
    """Say whether the live workspace exists as a whole."""
    return (workspace.root / SEED).is_file()


def asleep(project: Project, name: str) -> str | None:
    """Say that a case is not live yet, so that what the calendar asks for may end quietly; None where it is."""
    workspace = bind(project, name, live=True).workspace
    return None if holds_something(workspace) else f"{workspace.root} does not exist yet: nothing to do"


def require_seeded(workspace: Workspace) -> None:
    """Refuse a live workspace that is absent or half there."""
    if is_seeded(workspace):
        return
    if holds_something(workspace):
        raise LoopError(
            f"{workspace.root} was not seeded as a whole (it has no seed.json): move it away or remove it, "
            "then run `loop up` again"
        )
    raise UsageError(f"{workspace.root} does not exist yet: run `loop up`, which seeds it, or the build flow")


def seed_live(project: Project, name: str, source: str | None = None) -> bool:
    """Copy `runs/<case>` or `runs/<case>-<source>` to an empty `live/<case>`; its clock starts at the model's `as_of`.

    Return whether it was seeded now; a workspace that was seeded before is left as it is. The copy
    appears as a whole or not at all.

    Raises:
        UsageError: there is no finished run to seed from, or it was seeded from another than the source asked for.
        LoopError: the live workspace holds something that was not seeded, or a process works in one of them.
    """
    live = bind(project, name, live=True).workspace
    run = bind(project, name) if source is None else bind_source(project, name, source)
    if is_seeded(live):
        told, asked = read_json(live.root / SEED)["from"], f"{run.workspace.origin}/{run.workspace.name}"
        if source is not None and told != asked:
            raise UsageError(f"{live.root} grew from {told}, not from {asked}: remove it to begin anew")
        return False
    if holds_something(live):
        require_seeded(live)
    from pipelines.stores.action_log import require_unused

    missing = [part for part in _NEEDED if not (run.workspace.root / part).is_dir()]
    if missing:
        raise UsageError(f"{run.workspace.root} has no {', '.join(missing)} yet: {_remedy(name, source)}")
    require_unused(project.platform.action_log, live)
    with live.lock(), run.workspace.lock(), write_folder_aside(live.root) as aside:
        for part in _SEEDED:
            if (run.workspace.root / part).is_dir():
                shutil.copytree(run.workspace.root / part, aside / part)
        record = read_record(run.workspace.model)
        seed = Seed(record["protocol"], run.simulated)
        open_workspace(Workspace(aside), datetime.fromisoformat(record["as_of"]), run.workspace, seed)
    return True


def _remedy(name: str, source: str | None) -> str:
    if source is not None:
        return f"`loop run {name} --source {source} --data …` makes it"
    if catalog.has_world(name):
        return "run `make demo` (or `dvc repro`) first"
    return f"{name} has no simulated world: `loop run {name} --source …`, then `loop seed {name} --source …`"


def open_workspace(workspace: Workspace, origin: datetime, source: Workspace | None, seed: Seed) -> None:
    """Start a workspace's clock, and mark the workspace as whole. `source`: what was copied; None: a world."""
    clock.write(workspace, clock.simulated(origin))
    told = "world" if source is None else f"{source.origin}/{source.name}"
    write_json(workspace.root / SEED, {"from": told, "as_of": origin.isoformat(), **asdict(seed)})


def advance_world(project: Project, name: str, days: int) -> datetime:
    """Let the simulated users live `days` more days in the live workspace, and return its new present.

    Their rows go to the action log, where served requests go. A kill in the middle loses nothing:
    the world stores where it stands after the last row, and rows written twice fold into one.
    """
    from pipelines.stores.action_log import open_action_log
    from pipelines.world.state import read_clock

    if days < 1:
        raise UsageError(f"a world advances by whole days: {days} is not a positive number of them")
    run = bind_live(project, name)
    if not (run.simulated and clock.read(run.workspace).simulated):
        raise UsageError(
            f"{run.workspace.root} has real users, or goes by the wall's clock: no world advances it"
        )
    state = run.workspace.root / "world"
    stands = read_clock(state)
    if stands is None:
        raise UsageError(f"{state} holds no world: the live workspace was not seeded from a simulated one")
    with run.workspace.lock(), open_action_log(project.platform.action_log, run.workspace) as log:
        for batch in run.world.rows(run.world_params, run.params.seed, stands.next_day, days, state):
            log.append(batch.table, batch.rows)
        return clock.advance_to(run.workspace, stands.next_day + timedelta(days=days)).now()


def holds_something(workspace: Workspace) -> bool:
    """Say whether the workspace's folder exists and is not empty."""
    return workspace.root.exists() and any(workspace.root.iterdir())


@contextmanager
def turn(workspace: Workspace, patience: float = 3600.0) -> Iterator[None]:
    """Let the flows of one live workspace take turns, waiting at most `patience` seconds.

    So no watch reads what a retrain is writing; steps lock the workspace one by one, and a flow is many.
    """
    workspace.root.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.root.parent / f".{workspace.name}.turn")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise LoopError(
            f"another flow has been working in {workspace.root} for {patience:.0f} s: see Prefect's UI"
        ) from None
    try:
        yield
    finally:
        lock.release()
