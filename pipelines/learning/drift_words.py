"""Verdicts in words: what moved, from where to where."""

from __future__ import annotations

from pipelines.learning.drift_cells import Column, Counts
from pipelines.learning.drift_contrasts import DEGREES
from pipelines.learning.drift_profile import Watched
from pipelines.learning.drift_verdict import ColumnVerdict

_UNJUDGED = {
    "not_enough_rows": "not enough rows in the window",
    "not_enough_reference": "not enough days in the reference",
    "not_comparable": "the reference holds only rows that the model learned from, where it predicts better",
}


def explain(verdict: ColumnVerdict, watched: Watched, counts: Counts) -> str:
    """Say why a column drifted, or could not be judged; nothing where all is well."""
    if verdict.status in _UNJUDGED and not verdict.alarmed:
        return f"{verdict.name}: {_UNJUDGED[verdict.status]}"
    if not verdict.drifted and not verdict.alarmed:
        return ""
    said = []
    if verdict.drifted:
        moved = "the column is gone" if verdict.name in counts.absent else _moved(verdict, watched, counts)
        said.append(f"{moved} (surprise {verdict.statistic:.1f}, threshold {verdict.threshold:.1f})")
    if verdict.alarmed:
        said.append(f"it has stayed away from its reference (evidence {_odds(verdict.evidence or 1.0)})")
    return f"{verdict.name}: " + "; ".join(said)


def _moved(verdict: ColumnVerdict, watched: Watched, counts: Counts) -> str:
    column, what, effect = watched.column, verdict.what or "", verdict.effect or 0.0
    cells, rows = counts.cells[column.name].sum(axis=0), int(counts.rows.sum())
    if what == "missing":
        before = watched.contrasts.missing[0] if watched.contrasts.missing else 0.0
        return f"missing values {_percent(before)} → {_percent(1 - cells.sum() / max(rows, 1))}"
    if what in DEGREES:
        return f"{_DIRECTIONS[what][effect > 0]} by {abs(effect):.2f} sd, mean {_means(watched, counts)}"
    inside = _inside(column, what)
    before, now = (float(each[inside].sum() / max(each.sum(), 1)) for each in (watched.cells, cells))
    named = f"'{what.removeprefix('level ')}'" if what.startswith("level ") else _NAMES[what]
    return f"{named} {_percent(before)} → {_percent(now)}"


_DIRECTIONS = {
    "level": ("lower", "higher"),
    "spread": ("narrower", "wider"),
    "skew": ("leaning to lower values", "leaning to higher values"),
    "shape": ("more values in the shoulders", "more values in middle and tails"),
}
_NAMES = {
    "outside": "values outside the reference's range",
    "other levels": "rarer values",
    "new levels": "values never seen in the reference",
}


def _inside(column: Column, what: str) -> list[int]:
    if what == "outside":
        return [0, column.cells - 1]
    if what == "other levels":
        return [column.shown]
    if what == "new levels":
        return [column.cells - 1]
    return [column.levels.index(what.removeprefix("level "))]


def _means(watched: Watched, counts: Counts) -> str:
    column = watched.column.name
    means, seen = counts.means[column], counts.cells[column].sum(axis=1)
    usable = (means == means) & (seen > 0)
    now = (
        float((means[usable] * seen[usable]).sum() / max(seen[usable].sum(), 1))
        if usable.any()
        else float("nan")
    )
    return f"{watched.mean:.4g} → {now:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _odds(evidence: float) -> str:
    return "over a million to one" if evidence > 1e6 else f"{evidence:,.0f} to one"
