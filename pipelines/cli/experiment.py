"""`loop experiment start|status|stop`: a challenger on trial before live users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.output import emit, say
from pipelines.errors import UsageError
from pipelines.settings import Project

if TYPE_CHECKING:
    from pipelines.experiments.running import Running
    from pipelines.flows.edge import Run

experiment_app = typer.Typer(help="A challenger on trial before live users.", no_args_is_help=True)
Case = Annotated[str, typer.Argument(help="the case study")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(experiment_app, name="experiment")


@experiment_app.command()
def start(case: Case) -> None:
    """Put the challenger on trial against the champion; `loop serve` takes it up within seconds."""
    from pipelines.flows import trial

    begun = trial.start(_bound(case))
    say(f"{case}: version {begun.challenger.number} against version {begun.champion}: {begun.stage}")
    say(_planned(begun))


@experiment_app.command()
def status(
    case: Case, as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False
) -> None:
    """Say how the experiment stands by what the lake knows now; the last one's verdict where none runs."""
    found = _found(case)
    if as_json:
        emit(found)
        return
    say(f"{case}: version {found['challenger']} against version {found['champion']}: {found['stage']}")
    say(f"  begun {found['started']}, day {found['day']}")
    verdict, answers = found["verdict"], found["answers"]
    say(f"  asked {answers['asked']:,} times, failed {answers['failed']:,}" + _shadow(answers))
    if verdict is None:
        return
    ratio = verdict["sample_ratio"]
    units = ", ".join(f"{count:,} in {arm}" for arm, count in ratio["seen"].items())
    say(f"  units: {units} (so uneven by chance: p = {ratio['p']:.3g})")
    for name, interval in {found["metric"]: verdict["effect"], **verdict["guardrails"]}.items():
        say(f"  {name}, challenger − champion: {_interval(interval)}")
    say(f"  {verdict['decision'].replace('_', ' ')}: {'; '.join(verdict['reasons'])}")


@experiment_app.command()
def stop(
    case: Case, reason: Annotated[str, typer.Option(help="why, for the version's tags")] = "asked for"
) -> None:
    """End the experiment: the champion stays, and the challenger loses its alias."""
    from pipelines.flows import trial

    ended = trial.stop(_bound(case), reason)
    say(
        f"{case}: the experiment with version {ended.challenger.number} has ended, version {ended.champion} stays"
    )


def _bound(case: str) -> Run:
    from pipelines.flows.live import bind_live

    return bind_live(Project.find(), case)


def _found(case: str) -> dict[str, Any]:
    """Lay out the experiment as JSON would have it; a running one is judged as of now."""
    from dataclasses import asdict

    from pipelines.experiments import running as file
    from pipelines.flows import clock, trial

    run = _bound(case)
    running, now = file.read(run.workspace), clock.read(run.workspace).now()
    if running is None:
        raise UsageError(f"{case} has had no experiment yet: `loop experiment start {case}`")
    verdict = running.verdict if running.ended else trial.verdict_json(trial.look(run, running, now), now)
    return {
        "case": case,
        "challenger": running.challenger.number,
        "champion": running.champion,
        "stage": running.stage,
        "share": 0.0 if running.ended else running.share,
        "day": running.day,
        "started": running.started.isoformat(),
        "ended": running.ended.isoformat() if running.ended else None,
        "metric": running.declaration.metric.name,
        "answers": asdict(trial.tally_of(run, running)),
        "verdict": verdict,
    }


def _planned(begun: Running) -> str:
    declared = begun.declaration
    opens = ", ".join(f"day {stage.from_day}: {stage.exposure / 2:.0%}" for stage in declared.stages)
    return (
        f"  meets {opens} of the units, as many are its control; judged by {declared.metric.name}, "
        f"promoted from day {declared.minimum_days}, ended by day {declared.maximum_days}"
    )


def _shadow(answers: Mapping[str, int]) -> str:
    if not answers["compared"]:
        return ""
    same = answers["agreed"] / answers["compared"]
    spent = answers["microseconds"] / answers["compared"] / 1000
    return f"; in the shadow the same first place as the champion in {same:.0%}, {spent:.2f} ms a request"


def _interval(found: Mapping[str, float | None]) -> str:
    value, low, high = (found[name] for name in ("value", "low", "high"))
    if value is None:
        return "not known yet"
    if low is None or high is None:
        return f"{value:+.4g}, its interval not known yet"
    return f"{value:+.4g} [{low:+.4g}, {high:+.4g}]"
