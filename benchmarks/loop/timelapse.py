"""The loop in figures: every case under every scenario, beside its controls; what was lived once is kept.

    python benchmarks/loop/timelapse.py --case ad_click --scenario concept --scenario none --seed 7 --seed 8

Without options: the three systems, every scenario, 60 days, one seed, beside a model that is never retrained, and
for a change of tastes the fresh reference. "asked for by" names the reasons for retrains, "held" counts the
mornings on which a broken column held training.
`timelapse/` keeps every day of each (case, scenario, seed, arm): stopped, it goes on.
"""

from __future__ import annotations

import argparse
import sys
import time

from pipelines import catalog
from pipelines.cli.output import table
from pipelines.flows.timelapse.policies import CONTROLS, FRESH, FROZEN, TRIGGERED, find_policy
from pipelines.flows.timelapse.result import summarise, write_outcome
from pipelines.flows.timelapse.run import play
from pipelines.settings import Project
from pipelines.world.scenarios import SCENARIOS

COLUMNS = (
    "case", "scenario", "seeds", "gap closure", "oracle share", "frozen", "retrains", "asked for by", "held",
    "detected after", "false alarms", "best schedule's regret", "minutes",
)  # fmt: skip
LEARNED = ("concept", "concept_gradual")
"""The scenarios in which there is something to learn, and so a gap to close."""


def main() -> None:
    """Live what is asked for and print a line a case and scenario."""
    asked = _arguments()
    project = Project.find()
    beside = (TRIGGERED, *(CONTROLS if asked.controls else (FROZEN,)), *map(find_policy, asked.arm or ()))
    rows = []
    for case in asked.case:
        for scenario in asked.scenario:
            started = time.perf_counter()
            reference = (FRESH,) if scenario in LEARNED else ()
            arms = tuple(dict.fromkeys((*beside, *reference)))
            courses = [
                play(project, case, scenario, seed, asked.days, arms, lambda *_: None)
                for seed in asked.seed or [project.case_params(case).seed]
            ]
            result = summarise(case, scenario, courses, time.perf_counter() - started)
            write_outcome(
                project.root / "timelapse" / case / f"{scenario}-{asked.days}-days", result, courses
            )
            rows.append(_row(result))
            sys.stderr.write("  ".join(rows[-1]) + "\n")
    table(COLUMNS, rows)


def _row(result: dict[str, object]) -> list[str]:
    arms, regret, gap = result["arms"], result["regret"], result["gap_closure"]
    assert isinstance(arms, dict) and isinstance(regret, dict) and isinstance(gap, dict)
    schedules = [regret[name] for name in ("daily", "weekly") if name in regret]
    seconds = result["seconds"]
    assert isinstance(seconds, float)
    closed = _short(gap["value"], 2)
    if gap["low"] is not None:
        closed += f" [{gap['low']:.2f}, {gap['high']:.2f}]"
    return [
        str(result["case"]),
        str(result["scenario"]),
        " ".join(map(str, result["seeds"])),  # type: ignore[call-overload]
        closed,
        _short(arms["triggered"]["oracle_share"]),
        _short(arms["frozen"]["oracle_share"]) if "frozen" in arms else "-",
        _short(arms["triggered"]["retrains"], 1),
        ", ".join(kind for kind, times in arms["triggered"]["asked_for"].items() if times) or "-",
        _short(arms["triggered"]["held_days"], 1),
        _short(arms["triggered"]["detection_delay_days"], 1),
        _short(arms["triggered"]["false_alarms"], 1),
        _short(regret["triggered"] / min(schedules), 2) + " ×" if schedules else "-",
        f"{seconds / 60:.1f}",
    ]


def _short(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", choices=catalog.names())
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--arm", action="append", help="another arm: fresh, daily ...")
    parser.add_argument("--controls", action="store_true", help="also daily, weekly and informed arms")
    found = parser.parse_args()
    found.case = found.case or [name for name in catalog.names() if catalog.case(name).serving is not None]
    found.scenario = found.scenario or list(SCENARIOS)
    return found


if __name__ == "__main__":
    main()
