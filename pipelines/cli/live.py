"""`loop up`, `down`, `seed`, `sync`, `users`, `world`, `clock`: the production run and its time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.output import emit, say, summary
from pipelines.errors import UsageError
from pipelines.settings import Project
from pipelines.stores.workspace import Workspace

world_app = typer.Typer(help="The simulated users of a live workspace.", no_args_is_help=True)
clock_app = typer.Typer(help="The clock of a live workspace.", no_args_is_help=True)

Case = Annotated[str, typer.Argument(help="the case study")]
Port = Annotated[int | None, typer.Option(help="a port of 127.0.0.1; default configs/<profile>.yaml")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(up)
    app.command()(down)
    app.command()(seed)
    app.command()(feed)
    app.command()(sync)
    app.command()(users)
    app.add_typer(world_app, name="world")
    app.add_typer(clock_app, name="clock")


def up(prefect_port: Port = None, mlflow_port: Port = None) -> None:
    """Start Prefect, a worker and MLflow's UI on loopback; deploy the flows; seed live/."""
    from pipelines.flows.services import up as start

    found = start(Project.find(), prefect_port=prefect_port, mlflow_port=mlflow_port, say=say)
    say(f"\nPrefect  {found.prefect_url}\nMLflow   {found.mlflow_url}")
    say(f"In another folder: export PREFECT_API_URL={found.api_url} (here prefect.toml says it)")
    say("Try: prefect deployment run 'retrain/<case>' (with hyphens), loop world advance <case> --days 2")


def down() -> None:
    """Stop what `loop up` started."""
    from pipelines.flows.services import down as stop

    stop(Project.find(), say=say)


def seed(
    case: Case,
    source: Annotated[
        str | None, typer.Option(help="grow from `loop run --source`; default the world's run")
    ] = None,
    wall: Annotated[bool, typer.Option("--wall", help="go by the wall's clock: the users are real")] = False,
) -> None:
    """Make the live workspace of a case from a finished run, and let its model meet the gate."""
    from pipelines.flows import clock, work
    from pipelines.flows.live import bind_live, seed_live

    project = Project.find()
    if wall and source is not None:
        _require_past(project, case, source)
    seeded = seed_live(project, case, source)
    run = bind_live(project, case, cause="seeded")
    if not seeded:
        say(f"{run.workspace.root} is there: nothing was copied")
    if source is not None and (promotion := work.introduce(run)) is not None:
        say(summary(promotion))
    if wall:
        clock.follow_wall(run.workspace)
    say(f"{case}: it is now {clock.read(run.workspace).now():%Y-%m-%d %H:%M} UTC; next: loop up, loop serve")


def _require_past(project: Project, case: str, source: str) -> None:
    """Refuse a run of a moment that has not come, before anything of it is copied."""
    from datetime import UTC, datetime

    from pipelines.flows.edge import bind_source
    from pipelines.stores.models import read_record

    workspace = bind_source(project, case, source).workspace
    if not workspace.model.is_dir():
        return  # what is missing is told by who copies it
    as_of = datetime.fromisoformat(read_record(workspace.model)["as_of"])
    if as_of > datetime.now(UTC):
        raise UsageError(
            f"{workspace.root} was built as of {as_of:%Y-%m-%d %H:%M} UTC, which has not come yet: build it again with "
            f"`loop run {case} --source {source} --data … --as-of {datetime.now(UTC):%Y-%m-%d}T00:00:00Z`"
        )


def feed(
    case: Case,
    table: Annotated[str, typer.Argument(help="the table that the rows are of")],
    file: Annotated[Path, typer.Argument(help="a .csv or .parquet file with the table's columns")],
    zone: Annotated[str | None, typer.Option(help="the zone of times that name none, such as UTC")] = None,
) -> None:
    """Take rows of a file into a live system: what the catalogue has gained, or what another system collected."""
    from pipelines.flows.feed import feed as take

    say(summary(take(Project.find(), case, table, file, zone)))
    say("the next watch computes features of them, and what is served takes them up")


def sync(
    check: Annotated[bool, typer.Option("--check", help="only say whether prefect.yaml is current")] = False,
) -> None:
    """Write prefect.yaml from the cases and their configs/."""
    from pipelines.flows.deployments import PREFECT_YAML, render_prefect
    from pipelines.stores.files import write_aside

    project = Project.find()
    path = project.root / PREFECT_YAML
    rendered = render_prefect(project)
    if path.is_file() and path.read_text() == rendered:
        say(f"{path.name} is current")
    elif check:
        raise UsageError(f"{path} is not what configs/ say: run `loop sync` and commit it")
    else:
        with write_aside(path) as aside:
            aside.write_text(rendered)
        say(f"{path.name} written")


