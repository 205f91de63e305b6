"""Monitor: what comes in now, beside what the model learned from; by day, with the reference kept as JSON.

The reference is the model's own past, read again from the lake and scored by the same code as the days
that are judged. Until a whole day has passed since the model's moment, its evaluation days are judged
against its training days; later, every new day against both. The model's predictions on rows that it
learned from are flattered, so their level comes from the evaluation days alone: only their day-to-day
movement from the others.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import CaseStudy
from pipelines.errors import DataError, LoopError
from pipelines.learning.drift import Profile, Rates, State, Verdict, judge_window, profile_reference
from pipelines.learning.drift_report import agreement, sample_rows, write_report
from pipelines.settings import Alarms, Platform
from pipelines.steps.estimate import SCORED, scored_rows, write_estimate
from pipelines.steps.monitor_plan import Plan, make_plan, midnight
from pipelines.steps.monitor_rows import LABEL, PREDICTION, Watch, learned_columns
from pipelines.steps.split import first_moment, has_times
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.stores.lake import Lake
from pipelines.stores.models import load_model, read_manifest, read_record
from pipelines.stores.workspace import Workspace

NO_TIMES = "the source tells no times, so there are no days to compare"
NO_REFERENCE = (
    "the model has learned from nothing of the kind that is served now (no such row lies in its days), so there is "
    "nothing to compare with until a later one has"
)


@dataclass(frozen=True)
class Reference:
    """What is kept of the reference: its profile, the sample that reports show, and fresh scores with labels."""

    profile: Profile
    shown: pl.DataFrame
    scored: pl.DataFrame


def monitor(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    alarms: Alarms,
    platform: Platform,
    *,
    model_folder: Path | None = None,
) -> Verdict:
    """Judge the whole days since the last look, and write report, verdict and state to `ws.monitor`.

    Looking twice at the same days changes nothing. `model_folder` names the watched model where it is not
    `ws.model`. Rows without times cannot be watched by day, nor can the first served rows of a model that has
    learned from others: the verdict then says so. Raises LoopError where there is no model, DataError where there
    are no rows at all.
    """
    folder = model_folder or ws.model
    digest, record = read_manifest(folder)["digest"], read_record(folder)
    if not has_times(case, ws):
        return _unjudged(ws.monitor, digest, alarms, "no_times", NO_TIMES)
    plan = make_plan(case, first_moment(case, ws), as_of, record)
    if plan.split <= plan.learned_from:  # a day or two of rows in all
        return _unjudged(ws.monitor, digest, alarms, "no_reference", NO_REFERENCE)
    origin = {"model": digest, "judged_from": midnight(plan.split).isoformat()}
    watch = Watch(case, ws, as_of, platform, load_model(case, folder), learned_columns(case, folder))
    known = _known(ws.monitor, origin)
    if known is None:
        rows = watch.rows(plan.start, plan.end)  # in one reading: what is sampled is sampled alike
        learned = _part(watch, rows, plan.start, plan.split)
        if rows is not None and learned is None and _holds(case, ws, plan):
            return _unjudged(ws.monitor, digest, alarms, "no_reference", NO_REFERENCE)
        reference = _make_reference(watch, plan, origin, alarms, learned)
        state, rows = _unseen(plan), _part(watch, rows, plan.split, plan.end)
    else:
        reference, state = known
        if _looked(watch, plan, state) == state.until and (ws.monitor / "verdict.json").is_file():
            return Verdict.from_json(read_json(ws.monitor / "verdict.json"))
        rows = watch.rows(min(state.until.values()), plan.end)
    verdict = judge_window(reference.profile, rows, _rates(alarms), state)
    state.until = _looked(watch, plan, state)
    _write(ws.monitor, reference, state, verdict, rows, alarms)
    return verdict


def _holds(case: CaseStudy, ws: Workspace, plan: Plan) -> bool:
    """Say whether the lake holds rows of the days that the model is compared with, of whatever kind."""
    lake, start, end = Lake(ws.lake, case.tables), midnight(plan.start), midnight(plan.split)
    return any(lake.files(name, start, end) for name in case.label.reads)


def _unjudged(folder: Path, digest: str, alarms: Alarms, status: str, why: str) -> Verdict:
    at = 1 / _rates(alarms).alarm_run
    verdict = Verdict("none", status, None, None, 0, {"model": digest}, (), (why,), 1.0, at)
    with write_folder_aside(folder) as aside:
        write_json(aside / "verdict.json", verdict.to_json())
    return verdict


def _unseen(plan: Plan) -> State:
    return State(until={"inputs": plan.split, "labels": plan.split})


def _looked(watch: Watch, plan: Plan, state: State) -> dict[str, int]:
    """Name the days up to which a look at the plan's days would have looked."""
    ends = {"inputs": plan.end, "labels": min(plan.end, watch.mature)}
    return {name: max(day, state.until[name]) for name, day in ends.items()}


