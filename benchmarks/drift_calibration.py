"""Measure the drift watch: how often it speaks in worlds that stand still, and how soon in others.

    python benchmarks/drift_calibration.py [--windows 12] [--runs 4] [--repeats 4] [--rows 1000] [--full]

Prints two tables. Warnings: the share of windows of one and of seven days, each after a reference of its
own, in which any column was flagged (nominal 5 %). Alarms: the share of 60-day runs that ever alarmed.
`--full` takes 34 windows, 10 runs and 10 repeats: the rates then stand on some 200 windows a length.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from drift_worlds import ROLES, SHIFTS, START, WORLDS, Shift, named, shifted, simulate

from pipelines.learning.drift import PERSISTENCE, Verdict, judge_window, profile_reference

REFERENCE, RUN = 28, 60


def judged(rows: pl.DataFrame, days: int) -> Verdict:
    """Judge the `days` days after the reference as one window."""
    day = pl.col("time") - START
    reference, end = pl.duration(days=REFERENCE), pl.duration(days=REFERENCE + days)
    profile = profile_reference(rows.filter(day < reference), "time", roles=ROLES)
    return judge_window(profile, rows.filter((day >= reference) & (day < end)))


def first_alarm(verdict: Verdict) -> int | None:
    """Count the days to the first alarm, as a daily watch would have raised it; None if it never did."""
    high = np.array([evidence >= verdict.alarm_at for _, evidence in verdict.path])
    for day in range(PERSISTENCE, len(high) + 1):
        if high[day - PERSISTENCE : day].all():
            return day
    return None


def warnings(world: str, rows: int, windows: int, days: int) -> int:
    """Count the stationary windows that were flagged."""
    made = (simulate(named(world, rows), REFERENCE + days, seed) for seed in range(windows))
    return sum(any(column.drifted for column in judged(each, days).columns) for each in made)


def alarms(world: str, rows: int, runs: int) -> int:
    """Count the stationary runs that ever alarmed."""
    made = (simulate(named(world, rows), REFERENCE + RUN, 1000 + seed) for seed in range(runs))
    return sum(first_alarm(judged(each, RUN)) is not None for each in made)


def power(world: str, rows: int, shift: Shift, column: str, repeats: int) -> tuple[int, int, list[int]]:
    """Shift a world from the reference's end on: flagged windows of 1 and 7 days, and days to the alarm."""
    flagged, days = [0, 0], []
    for seed in range(repeats):
        made = shifted(simulate(named(world, rows), REFERENCE + 21, 2000 + seed), REFERENCE, shift, seed)
        for place, length in enumerate((1, 7)):
            flagged[place] += column in [c.name for c in judged(made, length).columns if c.drifted]
        days.append(first_alarm(judged(made, 21)) or 99)
    return flagged[0], flagged[1], days


def _line(world: str, found: Sequence[int], windows: int, runs: int) -> str:
    of = (windows, windows, runs)
    return f"{world:14} " + " ".join(f"{count:>6} / {all_:<3}" for count, all_ in zip(found, of, strict=True))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=12, help="stationary windows a world and length")
    parser.add_argument("--runs", type=int, default=4, help="stationary 60-day runs a world")
    parser.add_argument("--repeats", type=int, default=4, help="worlds a shift")
    parser.add_argument("--rows", type=int, default=1000, help="rows a day")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS))
    parser.add_argument("--full", action="store_true", help="34 windows, 10 runs, 10 repeats")
    asked = parser.parse_args(arguments)
    if asked.full:
        asked.windows, asked.runs, asked.repeats = 34, 10, 10
    started = time.perf_counter()
    say(f"{asked.rows:,} rows a day, 9 columns, reference {REFERENCE} days\n")
    say("Stationary worlds: flagged windows, and 60-day runs that ever alarmed")
    say(f"{'world':14} {'1 day':>12} {'7 days':>12} {'alarms':>12}")
    total = np.zeros(3, dtype=int)
    for world in asked.worlds:
        found = [warnings(world, asked.rows, asked.windows, days) for days in (1, 7)]
        found.append(alarms(world, asked.rows, asked.runs))
        total += found
        say(_line(world, found, asked.windows, asked.runs))
    worlds = len(asked.worlds)
    say(_line("all", total, asked.windows * worlds, asked.runs * worlds))
    world = "days"
    say(f"\nShifts in world '{world}': flagged windows, and days to the alarm (3 at least)")
    say(f"{'shift':34} {'1 day':>6} {'7 days':>7} {'alarm within 21 days':>21} {'median':>7}")
    for name, (column, shift) in SHIFTS.items():
        one, week, days = power(world, asked.rows, shift, column, asked.repeats)
        came = [day for day in days if day < 99]
        median = f"{np.median(days):.0f}" if len(came) > len(days) / 2 else "–"
        shares = [f"{100 * count / asked.repeats:.0f} %" for count in (one, week, len(came))]
        say(f"{name:34} {shares[0]:>6} {shares[1]:>7} {shares[2]:>21} {median:>7}")
    say(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
