"""Measure how often drift asks for a retrain in worlds where nothing changes, or only the week goes round.

    python benchmarks/decide.py [--worlds 24] [--days 60] [--users 150] [--scenarios none season] [--first-seed 0]

Each world is its own draw of video recommendation's people, videos and tastes: 28 days of reference, then 60 days
that are watched each midnight by the judge of drift and decided on by the triggers of configs/, labels and age
left aside. Prints the share of worlds in which drift never asked for a retrain, with Wilson's 95 % interval
(the goal: at least 95 % of 200 worlds, lower end at least 0.90), and the seconds it took.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from drift_calibration import say

from pipelines.cases.video_recommendation.truth import VideoWorld
from pipelines.cases.video_recommendation.world import sample_days
from pipelines.learning.drift import PERSISTENCE, Rates, Verdict, judge_window, profile_reference
from pipelines.learning.reliability import wilson
from pipelines.settings import Project, Triggers
from pipelines.steps.decide import DRIFT, decide
from pipelines.steps.signals import Signals
from pipelines.world.scenarios import Scenario

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
REFERENCE = 28
TIME = "impression_time"
ROLES = {"prediction": "prediction", "label": "label"}
IDENTIFIERS = ("user_id", "video_id")


def watched(scenario: str, seed: int, users: int, days: int, rates: Rates) -> Verdict:
    """Simulate a world, and judge all of its days after the reference; the verdict's path tells each day."""
    world = VideoWorld(users=users, videos=600, scenario=Scenario(name=scenario, day=REFERENCE))
    rows = pl.concat(sample_days(world, seed, START, REFERENCE + days)).drop(IDENTIFIERS)
    born = START + REFERENCE * DAY
    profile = profile_reference(rows.filter(pl.col(TIME) < born), TIME, roles=ROLES)
    return judge_window(profile, rows.filter(pl.col(TIME) >= born), rates)


def first_retrain(verdict: Verdict, triggers: Triggers) -> int | None:
    """Count the days until a daily watch would have asked for a retrain because of drift; None if it never did."""
    lasting = 0
    for day, (since, evidence) in enumerate(verdict.path, start=1):
        lasting = lasting + 1 if evidence >= verdict.alarm_at else 0
        alarms = (f"evidence {evidence:.0f}",) if lasting >= PERSISTENCE else ()
        seen = Signals(alarms, 0, None, drifting_since=since)
        decision = decide(seen, triggers, (), START + (REFERENCE + day) * DAY)
        if decision.action == "retrain" and decision.reasons[0].kind == DRIFT:
            return day
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a scenario, and the worlds in which drift asked for a retrain."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=24, help="worlds a scenario")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--users", type=int, default=150, help="people in a world: about 7 rows a day each")
    parser.add_argument("--scenarios", nargs="*", default=["none", "season"])
    parser.add_argument("--first-seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    config = Project.find().case_config("video_recommendation")
    rates = Rates(config.alarms.warning_rate, config.alarms.alarm_run_rate, config.alarms.run_days)
    say(
        f"{asked.worlds} worlds a scenario, {asked.users} users, {asked.days} days after {REFERENCE} of reference"
    )
    say(f"{'scenario':14} {'no retrain by drift':>20} {'share':>7} {'95 %':>18} {'seconds':>8}   when it did")
    for scenario in asked.scenarios:
        started = time.perf_counter()
        seeds = range(asked.first_seed, asked.first_seed + asked.worlds)
        verdicts = {seed: watched(scenario, seed, asked.users, asked.days, rates) for seed in seeds}
        days = {seed: first_retrain(each, config.triggers) for seed, each in verdicts.items()}
        asked_for = {seed: day for seed, day in days.items() if day is not None}
        quiet = 1 - len(asked_for) / asked.worlds
        low, high = wilson(quiet, asked.worlds)
        told = ", ".join(
            f"world {seed} on day {day} ({', '.join(verdicts[seed].drifted[:3])})"
            for seed, day in asked_for.items()
        )
        say(
            f"{scenario:14} {asked.worlds - len(asked_for):>12} / {asked.worlds:<5} {quiet:>7.3f} "
            f"{f'[{low:.3f}, {high:.3f}]':>18} {time.perf_counter() - started:>8.0f}   {told}"
        )


if __name__ == "__main__":
    main()