def _part(watch: Watch, rows: pl.DataFrame | None, start: int, end: int) -> pl.DataFrame | None:
    """Take the rows of some days; None where there are none."""
    if rows is None:
        return None
    time = pl.col(watch.case.label.time)
    part = rows.filter((time >= midnight(start)) & (time < midnight(end)))
    return None if part.is_empty() else part


def _make_reference(
    watch: Watch, plan: Plan, origin: Mapping[str, Any], alarms: Alarms, rows: pl.DataFrame | None
) -> Reference:
    if rows is None:
        raise DataError(
            f"{watch.ws.lake} holds no rows of {midnight(plan.start):%Y-%m-%d} to "
            f"{midnight(plan.split):%Y-%m-%d}, the days that the model is compared with: ingest them, or "
            "train on days that are there"
        )
    roles = {PREDICTION: "prediction", LABEL: "label"}
    profile = profile_reference(
        rows,
        watch.case.label.time,
        roles={name: role for name, role in roles.items() if name in rows.columns},
        learned_until=plan.learned_until if plan.learned_until > plan.start else None,
        notes=plan.notes,
        origin=origin,
    )
    shown = sample_rows(rows, profile, alarms.report_sample)
    return Reference(profile, shown, scored_rows(rows, watch.case.label.time, plan))


def _known(folder: Path, origin: Mapping[str, Any]) -> tuple[Reference, State] | None:
    """Read the reference and state that were kept; None where they are of another model or not whole."""
    paths = [folder / name for name in ("profile.json", "reference.parquet", SCORED, "state.json")]
    if not all(path.is_file() for path in paths):
        return None
    profile = Profile.from_json(read_json(paths[0]))
    if dict(profile.origin) != dict(origin):
        return None
    reference = Reference(profile, *map(pl.read_parquet, paths[1:3]))
    return reference, State.from_json(read_json(paths[3]))


def _write(
    folder: Path,
    reference: Reference,
    state: State,
    verdict: Verdict,
    rows: pl.DataFrame | None,
    alarms: Alarms,
) -> None:
    """Write all of it, or none; the report is held to agree with the verdict."""
    with write_folder_aside(folder) as aside:
        write_json(aside / "profile.json", reference.profile.to_json())
        write_json(aside / "state.json", state.to_json())
        write_json(aside / "verdict.json", verdict.to_json())
        reference.shown.write_parquet(aside / "reference.parquet")
        write_estimate(aside, reference.scored, rows)
        if verdict.status == "judged" and rows is not None and alarms.report:
            current = sample_rows(rows, reference.profile, alarms.report_sample)
            written = write_report(verdict, reference.shown, current, aside / "report.html")
            differing = agreement(verdict, written)
            if differing:
                raise LoopError(f"the drift report disagrees with the verdict on {', '.join(differing)}")
        elif (folder / "report.html").is_file():
            shutil.copy(folder / "report.html", aside / "report.html")


def _rates(alarms: Alarms) -> Rates:
    return Rates(alarms.warning_rate, alarms.alarm_run_rate, alarms.run_days)
