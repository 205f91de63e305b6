"""The error rates on rows, whole: people who come back, days that hang together, weekends, odd days."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import drift_help
import pytest
from drift_calibration import alarms, warnings
from drift_worlds import WORLDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("days", [1, 7])
def test_at_most_17_of_200_stationary_windows_warn(days: int) -> None:
    each = 200 // len(WORLDS) + 1
    assert sum(warnings(world, 500, each, days) for world in WORLDS) <= 17


def test_at_most_a_twentieth_of_60_day_runs_ever_alarm() -> None:
    assert sum(alarms(world, 500, 10) for world in WORLDS) <= 0.05 * 10 * len(WORLDS)


MILLIONS = """
import sys
from pathlib import Path
from pipelines.learning.drift import judge_window, profile_reference
from pipelines.learning.drift_report import sample_rows

def peak():  # of this process alone; getrusage would count what it was forked from
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024

folder = Path(sys.argv[1])
before = peak()
roles = {"prediction": "prediction", "label": "label"}
profile = profile_reference(folder / "reference", "time", roles=roles)
verdict = judge_window(profile, folder / "current")
sample_rows(folder / "current", profile, 20_000)
print(verdict.level, verdict.rows, peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_ten_million_rows_of_ten_columns_fit_into_two_gigabytes(tmp_path: Path) -> None:
    """Reference and window of 10 million rows each; peak memory above the libraries' own, in MB."""
    world = drift_help.World(rows=357_143, users=100_000, daily=0.01)
    for name, days in (("reference", 28), ("current", 28)):
        (tmp_path / name).mkdir()
        for week in range(days // 7):
            made = drift_help.simulate(world, 7, seed=week)
            moved = 7 * week + (28 if name == "current" else 0)
            made = made.with_columns(drift_help.shift_days(moved))
            made.write_parquet(tmp_path / name / f"{week}.parquet")
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MILLIONS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ},
    )
    level, rows, megabytes = done.stdout.split()
    print(f"{rows} rows: {level}, {megabytes} MB, {time.perf_counter() - started:.0f} s")
    assert int(rows) == 28 * 357_143
    assert int(megabytes) < 2000
