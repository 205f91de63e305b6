"""Compare what to do about labels that have not matured: wait for them, or take what is known so far.

    python benchmarks/delayed_feedback.py [--case ad_click] [--share 1.0]

For each case of `runs/` (`make demo` makes them) two models learn on the same days. `wait` leaves out rows whose label
is not mature when it learns, as what is judged does, and `train` but where labels are told early. `so far` takes them
too, with the label that is known by then: what has not come counts as no (a fake negative; Ktena et al., "Addressing
delayed feedback for continuous training with neural networks in CTR prediction", RecSys 2019), or where a label needs
one to speak, as nothing. Both are measured on mature rows of the days after.
`--share` keeps only the newest part of the training window: the shorter it is, the more of it is immature.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from datetime import datetime

from pipelines import catalog
from pipelines.case_study import CaseStudy, Dataset
from pipelines.cli.output import table
from pipelines.flows.edge import Run, bind
from pipelines.learning.bootstrap import Estimate
from pipelines.learning.scores import score
from pipelines.settings import Project, parse
from pipelines.steps.split import find_protocol, split
from pipelines.stores.dataset import open_dataset

WAIT, SO_FAR = "wait", "so far"
COLUMNS = ("case", "labels mature after", "metric", "rows so far", "immature", WAIT, SO_FAR, "so far - wait")


@dataclass(frozen=True)
class Compared:
    """What both reached on the same rows, and their difference in pairs; rows that `so far` learned from."""

    metric: str
    rows: int
    immature: int
    wait: Estimate
    so_far: Estimate
    difference: Estimate


def main() -> None:
    """Compare what is asked for and print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=catalog.names())
    parser.add_argument("--share", type=float, default=1.0, help="of the training window, the newest part")
    asked = parser.parse_args()
    project, rows = Project.find(), []
    for name in asked.case or catalog.names():
        run = bind(project, name)
        if not run.workspace.model.is_dir():
            sys.exit(f"{run.workspace.root} holds no run: run `make demo` first")
        rows.append(_row(run.case, compare(run, asked.share)))
        sys.stderr.write("  ".join(rows[-1]) + "\n")
    table(COLUMNS, rows)


def compare(run: Run, share: float) -> Compared:
    """Learn both models and measure them on the days after."""
    case, params, platform = run.case, run.params, run.project.platform
    divided = split(case, run.workspace, run.as_of, params, platform, run.protocol)
    end: datetime = divided.train.end
    start = end - (end - divided.train.start) * share
    settings = parse(case.params, params.train, f"params of {case.name}: train")
    measure = find_protocol(case, run.protocol).measure
    known: dict[str, Dataset] = {
        name: open_dataset(each, run.workspace, start, end, params.seed, platform)
        for name, each in ((WAIT, case), (SO_FAR, _impatient(case)))
    }
    measured = {
        name: measure(case.fit(each, settings).model, divided.train, divided.test, None)
        for name, each in known.items()
    }
    metric = case.framing.primary_metric
    scores = score(measured, metric, run.config.gate.resamples, params.seed)
    reached = [
        scores.get(WAIT, metric),
        scores.get(SO_FAR, metric),
        scores.difference(SO_FAR, WAIT, metric),
    ]
    wait, so_far, difference = (
        each.estimate(run.config.gate.confidence) for each in reached if each is not None
    )
    rows, mature = (known[name].labels().height for name in (SO_FAR, WAIT))
    return Compared(metric, rows, rows - mature, wait, so_far, difference)


def _impatient(case: CaseStudy) -> CaseStudy:
    """Let the labels of a case count as they stand, however young they are."""
    return replace(case, label=replace(case.label, matures=False))


def _row(case: CaseStudy, found: Compared) -> list[str]:
    difference = found.difference
    return [
        case.name,
        str(case.framing.attribution),
        found.metric,
        f"{found.rows:,}",
        f"{found.immature:,}",
        f"{found.wait.value:.4f}",
        f"{found.so_far.value:.4f}",
        f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]",
    ]


if __name__ == "__main__":
    main()
