"""A time-lapse's outcome: the document of `loop timelapse --json`, its table for people, its report in MLflow."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from pipelines.flows.timelapse.chart import draw
from pipelines.flows.timelapse.measures import (
    Course,
    describe_arm,
    gap_closure,
    gap_closure_by_day,
    oracle_share,
    regret,
)
from pipelines.flows.timelapse.policies import POLICIES
from pipelines.settings import Project
from pipelines.stores.files import write_aside, write_json

MAIN = "triggered"
COLUMNS = (
    "arm", "reward before", "after", "oracle share", "regret", "retrains", "promoted", "wrongly", "detected after",
    "false alarms", "seconds",
)  # fmt: skip


def summarise(case: str, scenario: str, courses: Sequence[Course], seconds: float) -> dict[str, Any]:
    """Summarise all seeds of one scenario; figures of arms are means over seeds."""
    described = [
        {name: describe_arm(days, course.shift) for name, days in course.arms.items()} for course in courses
    ]
    main = [each[MAIN] for each in described]
    delays = [each["detection_delay_days"] for each in main if each["detection_delay_days"] is not None]
    return {
        "case": case,
        "scenario": scenario,
        "seeds": [course.seed for course in courses],
        "days": len(courses[0].arms[MAIN]),
        "shift_day": courses[0].shift,
        "gap_closure": gap_closure(courses),
        "gap_closure_by_day": gap_closure_by_day(courses),
        "oracle_share": _mean([oracle_share(course.arms[MAIN]) for course in courses]),
        "regret": {name: _mean([regret(course)[name] for course in courses]) for name in courses[0].arms},
        "retrains": _mean([each["retrains"] for each in main]),
        "detection_delay_days": _mean(delays),
        "false_alarms": sum(each["false_alarms"] for each in main),
        "arms": {name: _average([each[name] for each in described]) for name in courses[0].arms},
        "seconds": round(seconds, 1),
    }


def table_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Lay the arms out as a table: COLUMNS."""
    return [
        [
            name,
            _short(arm["reward_before"]),
            _short(arm["reward_after"]),
            _short(arm["oracle_share"]),
            _short(result["regret"][name], 0),
            _short(arm["retrains"], 1),
            _short(arm["promotions"], 1),
            _short(arm["wrong_promotions"], 1),
            "-" if arm["detection_delay_days"] is None else f"{arm['detection_delay_days']:.1f} days",
            _short(arm["false_alarms"], 1),
            _short(sum(arm["seconds"].values()), 0),
        ]
        for name, arm in result["arms"].items()
    ]


def write_outcome(folder: Path, result: Mapping[str, Any], courses: Sequence[Course]) -> Path:
    """Write result.json, chart.png and report.html to the folder; return the report."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    draw(list(courses), result["case"], result["scenario"], folder / "chart.png")
    report = folder / "report.html"
    with write_aside(report) as aside:
        aside.write_text(_html(result, courses[0], (folder / "chart.png").read_bytes()))
    return report


def log_outcome(project: Project, result: Mapping[str, Any], folder: Path) -> str:
    """Log figures, chart and report to MLflow, in the experiment `<case>-timelapse`; return the run's id."""
    from pipelines.stores.registry import open_store

    name, client = f"{result['case']}-timelapse", open_store(project.tracking_uri)
    known = client.get_experiment_by_name(name)
    place = f"{project.artifact_root.rstrip('/')}/{name}"
    experiment = client.create_experiment(name, place) if known is None else known.experiment_id
    run = client.create_run(experiment, run_name=f"{result['scenario']}, {result['days']} days").info.run_id
    for key in ("case", "scenario", "seeds", "days"):
        client.log_param(run, key, result[key])
    for key, value in _figures(result).items():
        client.log_metric(run, key, value)
    for file in ("report.html", "chart.png", "result.json"):
        client.log_artifact(run, str(folder / file))
    client.set_terminated(run)
    return str(run)


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    named = ("oracle_share", "retrains", "detection_delay_days", "false_alarms", "seconds")
    figures = {name: result[name] for name in named}
    figures |= {"gap_closure": result["gap_closure"]["value"]}
    figures |= {f"regret_{name}": value for name, value in result["regret"].items()}
    return {name: float(value) for name, value in figures.items() if value is not None}


def _html(result: Mapping[str, Any], first: Course, chart: bytes) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table_rows(result)
    )
    arms = "".join(
        f"<li><b>{name}</b>: {escape(POLICIES[name].describe)}</li>"
        for name in result["arms"]
        if name in POLICIES
    )
    events = "".join(f"<li>{escape(line)}</li>" for line in story(first)) or "<li>nothing happened</li>"
    gap = result["gap_closure"]
    closed = "not measured (no fresh reference)" if gap["value"] is None else f"{gap['value']:.2f}"
    if gap["low"] is not None:
        closed += f" [{gap['low']:.2f}, {gap['high']:.2f}]"
    title = f"{result['case']}: {result['scenario'].replace('_', ' ')}"
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#111827}}
img{{width:100%}}table{{border-collapse:collapse}}
td,th{{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #e5e7eb}}
td:first-child,th:first-child{{text-align:left}}</style>
<h1>{escape(title)}</h1>
<p>{result["days"]} days, seeds {", ".join(map(str, result["seeds"]))}; gap closure {closed}.</p>
<img alt="expected reward a request, by day and arm" src="data:image/png;base64,{b64encode(chart).decode()}">
<table><tr>{head}</tr>{body}</table>
<h2>Arms</h2><ul>{arms}</ul>
<h2>What happened (seed {first.seed})</h2><ol>{events}</ol></html>
"""


def story(course: Course) -> list[str]:
    """Tell what the system saw and did, a line an event."""
    lines = []
    for each in course.arms[MAIN]:
        if course.shift == each.day:
            lines.append(f"{each.date}: the scenario begins")
        if each.judgement.drift == "alarm":
            lines.append(f"{each.date}: drift alarm: {'; '.join(each.judgement.alarms)}")
        if each.judgement.held:
            lines.append(f"{each.date}: {each.judgement.decided}")
        if each.retrained is not None:
            found = each.retrained
            lines.append(
                f"{each.date}: retrained, for {found.cause}; version {found.version} {found.decision}: {found.why}"
            )
        if each.tried is not None and each.tried.decision != "continue":
            lines.append(f"{each.date}: the experiment says {each.tried.decision}: {each.tried.why}")
    return lines


def _average(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average figures over seeds; mappings of figures key by key."""
    first, averaged = parts[0], {}
    for key, value in first.items():
        column = [part[key] for part in parts]
        averaged[key] = _average(column) if isinstance(value, Mapping) else _mean(column)
    return averaged


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _short(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
