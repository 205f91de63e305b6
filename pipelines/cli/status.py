"""`loop status` and `loop next`: what stands, and what to open next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines.cli.output import emit, say, table
from pipelines.settings import Project

_NEXT = """
Open next
  runs/<case>/monitor/report.html             what came in, beside what was learned from (Evidently)
  dvc plots show && open dvc_plots/index.html figures of the run, offline
  dvc metrics show                            the same in numbers
  make up                                     Prefect, a worker, MLflow's UI on loopback; then:
  prefect deployment run 'retrain/<case>'     retrain, evaluate and gate the live system (case-with-hyphens)
  loop world advance <case> --days 2          let the simulated users act
  loop run <case> --source ... --data ...     the same system on real files (README names them)
"""


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(status)
    app.command("next")(next_)


def status(as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False) -> None:
    """Show every system: events, figures, champion, drift, what is on trial, last retrain, seconds a step."""
    from pipelines.flows.overview import overview

    found = overview(Project.find())
    if as_json:
        emit(found)
        return
    if not found:
        say("nothing has run yet: `make demo` builds every system on its simulated world")
        return
    table(
        ["system", "events", "quarantined", "metric", "heuristic", "model", "oracle", "version", "drift"],
        [_row(each) for each in found],
        asked=True,
    )
    say("", asked=True)
    for each in found:
        spent: Mapping[str, float] = each["seconds"]
        steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in spent.items())
        if spent:
            say(f"seconds of {_name(each)}: {steps} (sum {sum(spent.values()):.1f})", asked=True)
        if acted := each["actions"]:
            counts = f"{acted['waiting']:,} wait to be ingested, {acted['immature']:,} have immature labels"
            say(f"actions of {_name(each)}: {counts}", asked=True)
        if limited := each["limited"]:
            told = "; ".join(f"{reason} ({count:,})" for reason, count in limited.items())
            say(f"withheld from {_name(each)}: {told}", asked=True)
        if decided := each["decision"]:
            say(f"decision of {_name(each)} at {decided['at']}: {decided['words']}", asked=True)
        if tried := each["experiment"]:
            told = f"version {tried['version']} since {tried['since']} ({tried['stage']})"
            say(f"on trial in {_name(each)}: {told}", asked=True)
        if retrained := each["last_retrain"]:
            say(f"last retrain of {_name(each)}: {retrained['at']}: {retrained['cause']}", asked=True)


def next_() -> None:
    """Say what to open after a run."""
    say(_NEXT, asked=True)


def _row(each: Mapping[str, Any]) -> list[str]:
    heuristic, model, oracle = (each[name] for name in ("heuristic", "model", "oracle"))
    champion = each["champion"]
    return [
        _name(each),
        f"{each['rows']['kept']:,}",
        f"{each['quarantine']:,}",
        each["metric"] or "–",
        f"{heuristic['value']:.4f} ({each['heuristic_name']})" if heuristic else "–",
        f"{model['value']:.4f} [{model['low']:.4f}, {model['high']:.4f}]" if model else "–",
        f"{oracle['value']:.4f}" if oracle else "–",
        f"{champion['version']} champion" if champion else "none",
        each["drift"] or "–",
    ]


def _name(each: Mapping[str, Any]) -> str:
    source = "" if each["source"] == "world" else f" on {each['source']}"
    place = " (live)" if each["workspace"] == "live" else ""
    return each["case"] + source + place
