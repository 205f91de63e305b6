"""Ingest's peak memory does not grow with the number of events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("ingest_many.py")


def peak_megabytes(workspace: Path, events: int) -> float:
    command = [sys.executable, str(CHILD), str(workspace), str(events)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(finished.stdout.split()[0])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_times_the_events_take_about_the_same_memory(tmp_path: Path) -> None:
    few = peak_megabytes(tmp_path / "few", 500_000)
    many = peak_megabytes(tmp_path / "many", 5_000_000)
    assert many < 1.5 * few
    assert many < 900
