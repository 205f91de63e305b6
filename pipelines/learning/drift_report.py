"""The verdict for people: Evidently's HTML report, given our statistic and threshold for each column.

Evidently's own tests count rows and so fire on stationary days; here its drift score is the verdict's
statistic and its threshold the verdict's, so that report and JSON cannot disagree. It draws samples.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipelines.learning.drift_cells import value_sql
from pipelines.learning.drift_profile import Profile
from pipelines.learning.drift_rows import Rows, open_rows, sample, types_of
from pipelines.learning.drift_verdict import ColumnVerdict, Verdict

if TYPE_CHECKING:
    import pandas as pd

METHOD = "surprise against the reference's own days"
_SHOWN_LEVELS = 15


def sample_rows(rows: Rows, profile: Profile, size: int) -> pl.DataFrame:
    """Draw what is watched of the rows: numbers (lengths, ages) and words; null where it is not there."""
    with open_rows(rows, profile.time) as connection:
        types = types_of(connection)
        columns = [watched.column for watched in profile.columns]
        values = {column.name: value_sql(column, types.get(column.name)) for column in columns}
        return sample(connection, size, {"_now": "_now", **values}).sort("_now").drop("_now")


def write_report(
    verdict: Verdict, reference: pl.DataFrame, current: pl.DataFrame, path: Path
) -> dict[str, Any]:
    """Write the HTML report and return Evidently's own result, as a dictionary.

    `reference` and `current` are from `sample_rows`; what has no values in one of them is shown as present
    or missing.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Evidently's own dependencies
        return _write(verdict, reference, current, path)


def _write(verdict: Verdict, reference: pl.DataFrame, current: pl.DataFrame, path: Path) -> dict[str, Any]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    columns = _order(verdict)
    before, after = (
        _shown(columns, rows, other) for rows, other in ((reference, current), (current, reference))
    )
    numeric = [c.name for c in columns if before[c.name].dtype != object]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[c.name for c in columns if c.name not in numeric]
    )
    _register(columns)
    preset = DataDriftPreset(
        columns=[column.name for column in columns],
        method=METHOD,
        drift_share=10.0 ** -len(str(len(columns))),  # one drifted column is drift
        per_column_threshold={column.name: column.threshold or np.inf for column in columns},
    )
    snapshot = Report([preset], include_tests=True).run(
        Dataset.from_pandas(after, data_definition=definition),
        Dataset.from_pandas(before, data_definition=definition),
    )
    snapshot.save_html(str(path))
    path.write_text(path.read_text().replace("<body>", f"<body>{_heading(verdict)}", 1))
    found: dict[str, Any] = snapshot.dict()
    return found


def _order(verdict: Verdict) -> list[ColumnVerdict]:
    judged = [column for column in verdict.columns if column.status == "judged"]
    return sorted(judged, key=lambda c: (not c.alarmed, not c.drifted, c.role == "feature"))


def _register(columns: list[ColumnVerdict]) -> None:
    """Teach Evidently our method: it looks the verdict's statistic up by the column's name."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    statistics = {column.name: float(column.statistic or 0.0) for column in columns}

    def score(reference: pd.Series, _current: pd.Series, _kind: Any, threshold: float) -> tuple[float, bool]:
        statistic = statistics[str(reference.name)]
        return statistic, statistic > threshold

    kinds = [ColumnType.Numerical, ColumnType.Categorical]
    register_stattest(StatTest(METHOD, METHOD, kinds, default_threshold=3.0), score)


def _shown(columns: list[ColumnVerdict], rows: pl.DataFrame, other: pl.DataFrame) -> pd.DataFrame:
    """Return what Evidently can draw: floats, or words (dtype object) for all else."""
    import pandas as pd

    shown: dict[str, Any] = {}
    for column in columns:
        mine, theirs = (_values(column, frame) for frame in (rows, other))
        lacking = any(each.drop_nulls().is_empty() for each in (mine, theirs))
        if lacking or column.what == "missing":
            words = mine.is_null().replace_strict({True: "missing", False: "present"}, return_dtype=pl.String)
            shown[column.name] = words.to_numpy().astype(object)
        elif column.kind == "numeric":
            shown[column.name] = mine.to_numpy()
        else:
            common = pl.concat([mine, theirs]).drop_nulls().value_counts(sort=True)[column.name]
            words = mine.fill_null("(missing)")
            kept = [*common.head(_SHOWN_LEVELS).to_list(), "(missing)"]
            words = pl.select(pl.when(words.is_in(kept)).then(words).otherwise(pl.lit("(other)"))).to_series()
            shown[column.name] = words.to_numpy().astype(object)
    return pd.DataFrame(shown)


def _values(column: ColumnVerdict, rows: pl.DataFrame) -> pl.Series:
    """Read a column as finite numbers, or as words."""
    values = rows[column.name]
    if column.kind != "numeric":
        return values.cast(pl.String)
    return values.set(values.is_infinite().fill_null(False), None)


def _heading(verdict: Verdict) -> str:
    """Say the verdict above the report, in plain HTML."""
    colour = {"none": "#1b7f3b", "warning": "#b36b00", "alarm": "#b3261e"}[verdict.level]
    reference = verdict.reference
    spans = (
        f"{verdict.start} to {verdict.end} ({verdict.rows:,} rows) against "
        f"{reference['start']} to {reference['end']} ({reference['rows']:,} rows, {reference['days']} days)"
    )
    lines = "".join(f"<li>{escape(line)}</li>" for line in (*verdict.reasons, *verdict.notes))
    since = f" since {verdict.since}" if verdict.since else ""
    note = (
        "Drift scores are standard deviations of surprise against the reference's own day-to-day changes. "
        "Charts show samples, the verdict counts all rows. Days end at 00:00 UTC."
    )
    style = f"margin:24px auto;padding:16px 24px;border-left:6px solid {colour};background:#fafafa;color:#222"
    return (
        f'<section style="font:16px/1.5 Roboto,Helvetica,Arial,sans-serif;max-width:1200px;{style}">'
        f'<h1 style="margin:0;font-size:24px">Drift: <span style="color:{colour}">{verdict.level}</span>'
        f'{since}</h1><p style="margin:4px 0">{escape(spans)}. {note}</p>'
        f'<ul style="margin:8px 0">{lines or "<li>nothing moved</li>"}</ul></section>'
    )


def agreement(verdict: Verdict, evidently: Mapping[str, Any]) -> list[str]:
    """Name the columns on which Evidently's result and the verdict differ: none, or the report is wrong."""
    judged = {column.name: column for column in verdict.columns if column.status == "judged"}
    scores = {
        metric["config"]["column"]: metric["value"]
        for metric in evidently["metrics"]
        if "column" in metric.get("config", {})
    }
    failed = {
        test["metric_config"]["params"]["column"]: test["status"] == "FAIL"
        for test in evidently["tests"]
        if "column" in test["metric_config"]["params"]
    }
    return [
        name
        for name, column in judged.items()
        if scores.get(name) != column.statistic or failed.get(name) != column.drifted
    ]