def users(
    case: Case,
    rate: Annotated[str, typer.Option(help="requests a second: 20, or 20/s")] = "20/s",
    requests: Annotated[int, typer.Option(min=1, help="how many requests in all")] = 1000,
    port: Annotated[int, typer.Option(help="the server's port on 127.0.0.1")] = 8000,
    key: Annotated[
        str | None, typer.Option(envvar="LOOP_API_KEY", help="where the server asks for a key")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Send simulated users to `loop serve` over HTTP: they ask, see the answers, and act; simulated time passes."""
    import asyncio

    import httpx

    from pipelines.flows.live import bind_live
    from pipelines.flows.visitors import Visited, visit

    run, asked = bind_live(Project.find(), case), per_second(rate)
    shown = max(1, round(asked))

    def tell(done: Visited) -> None:
        if done.requests // shown != (done.requests - max(1, round(asked / 10))) // shown:
            say(f"{done.moment:%Y-%m-%d %H:%M} UTC: {done.requests:,} requests, {done.actions:,} actions")

    async def go() -> Visited:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30
        ) as client:
            return await visit(run, client, asked, requests, tell)

    done = asyncio.run(go())
    say(
        f"{case}: {done.requests:,} requests answered, {done.actions:,} actions acknowledged, {done.refused:,} "
        f"refused; it is now {done.moment:%Y-%m-%d %H:%M} UTC"
    )
    if as_json:
        moment = done.moment and done.moment.isoformat()
        emit({"requests": done.requests, "actions": done.actions, "refused": done.refused, "moment": moment})


def per_second(rate: str) -> float:
    """Read a rate as people write it."""
    try:
        value = float(rate.removesuffix("/s"))
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 10_000:
        raise UsageError(f"--rate {rate}: say how many requests a second, from 0.1 to 10,000: 20, or 20/s")
    return value


@world_app.command("advance")
def world_advance(case: Case, days: Annotated[int, typer.Option(help="how many days to live")] = 1) -> None:
    """Let the simulated users live some days: their rows reach the action log, the clock moves on."""
    from pipelines.flows.live import advance_world

    say(f"{case}: it is now {advance_world(Project.find(), case, days):%Y-%m-%d %H:%M} UTC")


@clock_app.command("advance")
def clock_advance(
    span: Annotated[str, typer.Argument(help="how much time passes: 2d, 36h, 90m")],
    case: Annotated[str | None, typer.Option(help="one case; default every live workspace")] = None,
) -> None:
    """Let time pass at once on simulated clocks."""
    from pipelines.flows import clock

    for workspace in _live(case):
        moved = clock.advance(workspace, clock.span(span))
        say(f"{workspace.name}: it is now {moved.now():%Y-%m-%d %H:%M} UTC")


@clock_app.command("wall")
def clock_wall(case: Annotated[str, typer.Option(help="the case: there is no way back")]) -> None:
    """Go by the wall's clock from now on: the users are real ones."""
    from pipelines.flows import clock

    for workspace in _live(case):
        clock.follow_wall(workspace)
    clock_show(case)


@clock_app.command("run")
def clock_run(
    speed: Annotated[float, typer.Argument(help="seconds that pass in a second: 1440 is a day a minute")],
    case: Annotated[str | None, typer.Option(help="one case; default every live workspace")] = None,
) -> None:
    """Let simulated clocks run by themselves; 0 lets them stand still again."""
    from pipelines.flows import clock

    for workspace in _live(case):
        clock.run_at(workspace, speed)
    clock_show(case)


@clock_app.command("show")
def clock_show(case: Annotated[str | None, typer.Option(help="one case; default all")] = None) -> None:
    """Show what the clocks of the live workspaces say."""
    from pipelines.flows import clock

    for workspace in _live(case):
        found = clock.read(workspace)
        kind = "simulated" if found.simulated else "the wall's"
        say(f"{workspace.name}: {found.now():%Y-%m-%d %H:%M} UTC ({kind})")


def _live(case: str | None) -> list[Workspace]:
    from pipelines import catalog
    from pipelines.flows.edge import bind
    from pipelines.flows.live import is_seeded, require_seeded

    project = Project.find()
    if case is not None:
        workspace = bind(project, case, live=True).workspace
        require_seeded(workspace)
        return [workspace]
    every = [Workspace(project.root / "live" / name) for name in catalog.names()]
    found = [workspace for workspace in every if is_seeded(workspace)]
    if not found:
        raise UsageError("there is no live workspace yet: `loop up` seeds them")
    return found
