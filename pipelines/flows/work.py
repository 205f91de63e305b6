"""What a flow's tasks do, as plain functions: Prefect wraps them, and a time-lapse calls them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from pipelines.flows import clock, trial
from pipelines.flows.edge import Run, perform, timed
from pipelines.stores.files import read_json, write_json

if TYPE_CHECKING:
    from pipelines.flows.causes import Cause
    from pipelines.learning.drift import Verdict
    from pipelines.steps.decide import Decision
    from pipelines.steps.ingest import Manifest
    from pipelines.steps.parity import Parity
    from pipelines.steps.promote import Promotion
    from pipelines.steps.signals import Signals

DECISION = "decision.json"


def take_in(run: Run, until: datetime) -> Manifest:
    """Ingest what the action log received until now."""
    from pipelines.steps.ingest import ingest_log
    from pipelines.stores.action_log import open_action_log

    log = open_action_log(run.project.platform.action_log, run.workspace)
    with run.workspace.lock(), timed(run.workspace, "ingest"), log:
        return ingest_log(run.case, run.workspace, log, as_of=until, limits=run.limits)


def materialize(run: Run) -> dict[str, datetime]:
    """Write the newest features to the online store, which serves them; return how far each view reaches."""
    from pipelines.steps.features import materialize as write

    if not run.case.features:
        return {}
    with run.workspace.lock(), timed(run.workspace, "materialize"):
        return write(run.case, run.workspace, run.as_of, run.project.platform)


def promote(run: Run) -> Promotion:
    """Judge the model against the champion of this moment, and tag its version with the cause."""
    promotion: Promotion = perform(run, "promote")
    if promotion.decision != "unchanged":
        run.registry.tag(run.registry.version(promotion.version), {"cause": run.cause})
    return promotion


def introduce(run: Run) -> Promotion | None:
    """Judge the model that a live workspace grew from, once; a champion of simulated people steps down before it."""
    from pipelines.steps.promote import retire
    from pipelines.stores.models import read_manifest, read_record

    if run.registry.find(read_manifest(run.workspace.model)["digest"]) is not None:
        return None
    champion = run.registry.champion()
    if champion is not None and champion.tags.get("origin") != run.workspace.origin:
        retire(run.registry, f"{run.workspace.root} grows from real rows")
    as_of = datetime.fromisoformat(read_record(run.workspace.model)["as_of"])
    return promote(replace(run, as_of=as_of))


def look(run: Run, verdict: Verdict) -> Signals:
    """Gather what a decision rests on: alarms, incidents, new labels, and how the champion does now."""
    from pipelines.flows.causes import Journal
    from pipelines.steps.decide import ANSWERS, ESTIMATED, OUTCOME
    from pipelines.steps.estimate import read_estimate
    from pipelines.steps.incidents import find_incidents
    from pipelines.steps.outcome import check_watched, measure_outcome
    from pipelines.steps.signals import Signals, count_new_labels, last_training, measure_champion

    triggers, metric = run.config.triggers, run.config.experiment.metric
    where = f"configs/{run.case.name}.yaml"
    if triggers.outcome_drop is not None:
        told = f"{where}: experiment: metric, which triggers: outcome_drop watches (null: never)"
        check_watched(run.case, metric, told)
    if triggers.answers is not None:
        check_watched(run.case, triggers.answers, f"{where}: triggers: answers", at_once=True)
    platform, seed = run.project.platform, run.params.seed
    alarms = _alarms(run, verdict)
    start, trained = last_training(run.workspace, run.registry)
    incidents = find_incidents(run.case, run.workspace, start, trained, run.as_of)
    labels = count_new_labels(run.case, run.workspace, trained, run.as_of, seed, platform)
    performance = measure_champion(
        run.case,
        run.workspace,
        run.as_of,
        run.params,
        platform,
        run.protocol,
        run.config.gate,
        run.registry,
    )
    estimated, journal = read_estimate(run.workspace.monitor), Journal(run.workspace)
    drifted, drifted_columns = journal.drifted()

    came = partial(measure_outcome, run.case, run.workspace, run.as_of, platform=platform)
    answers = triggers.answers
    return Signals(
        alarms,
        labels,
        performance,
        estimated,
        incidents,
        trained,
        verdict.since,
        trial.on_trial(run, run.as_of),
        None if triggers.outcome_drop is None else came(metric, after=journal.last(OUTCOME)),
        journal.fall(),
        None
        if answers is None
        else came(answers, at_once=True, after=journal.last(ANSWERS), week_drop=answers.week_drop),
        drifted,
        [each.name for each in verdict.columns if each.alarmed],
        drifted_columns,
        journal.asked(ESTIMATED),
    )


def _alarms(run: Run, verdict: Verdict) -> Sequence[str]:
    """Take an alarm's words. One about days that the champion has learned from by now asks for nothing."""
    champion = run.registry.champion()
    if verdict.level != "alarm" or champion is None or verdict.end is None:
        return verdict.reasons if verdict.level == "alarm" else ()
    judged_until = datetime.fromisoformat(verdict.end).replace(tzinfo=UTC)
    return () if judged_until <= datetime.fromisoformat(champion.tags["as_of"]) else verdict.reasons


def resolve(run: Run, signals: Signals) -> tuple[Decision, Cause | None]:
    """Decide, keep the decision for `loop status`, and write down the cause where it is to retrain."""
    from pipelines.flows.causes import Journal
    from pipelines.steps.decide import decide

    journal, now = Journal(run.workspace), clock.read(run.workspace).now()
    decision = decide(signals, run.config.triggers, journal.history(), now)
    if (
        decision.overtakes
    ):  # before the cause is written down: a watch that is killed in between finds it again
        trial.overtake(run, decision, now)
    write_json(run.workspace.root / DECISION, {"at": now.isoformat(), **decision.as_json()})
    return decision, journal.note(decision, now)


def held(run: Run) -> str | None:
    """Say why training is held, if the last watch found an incident that is still open."""
    path = run.workspace.root / DECISION
    decided = read_json(path) if path.is_file() else {}
    return str(decided["words"]) if decided.get("action") == "hold" else None


def keep_report(run: Run) -> str:
    """Log the drift report beside the run of the model that was watched; say where."""
    if not (run.workspace.monitor / "report.html").is_file():
        return "there is no report yet"
    version = run.registry.find(read_json(run.workspace.monitor / "verdict.json")["reference"]["model"])
    if version is None:
        return "the watched model is not in the registry"
    for name in ("report.html", "verdict.json"):
        path = str(run.workspace.monitor / name)
        run.registry.client.log_artifact(version.run_id, path, report_folder(run))
    return f"logged to run {version.run_id}"


def report_folder(run: Run) -> str:
    """Name the folder of a watched model's run that keeps the report of this moment."""
    return f"drift/{run.as_of:%Y-%m-%d}"


def compare(run: Run) -> Parity | None:
    """Hold the last day's answers to what training would be given, as a metric of the champion's run."""
    from pipelines.steps.parity import parity
    from pipelines.stores.action_log import open_action_log

    if run.case.serving is None:
        return None
    now, platform = clock.read(run.workspace).now(), run.project.platform
    with open_action_log(platform.action_log, run.workspace) as log:
        found = parity(run.case, run.workspace, log, platform, now + timedelta(microseconds=1), days=1)
    champion = run.registry.champion()
    if champion is not None and found.requests:
        count = sum(found.differences.values())
        run.registry.client.log_metric(champion.run_id, "parity_differences", count)
    return found
