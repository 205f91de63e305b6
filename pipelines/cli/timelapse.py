"""`loop timelapse`: months of production in minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from pipelines.cli.output import emit, say, table
from pipelines.settings import Project, Promotion


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(timelapse)


def timelapse(
    case: Annotated[str, typer.Argument(help="the case study")],
    days: Annotated[int, typer.Option(min=1, help="how many days to live")] = 60,
    scenario: Annotated[str, typer.Option(help="what happens: concept-shift, season ...")] = "concept-shift",
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="a world's seed; several may be given")
    ] = None,
    controls: Annotated[bool, typer.Option("--controls", help="live every control beside it")] = False,
    beside: Annotated[
        list[str] | None, typer.Option("--arm", help="one of the controls: daily, weekly, informed, fresh")
    ] = None,
    promotion: Annotated[
        Promotion | None, typer.Option(help="how a challenger takes over (default: as configs/ says)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Replay production: users ask, the service answers, they act, it watches, decides, retrains; a clock is simulated.

    What was lived is kept in timelapse/: stopped (Ctrl-C) and called again, it goes on. Beside the system that
    decides for itself lives one that is never retrained; with --controls also those of a schedule, one that is told
    of the change, and the fresh reference, which the gap closure is measured against.
    """
    import time

    from pipelines.flows.timelapse.plan import DIRECT, make_plan, playable
    from pipelines.flows.timelapse.policies import CONTROLS, FRESH, FROZEN, TRIGGERED, find_policy
    from pipelines.flows.timelapse.result import COLUMNS, log_outcome, summarise, table_rows, write_outcome
    from pipelines.flows.timelapse.run import play

    project, started = Project.find(), time.perf_counter()
    params = playable(project, case)
    seeds = seeds or [params.seed]
    chosen = (*CONTROLS, FRESH) if controls else (FROZEN, *map(find_policy, beside or ()))
    arms = (TRIGGERED, *dict.fromkeys(chosen))
    courses = []
    for seed in seeds:
        with _bars(days, [arm.name for arm in arms], seed) as tell:
            courses.append(play(project, case, scenario, seed, days, arms, tell, promotion))
    result = summarise(case, scenario, courses, time.perf_counter() - started)
    tried = make_plan(project, case, scenario, seeds[0], promotion).promotion != DIRECT
    folder = project.root / "timelapse" / case / f"{scenario}-{days}-days{'-canary' if tried else ''}"
    report = write_outcome(folder, result, courses)
    run = log_outcome(project, result, folder)
    table(COLUMNS, table_rows(result))
    say(f"\n{report.relative_to(project.root)}   (MLflow run {run})")
    if as_json:
        emit(result)


@contextmanager
def _bars(days: int, arms: Sequence[str], seed: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar an arm."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*parts, console=Console(stderr=True)) as progress:
        past = progress.add_task(f"seed {seed}: the past", total=1)
        bars = {arm: progress.add_task(f"seed {seed}: {arm}", total=days) for arm in arms}

        def tell(arm: str, day: int) -> None:
            if arm in bars:
                progress.update(past, completed=1)
                progress.update(bars[arm], completed=day)

        yield tell
