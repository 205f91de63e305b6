"""Measure what fitting once more is worth: a model that knows the days it was judged by, beside one that does not.

    python benchmarks/refit.py [--case ad_click]

For each case of `runs/` (`make demo` makes them) two models learn from as many days and are measured on the
days after. `as judged` learned until `evaluate_days` before them, as a model does that is judged by the newest days and
serves as it is; `refit` learned until they begin, as one that is fitted once more when the gate has passed it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from datetime import timedelta

from pipelines import catalog
from pipelines.cli.output import table
from pipelines.flows.edge import Run, bind
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.scores import score
from pipelines.settings import Project, parse
from pipelines.steps.split import find_protocol, split, training_data

JUDGED, REFIT = "as judged", "refit"
COLUMNS = ("case", "metric", "days to learn from", "days that it lacks", JUDGED, REFIT, "refit - as judged")


@dataclass(frozen=True)
class Compared:
    """What both reached on the same rows, and their difference in pairs; how many days each learned from."""

    metric: str
    days: int
    judged: Estimate
    refit: Estimate
    difference: Estimate


def main() -> None:
    """Compare what is asked for and print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=catalog.names())
    asked = parser.parse_args()
    project, rows = Project.find(), []
    for name in asked.case or catalog.names():
        run = bind(project, name)
        if not run.workspace.model.is_dir():
            sys.exit(f"{run.workspace.root} holds no run: run `make demo` first")
        rows.append(_row(run, compare(run)))
        sys.stderr.write("  ".join(rows[-1]) + "\n")
    table(COLUMNS, rows)


def compare(run: Run) -> Compared:
    """Learn both models and measure them on the days after."""
    case, params, platform = run.case, run.params, run.project.platform
    divided = split(case, run.workspace, run.as_of, params, platform, run.protocol)
    lacking = timedelta(days=params.window.evaluate_days)
    length = divided.train.end - divided.train.start - lacking
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    measure = find_protocol(case, run.protocol).measure
    measured = {}
    for name, end in ((JUDGED, divided.train.end - lacking), (REFIT, divided.train.end)):
        known = training_data(case, run.workspace, end - length, end, params, platform)
        measured[name] = measure(case.fit(known, settings).model, divided.train, divided.test, None)
    metric = case.framing.primary_metric
    scores = score(measured, metric, run.config.gate.resamples, params.seed)
    found = (scores.get(JUDGED, metric), scores.get(REFIT, metric), scores.difference(REFIT, JUDGED, metric))
    judged, refit, difference = (
        each.estimate(run.config.gate.confidence) for each in found if each is not None
    )
    return Compared(metric, length.days, judged, refit, difference)


def _row(run: Run, found: Compared) -> list[str]:
    difference = found.difference
    return [
        run.case.name,
        found.metric,
        f"{found.days}",
        f"{run.params.window.evaluate_days}",
        f"{found.judged.value:.4f}",
        f"{found.refit.value:.4f}",
        f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]",
    ]


if __name__ == "__main__":
    main()
