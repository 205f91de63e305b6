"""Serving, put together: live workspaces, their champions, logs and tokens become services."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from pipelines import catalog
from pipelines.errors import DataError, LoopError, UsageError, nearest
from pipelines.flows import clock
from pipelines.flows.edge import Run
from pipelines.flows.live import bind_live, is_seeded, seed_live
from pipelines.settings import Project
from pipelines.stores.workspace import Workspace

if TYPE_CHECKING:
    from pipelines.serving.service import Service
    from pipelines.steps.parity import Parity
    from pipelines.stores.action_log import ActionLog

_log = logging.getLogger(__name__)


def served(project: Project) -> list[str]:
    """List the cases that can be served: they say how they answer, and are live or were run."""
    return [
        name
        for name in catalog.names()
        if catalog.case(name).serving is not None and _has_model(project, name)
    ]


def _has_model(project: Project, name: str) -> bool:
    """Say whether there is a model to begin with; a workspace that is being built works undisturbed until then."""
    live = Workspace(project.root / "live" / name)
    return (live if is_seeded(live) else Workspace(project.root / "runs" / name)).model.is_dir()


def open_services(project: Project, names: Sequence[str] = ()) -> dict[str, Service]:
    """Make a service of each named case; of all that can be served where none is named."""
    ready = served(project)
    for name in names:
        if catalog.case(name).serving is None:
            raise UsageError(f"{name} does not say how it answers requests: give its CASE a `serving`")
        if name not in ready:
            raise UsageError(
                f"{name} was not run yet: run `make demo`, or with real data `loop run` and `loop seed`; "
                f"ready: {', '.join(ready) or 'none'}"
            )
    chosen = names or ready
    if not chosen:
        raise UsageError("no case can be served yet: run `make demo` first")
    return {name: open_service(project, name) for name in chosen}


def open_service(project: Project, name: str, seed: int | np.random.Generator | None = None) -> Service:
    """Make a service of a case's live workspace, seeded and materialized where it was not yet.

    `seed` fixes exploration and ids; a time-lapse brings a generator, and seeds it anew each day.
    """
    from pipelines.serving.ladder import Ladder
    from pipelines.serving.own import OwnFeatures
    from pipelines.serving.service import Service
    from pipelines.serving.tokens import open_tokens
    from pipelines.steps.features import materialize
    from pipelines.stores.action_log import open_action_log

    seed_live(project, name)
    run = bind_live(project, name)
    serving = run.case.serving
    if serving is None:
        raise UsageError(f"{name} does not say how it answers requests: {nearest(name, served(project))}")
    platform = project.platform
    if run.case.features and not _stands_online(run):
        with run.workspace.lock():
            materialize(run.case, run.workspace, run.as_of, platform)
    log = open_action_log(platform.action_log, run.workspace)
    _require_whole(log, run)
    return Service(
        run.case,
        serving,
        Ladder(run.case, serving, run.workspace, platform, run.registry),
        OwnFeatures(run.case, serving, run.workspace, platform),
        log,
        open_tokens(project.root / "live" / "token.key", run.config.answers.token_life),
        run.config.answers,
        _reader(run.workspace),
        np.random.default_rng(seed),
    )


def _require_whole(log: ActionLog, run: Run) -> None:
    """Refuse a log that came back shorter than it was read: what it gained would take offsets that count as read.

    Where its database is down, that is found out when it is read next.
    """
    from pipelines.steps.ingest import watermark
    from pipelines.stores.action_log import check_end

    try:
        end = log.end
    except LoopError as error:
        _log.warning("%s: %s", run.case.name, error)
        return
    try:
        check_end(end, watermark(run.workspace).seen)
    except DataError:
        log.close()
        raise


def _stands_online(run: Run) -> bool:
    """Say whether the features that answers need are online, or the store that should hold them is down."""
    from pipelines.stores.feature_store import open_store
    from pipelines.stores.online_features import materialized, stands_online

    platform = run.project.platform
    if materialized(run.case, run.workspace, platform) is None:
        return False
    try:
        return stands_online(run.case, run.workspace, open_store(run.case, run.workspace, platform))
    except LoopError:
        raise
    except Exception as error:  # of whatever driver: answers go without features until the store is back
        _log.warning("%s: the online store cannot be read: %s", run.case.name, error)
        return True


def check_parity(project: Project, name: str, days: int) -> Parity:
    """Compare what the live workspace's answers were given with to what training would be given."""
    from pipelines.steps.parity import parity
    from pipelines.stores.action_log import open_action_log

    run = bind_live(project, name)
    platform, now = project.platform, clock.read(run.workspace).now()
    with open_action_log(platform.action_log, run.workspace) as log:
        return parity(run.case, run.workspace, log, platform, now + timedelta(microseconds=1), days)


def _reader(workspace: Workspace) -> Callable[[], datetime]:
    """Read the workspace's clock, which a command may advance at any time."""
    return lambda: clock.read(workspace).now()
