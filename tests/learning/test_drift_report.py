"""Evidently's report says of each column what the verdict says, in numbers and in its tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from drift_help import REFERENCE, before, between, profile, rows

from pipelines.learning.drift import judge_window
from pipelines.learning.drift_report import agreement, sample_rows, write_report

MADE = rows(REFERENCE + 7)
WEEK = between(MADE, REFERENCE, REFERENCE + 7)
PROFILE = profile(MADE)


def changed() -> pl.DataFrame:
    """One column of each kind of trouble."""
    return WEEK.with_columns(
        n0=pl.col("n0") + 0.6,
        n1=pl.lit(None, dtype=pl.Float64),
        n2=pl.when(pl.int_range(pl.len()) % 15 == 0).then(float("inf")).otherwise(pl.col("n2")),
        n3=pl.when(pl.int_range(pl.len()) % 15 == 0).then(None).otherwise(pl.col("n3")),
        c0=pl.lit("car"),
    ).drop("flag")


@pytest.mark.parametrize("week", [WEEK, changed()], ids=["quiet", "changed"])
def test_report_and_verdict_agree(week: pl.DataFrame, tmp_path: Path) -> None:
    verdict = judge_window(PROFILE, week)
    samples = [sample_rows(each, PROFILE, 2000) for each in (before(MADE), week)]
    path = tmp_path / "report.html"
    found = write_report(verdict, *samples, path)
    assert agreement(verdict, found) == []
    counted = found["metrics"][0]["value"]["count"]
    assert counted == sum(column.drifted for column in verdict.columns)
    html = path.read_text()
    assert "<html" in html
    for column in verdict.columns:
        assert column.name in html
    assert all(reason.split(":")[0] in html for reason in verdict.reasons)
    if verdict.reasons:
        tampered = replace(verdict, columns=tuple(replace(c, drifted=False) for c in verdict.columns))
        assert set(agreement(tampered, found)) == {c.name for c in verdict.columns if c.drifted}


def test_samples_are_the_same_ones_each_time() -> None:
    first, again = (sample_rows(WEEK, PROFILE, 500) for _ in range(2))
    assert first.height == 500
    assert first.equals(again)


def test_no_script_of_a_column_name_runs(tmp_path: Path) -> None:
    odd = {"n0": "<img src=x onerror=alert(1)>"}
    named = MADE.rename(odd)
    watched = profile(named)
    week = between(named, REFERENCE, REFERENCE + 7).with_columns(pl.col(odd["n0"]) + 1)
    verdict = judge_window(watched, week)
    samples = [sample_rows(each, watched, 500) for each in (before(named), week)]
    write_report(verdict, *samples, tmp_path / "report.html")
    heading = (tmp_path / "report.html").read_text().split("</section>")[0]
    assert "&lt;img" in heading
    assert "<img src=x" not in heading.split("<section")[-1]
