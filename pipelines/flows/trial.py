"""Experiments of a live workspace: start one, look at it, act on its verdict. Plain functions, no Prefect.

The order of writes makes a kill harmless: first the registry (tags, then aliases, all of it under its lock),
then the experiment's file. What was killed between the two is finished by the next review.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.errors import UsageError, nearest
from pipelines.experiments import running as file
from pipelines.experiments.running import Running
from pipelines.experiments.tally import Tally, read_tally
from pipelines.flows import clock
from pipelines.flows.edge import Run
from pipelines.stores.registry import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from pipelines.experiments.verdict import Verdict
    from pipelines.steps.decide import Decision
    from pipelines.steps.signals import OnTrial
    from pipelines.stores.registry import Registry, Version

_DAY = timedelta(days=1)
_JITTER = timedelta(hours=2)
"""How much too early a daily review may come: whatever it is counted from waited up to an hour for its turn."""


def start(run: Run, now: datetime | None = None) -> Running:
    """Put the challenger on trial against the champion; the service takes it up at its next refresh.

    Raises UsageError where there is no challenger or champion, or an experiment runs already.
    """
    registry = run.registry
    with registry.lock():
        running = file.read_open(run.workspace)
        if running is not None:
            raise UsageError(
                f"version {running.challenger.number} is on trial since {running.started:%Y-%m-%d}: "
                f"`loop experiment stop {run.case.name}` ends that first"
            )
        champion, challenger = registry.champion(), registry.challenger()
        if challenger is None:
            raise UsageError(
                f"{run.case.name} has no challenger: with `promotion: canary` in configs/{run.case.name}.yaml a "
                "retrain whose model passes the gate makes one"
            )
        if champion is None:
            raise UsageError(f"{run.case.name} has no champion to compare with: promote one first")
        made = Running(
            case=run.case.name,
            unit=_unit(run),
            canary=run.config.experiment,
            challenger=replace(challenger, tags={}),
            champion=champion.number,
            started=now or clock.read(run.workspace).now(),
        )
        where = f"configs/{run.case.name}.yaml: experiment"
        _check(run, made, where)
        _require_outcomes(run, made, where)
        file.write(run.workspace, made)
    return made


def look(run: Run, running: Running, now: datetime | None = None) -> Verdict:
    """Judge what the lake knows of an experiment by now; change nothing. It may be asked at any time.

    Raises UsageError where the case no longer knows what the experiment counts.
    """
    from pipelines.experiments.evidence import read_evidence
    from pipelines.experiments.verdict import judge

    _check(run, running, f"{file.path(run.workspace)} (`loop experiment stop {run.case.name}` ends it)")
    now = now or clock.read(run.workspace).now()
    evidence = read_evidence(run.case, run.workspace, running, now, run.project.platform)
    tally = tally_of(run, running)
    tried = _next_day(running, tally, now)
    found = judge(running.declaration, evidence, _days(running, now), tried)
    broken = tally.broken(running.canary.failures)
    return found if broken is None else replace(found, decision="roll_back", reasons=(broken,))


def review(run: Run, now: datetime | None = None) -> Verdict | None:
    """Judge the running experiment and act on it; return None where none runs.

    `promote` makes the challenger the champion; `roll_back` and `stop` end the experiment, and the champion
    stays; `continue` opens the stage that is due.
    """
    if file.read_open(run.workspace) is None:
        return None
    now, registry = now or clock.read(run.workspace).now(), run.registry
    with registry.lock():
        running = file.read_open(run.workspace)
        if running is None:
            return None
        verdict = _comparable(running, look(run, running, now), registry)
        _act(registry, running, verdict)
        file.write(run.workspace, _after(run, running, verdict, now))
    return verdict


def stop(run: Run, reason: str = "asked for", now: datetime | None = None) -> Running:
    """End the running experiment, whether or not it can be judged: the champion stays.

    Raises UsageError where none runs.
    """
    registry = run.registry
    with registry.lock():
        running = file.read_open(run.workspace)
        if running is None:
            raise UsageError(f"no experiment of {run.case.name} runs")
        now = now or clock.read(run.workspace).now()
        verdict = _last(run, running, reason, now)
        _act(registry, running, verdict)
        ended = _after(run, running, verdict, now)
        file.write(run.workspace, ended)
    return ended


def tend(run: Run, now: datetime | None = None) -> Verdict | None:
    """Review the running experiment; where none runs, start that of a challenger who waits.

    One that follows up a fall does not wait while few have met the one on trial: it takes its place.
    """
    running = file.read_open(run.workspace)
    if running is not None:
        verdict = review(run, now)
        if verdict is not None and verdict.decision == "continue" and _outdated(run, running):
            stop(run, "a version of newer rows follows up the same fall, and few had met this one", now)
            start(run, now)
        return verdict
    if run.config.promotion == "canary" and {CHAMPION, CHALLENGER} <= run.registry.aliases().keys():
        start(run, now)
    return None


def overtake(run: Run, decision: Decision, now: datetime) -> None:
    """End the running experiment, if there still is one, for a fall that its challenger has learned nothing of.

    Nor is another challenger tried that waits and knows no more.
    """
    from pipelines.steps.decide import fall_of

    why = f"overtaken: {decision.cause}"
    if file.read_open(run.workspace) is not None:
        stop(run, why, now)
    registry, began = run.registry, fall_of(decision.reasons)
    with registry.lock():
        waiting = registry.challenger()
        if waiting is None or began is None or (learned := _learned(run, waiting.number)) is None:
            return
        if learned < began:
            registry.tag(waiting, {"decision": "dismissed", "why": why})
            registry.drop_alias(CHALLENGER)


def on_trial(run: Run, now: datetime) -> OnTrial | None:
    """Say which version is on trial, and since when; None where none is, or its time is over and nobody ends it."""
    from pipelines.steps.signals import OnTrial

    running = file.read_open(run.workspace)
    if running is None or _days(running, now) > running.canary.maximum_days:
        return None
    number = running.challenger.number
    return OnTrial(
        f"version {number} is on trial since {running.started:%Y-%m-%d}",
        _learned(run, number),
        early=_early(running),
    )


def _learned(run: Run, number: str) -> datetime | None:
    """Return until when a version may have learned of rows, of which labels tell later; None where nobody knows."""
    known = next((each for each in run.registry.versions() if each.number == number), None)
    as_of = None if known is None else known.tags.get("as_of")
    return None if as_of is None else datetime.fromisoformat(as_of) - run.case.told_after


def _early(running: Running) -> bool:
    """Say whether the last stage has not opened: few have met the challenger, or nobody."""
    return running.share < running.canary.shares[-1]


def _outdated(run: Run, running: Running) -> bool:
    """Say whether a fall was to be followed up since the challenger that few have met learned, and a newer one has."""
    from pipelines.flows.causes import Journal
    from pipelines.steps.decide import due_days

    newest, fall = run.registry.challenger(), Journal(run.workspace).fall()
    if newest is None or fall is None or newest.number == running.challenger.number or not _early(running):
        return False
    old, new = (_learned(run, number) for number in (running.challenger.number, newest.number))
    if old is None or new is None:
        return False
    told = run.case.told_after
    return any(old < due - told <= new for due in due_days(fall, run.config.triggers))


def verdict_json(verdict: Verdict, now: datetime) -> dict[str, Any]:
    """Write a verdict and its moment as JSON would have it."""
    return verdict.as_json() | {"at": now.isoformat()}


def tally_of(run: Run, running: Running) -> Tally:
    """Read how the challenger did at answering."""
    return read_tally(run.workspace, running.challenger.number)


def _unit(run: Run) -> str:
    """Name the column of the requests by which an experiment tells them apart."""
    from pipelines.stores.schemas import Requests, polars_schema

    serving = run.case.serving
    if serving is None:
        raise UsageError(f"{run.case.name} does not say how it answers requests: give its CASE a `serving`")
    (table,) = run.case.shaped(Requests)
    unit, known = serving.asker, polars_schema(table.schema)
    if unit not in known:
        raise UsageError(f"table '{table.name}' has no column '{unit}' to assign by: {nearest(unit, known)}")
    return unit


def _check(run: Run, running: Running, where: str) -> None:
    """Refuse an experiment that cannot decide, since the case does not know what it counts."""
    from pipelines.experiments.counts import countable

    known = countable(run.case)
    for metric in running.declaration.metrics:
        for name in (metric.numerator, metric.denominator):
            if name is not None and name not in known:
                raise UsageError(
                    f"{where}: '{metric.name}' counts '{name}', which {run.case.name} does not know: "
                    f"{nearest(name, known)}"
                )


def _require_outcomes(run: Run, running: Running, where: str) -> None:
    """Refuse an experiment that is over before the first outcome is known."""
    canary, label = running.canary, run.case.framing.attribution
    first = timedelta(days=canary.shadow_days) + canary.outcome + label
    if first >= timedelta(days=canary.maximum_days):
        raise UsageError(
            f"{where}: the first outcome is known {first / _DAY:g} days after the start (shadow_days "
            f"{canary.shadow_days}, outcome {canary.outcome / _DAY:g} days, {label / _DAY:g} until labels are mature), "
            f"and maximum_days is {canary.maximum_days}: give it more, or a shorter outcome"
        )


def _last(run: Run, running: Running, reason: str, now: datetime) -> Verdict:
    """Return the verdict of an experiment that is stopped: the reason, and its figures where they can be had."""
    from pipelines.experiments.interval import Interval
    from pipelines.experiments.sample_ratio import check_sample_ratio
    from pipelines.experiments.verdict import Verdict

    try:
        return replace(look(run, running, now), decision="stop", reasons=(reason,))
    except Exception as error:  # whatever keeps it from being judged must not keep it from being ended
        unknown = Interval(math.nan, -math.inf, math.inf)
        reasons = (reason, f"it could not be judged ({type(error).__name__})")
        return Verdict("stop", reasons, check_sample_ratio({}, {}), unknown, {})


def _after(run: Run, running: Running, verdict: Verdict, now: datetime) -> Running:
    """Return the experiment as it stands after a verdict."""
    day = _next_day(running, tally_of(run, running), now)
    return running.model_copy(
        update={
            "day": day,
            "moved": running.moved if day == running.day else now,
            "ended": None if verdict.decision == "continue" else now,
            "verdict": verdict_json(verdict, now),
        }
    )


def _next_day(running: Running, tally: Tally, now: datetime) -> int:
    """Move on by a day at most, and not before one has passed, so that each stage lasts as long as it was declared.

    It leaves the shadow only once it was asked. Where reviews did not come, those that come late open one stage.
    """
    waited = running.moved is None or now - running.moved + _JITTER >= _DAY
    if not waited or (running.share == 0 and not tally.asked):
        return running.day
    return min(running.day + 1, _days(running, now))


def _days(running: Running, now: datetime) -> int:
    """Count the days since the start: a review at the same time of the day ends one, on time or a little early."""
    return (now - running.started + _JITTER).days


def _comparable(running: Running, verdict: Verdict, registry: Registry) -> Verdict:
    """Overrule the verdict where one of the two is gone, or the champion is no longer the one it was compared with."""
    if not _known(registry, running.challenger):
        return replace(
            verdict,
            decision="stop",
            reasons=(f"version {running.challenger.number} is gone from the registry",),
        )
    champion = registry.champion()
    if champion is not None and champion.number == running.champion:
        return verdict
    if champion is not None and champion.number == running.challenger.number:
        return replace(verdict, decision="promote", reasons=("it is the champion by now",))
    who = "gone" if champion is None else f"version {champion.number}"
    words = f"the champion was version {running.champion} and is {who}: the two halves cannot be compared"
    return replace(verdict, decision="stop", reasons=(words,))


def _act(registry: Registry, running: Running, verdict: Verdict) -> None:
    """Move the aliases as the verdict says, and tag the version with the reason."""
    from pipelines.steps.promote import ROLLED_BACK

    why, challenger = "; ".join(verdict.reasons), running.challenger
    if verdict.decision == "promote":
        registry.tag(challenger, {"decision": "promoted", "why": f"it won its experiment: {why}"})
        registry.crown(challenger)
    elif verdict.decision == "roll_back":
        _dismiss(registry, running, f"rolled back by its experiment: {why}")
        for version in (challenger, registry.judged(registry.version(challenger.number))):
            registry.tag(version, {ROLLED_BACK: why})
    elif verdict.decision == "stop":
        _dismiss(registry, running, f"its experiment ended without it: {why}")


def _dismiss(registry: Registry, running: Running, why: str) -> None:
    """Tag a challenger that does not take over, and take its alias away, unless a newer one has it."""
    if _known(registry, running.challenger):
        registry.tag(running.challenger, {"decision": "dismissed", "why": why})
    if registry.aliases().get(CHALLENGER) == running.challenger.number:
        registry.drop_alias(CHALLENGER)


def _known(registry: Registry, version: Version) -> bool:
    """Say whether the registry still has a version: somebody may have deleted it."""
    return any(each.number == version.number for each in registry.versions())
