"""Measure a drift check: rows in Parquet × 10 columns, beside plain DuckDB histograms of the same columns.

    python benchmarks/drift_scale.py [--rows 2000000] [--repeats 5] [--full]

Each size runs in a process of its own. `check` is the verdict on all rows, against a profile kept from
before; `report` draws a sample of 10,000 rows and writes the HTML (Evidently's import left out). Seconds are
the least of the repeats. `--full` takes 10 million rows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from drift_worlds import CATEGORIES, DAY, ROLES, START

from pipelines.learning.drift import judge_window, profile_reference
from pipelines.learning.drift_report import sample_rows, write_report

PIECE = 500_000
REFERENCE_DAYS, DAYS = 28, 7
NUMBERS = ("n0", "n1", "n2", "n3", "n4", "prediction")
OTHERS = ("label", "c0", "c1", "flag")


def write_rows(folder: Path, rows: int, first_day: int, days: int) -> None:
    """Write rows of some days: six numbers, two categories, a flag and a label."""
    folder.mkdir()
    for number, start in enumerate(range(0, rows, PIECE)):
        rng = np.random.default_rng([rows, number])
        n = min(PIECE, rows - start)
        moment = first_day * DAY + rng.integers(days * DAY, size=n)
        columns = {name: rng.standard_normal(n).astype(np.float64) for name in NUMBERS}
        frame = pl.DataFrame(
            {
                "time": pl.Series(moment).cast(pl.Duration("us")) + START,
                **columns,
                "label": (rng.random(n) < 0.1).astype(int),
                "c0": np.array(CATEGORIES)[rng.integers(len(CATEGORIES), size=n)],
                "c1": pl.Series(rng.integers(200, size=n)).cast(pl.String),
                "flag": rng.random(n) < 0.3,
            }
        )
        frame.write_parquet(folder / f"{number:04d}.parquet")


def histograms(folder: Path, edges: Sequence[float]) -> Any:
    """Count every column's values: what any check has to do, and nothing else."""
    bounds = ", ".join(f"{edge!r}::DOUBLE" for edge in edges)
    parts = [f"histogram({name}, [{bounds}])" for name in NUMBERS]
    parts += [f"histogram({name})" for name in OTHERS]
    with duckdb.connect(config={"memory_limit": "1GB"}) as connection:
        source = f"read_parquet('{folder}/*.parquet')"
        return connection.execute(f"SELECT {', '.join(parts)} FROM {source}").fetchall()


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Run once; return the seconds and the answer."""
    started = time.perf_counter()
    found = run()
    return time.perf_counter() - started, found


def measure(folder: Path, repeats: int) -> str:
    """Measure one size; return seconds of histograms, check and report, and the check's peak MiB."""
    reference, current = folder / "reference", folder / "current"
    profile = profile_reference(reference, "time", roles=ROLES)
    edges = next(each.column.edges for each in profile.columns if each.column.name == "n0")
    check, plain, peak = float("inf"), float("inf"), 0.0
    for _ in range(repeats):  # by turns, so that both meet the same load
        seconds, verdict = timed(lambda: judge_window(profile, current))
        check, peak = min(check, seconds), peak or peak_mebibytes()
        plain = min(plain, timed(lambda: histograms(current, edges))[0])
    import evidently.presets  # noqa: F401

    shown = sample_rows(reference, profile, 10_000)

    def report() -> None:
        write_report(verdict, shown, sample_rows(current, profile, 10_000), folder / "report.html")

    drawn = min(timed(report)[0] for _ in range(repeats))
    return f"{plain} {check} {drawn} {peak} {verdict.level}"


def peak_mebibytes() -> float:
    """Read this process's own high-water mark: `ru_maxrss` would keep that of the one that started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="10,000,000 rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.child:
        sys.stdout.write(measure(Path(asked.child), asked.repeats) + "\n")
        return
    rows = 10_000_000 if asked.full else asked.rows
    heads = ("rows", "histograms", "check", "ratio", "report", "peak MiB")
    sys.stdout.write(
        f"{heads[0]:>12} {heads[1]:>11} {heads[2]:>8} {heads[3]:>6} {heads[4]:>7} {heads[5]:>9}\n"
    )
    for size in (rows // 10, rows):
        with TemporaryDirectory(prefix="loop-bench-") as scratch:
            write_rows(Path(scratch) / "reference", 500_000, 0, REFERENCE_DAYS)
            write_rows(Path(scratch) / "current", size, REFERENCE_DAYS, DAYS)
            command = [sys.executable, __file__, "--child", scratch, "--repeats", str(asked.repeats)]
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
            plain, check, drawn, peak = map(float, found[:4])
            sys.stdout.write(
                f"{size:12,} {plain:9.2f} s {check:6.2f} s {check / plain:6.2f} {drawn:5.2f} s {peak:9.0f}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
