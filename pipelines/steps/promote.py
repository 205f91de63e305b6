"""Promote: judge a model against the champion of this very moment, record why, and move the alias or not.

Everything happens under the registry's lock, from reading the champion to moving the alias, so that two
promotions cannot both win. A rejected challenger is a normal outcome.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipelines.case_study import CaseStudy
from pipelines.errors import LoopError
from pipelines.learning.scores import Scores, score
from pipelines.settings import CaseParams, Gate, Platform
from pipelines.steps.contest import meet
from pipelines.steps.evaluate import MODEL, Evaluation, read_evaluation
from pipelines.steps.gate import CHAMPION, CONTEST, Judgement, Reason, judge
from pipelines.steps.judged import reached_tags
from pipelines.steps.recency import SINCE, Choice, choose_since
from pipelines.steps.refit import gain_of_refit, is_refit, refit
from pipelines.steps.run_content import origin_tags, run_content, verdict_tags
from pipelines.steps.split import find_protocol, newest, split
from pipelines.stores import registry as aliases
from pipelines.stores.files import write_json
from pipelines.stores.models import check, load_model, read_record
from pipelines.stores.registry import Registry, Version
from pipelines.stores.workspace import Workspace

_log = logging.getLogger(__name__)

Decision = Literal["promoted", "challenger", "passed", "rejected", "unchanged", "blocked"]
ROLLED_BACK = "rolled_back"
_INSTANT = timedelta(microseconds=1)
_SERVES = ("promoted", "challenger")


@dataclass(frozen=True)
class Promotion:
    """What came of a model.

    `promoted`: it is the champion now; `challenger`: it waits for live users; `passed`: the gate is clear,
    but this run may not move the alias; `rejected`: the gate is not; `unchanged`: it is the champion
    already; `blocked`: the champion could not be rescored, so nothing may replace it unseen.
    """

    decision: Decision
    version: str
    digest: str
    alias: str | None
    champion: str | None
    reasons: tuple[Reason, ...] = ()
    why: str = ""

    def summary(self) -> str:
        """Say in a line what was decided."""
        return f"version {self.version} {self.decision}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """Return the receipt: no wall times, so that the same outcome is the same file."""
        content = asdict(self)
        content["reasons"] = [each.as_json() for each in self.reasons]
        return content


def promote(
    case: CaseStudy,
    ws: Workspace,
    as_of: datetime,
    params: CaseParams,
    platform: Platform,
    gate: Gate,
    registry: Registry,
    *,
    mode: Literal["direct", "canary"] = "direct",
    move_alias: bool = True,
    origin: str = "",
    receipt: Path | None = None,
    falls: Sequence[datetime] = (),
) -> Promotion:
    """Judge the model of `ws`, log its run, register it, and move `champion` or `challenger` if it passes.

    Idempotent: the same model and evaluation against the same champion give the same run, version and
    aliases. `origin` 'runs' never replaces a champion that another origin made. What is fitted once more may learn
    from what came since one of the `falls` alone. The verdict is also written to `receipt`. Raise LoopError where
    the registry cannot be read, and, after recording it, where the champion cannot be rescored.
    """
    evaluation = _own_evaluation(ws, as_of, gate)
    with registry.lock():
        champion = registry.champion()
        if champion is not None and registry.judged(champion).digest == evaluation.content["model"]:
            promotion = _unchanged(champion)
        else:
            job = _Job(case, ws, as_of, params, platform, gate, registry, evaluation, champion, origin, falls)
            promotion = _decide(job, mode, move_alias)
    if receipt is not None:
        write_json(receipt, promotion.as_json())
    if promotion.decision == "blocked":
        raise LoopError(promotion.why)
    return promotion


def rollback(registry: Registry, reason: str = "asked for") -> Promotion:
    """Make the previous champion the champion again, and mark the other so that no gate brings it back.

    Rolling back twice returns to where it started. Raise LoopError where there is no previous champion.
    """
    with registry.lock():
        bad, good = registry.champion(), registry.previous()
        if bad is None or good is None:
            raise LoopError(f"{registry.name} has no previous champion to roll back to")
        why = f"rolled back from version {bad.number} to version {good.number}: {reason}"
        registry.tag(bad, {"decision": "rolled back", "why": why})
        for version in (bad, registry.judged(bad)):
            registry.tag(version, {ROLLED_BACK: reason})
        for version in (good, registry.judged(good)):
            registry.untag(version, ROLLED_BACK)
        registry.tag(good, {"decision": "promoted", "why": why})
        registry.crown(good)
    return Promotion("promoted", good.number, good.digest, aliases.CHAMPION, good.number, (), why)


def retire(registry: Registry, reason: str = "asked for") -> str:
    """Take the alias from a champion that today's code cannot score; nothing serves until the next promotion.

    Return what was done, in words. Raise LoopError where there is no champion.
    """
    with registry.lock():
        champion = registry.champion()
        if champion is None:
            raise LoopError(f"{registry.name} has no champion to retire")
        why = f"version {champion.number} was retired: {reason}"
        registry.tag(champion, {"decision": "retired", "why": why})
        registry.drop_alias(aliases.CHAMPION)
    return why


def _own_evaluation(ws: Workspace, as_of: datetime, gate: Gate) -> Evaluation:
    """Read the evaluation, and refuse one of another model, moment or number of resamples."""
    evaluation = read_evaluation(ws)
    manifest = check(ws.model)
    wanted = {
        "model": manifest["digest"],
        "as_of": as_of.isoformat(),
        "resamples": gate.resamples,
        "confidence": gate.confidence,
    }
    for name, value in wanted.items():
        if evaluation.content[name] != value:
            raise LoopError(
                f"{ws.evaluation} was made with {name} {evaluation.content[name]}, not {value}: evaluate "
                "again first"
            )
    return evaluation


def _unchanged(champion: Version) -> Promotion:
    why = f"version {champion.number} holds this very model and is the champion already"
    return Promotion(
        "unchanged", champion.number, champion.digest, aliases.CHAMPION, champion.number, (), why
    )


@dataclass(frozen=True)
class _Job:
    """What a decision rests on. `faults` are told of what would have helped with it, and went wrong."""

    case: CaseStudy
    ws: Workspace
    as_of: datetime
    params: CaseParams
    platform: Platform
    gate: Gate
    registry: Registry
    evaluation: Evaluation
    champion: Version | None
    origin: str
    falls: Sequence[datetime]
    faults: list[str] = field(default_factory=list)

    @property
    def protocol(self) -> str:
        return str(self.evaluation.content["protocol"])

    @cached_property
    def choice(self) -> Choice | None:
        """Choose what the model that serves is to learn from."""
        whole = newest(self.case, self.ws, self.as_of, self.params, self.platform)
        return choose_since(
            self.case,
            self.ws,
            whole,
            self.falls,
            self.params,
            self.platform,
            self.protocol,
            self.faults.append,
        )

    @cached_property
    def fall(self) -> datetime | None:
        """Find the newest fall of which the judged model knows fewer days than it lacks, if what serves lacks none."""
        if not is_refit(self.case, self.params, self.protocol):
            return None
        test = split(self.case, self.ws, self.as_of, self.params, self.platform, self.protocol).test
        known = test.start - (test.end - test.start)
        return max((fall for fall in self.falls if known < fall < test.end), default=None)


def _decide(job: _Job, mode: str, move_alias: bool) -> Promotion:
    scores, judgement = job.evaluation.scores, None
    try:
        if job.champion is not None:
            scores = _with_champion(job, job.champion)
    except Exception as error:  # whatever keeps it from being scored must not read as "there is none"
        decision, why = _blocked(job, error)
    else:
        judgement = _judge(job, scores)
        decision, why = _decision(judgement, job, mode, move_alias)
    with tempfile.TemporaryDirectory() as scratch:
        again = None
        if decision in _SERVES and is_refit(job.case, job.params, job.protocol):
            again, words = _refit(job, Path(scratch) / "model")
            why = f"{why}; {words}"
            if again is None and judgement is not None and judgement.reasons[0].check == CONTEST:
                decision = "rejected"  # what was judged was learned before the fall, and nothing passed it
        why = "; ".join((why, *job.faults))
        version = _record(job, scores, judgement, decision, why, again)
    alias = {"promoted": aliases.CHAMPION, "challenger": aliases.CHALLENGER}.get(decision)
    if decision == "promoted":
        job.registry.crown(version)
    elif decision == "challenger":
        job.registry.set_alias(aliases.CHALLENGER, version)
    before = None if job.champion is None else job.champion.number
    now = version.number if decision == "promoted" else before
    reasons = () if judgement is None else judgement.reasons
    return Promotion(decision, version.number, version.digest, alias, now, reasons, why)


def _with_champion(job: _Job, champion: Version) -> Scores:
    """Measure the champion on the evaluation's rows, units and draws.

    A refit that has learned from some of those rows is measured as it was judged.
    """
    content = job.evaluation.content
    divided = split(job.case, job.ws, job.as_of, job.params, job.platform, content["protocol"])
    seen = datetime.fromisoformat(champion.tags["as_of"]) > divided.test.start
    met = job.registry.judged(champion) if seen else champion
    model = load_model(job.case, job.registry.load(met))
    measure = find_protocol(job.case, content["protocol"]).measure
    measured = measure(model, divided.train, divided.test, None)
    if content["primary"] not in measured.statistics:
        raise LoopError(f"'{content['primary']}' does not apply to it")
    scores = score({CHAMPION: measured}, content["primary"], content["resamples"], content["seed"])
    return job.evaluation.scores.merged(scores)


def _blocked(job: _Job, error: Exception) -> tuple[Decision, str]:
    number = "?" if job.champion is None else job.champion.number
    return "blocked", (
        f"the champion, version {number}, could not be rescored on these rows "
        f"({type(error).__name__}: {error}): nothing was promoted. Mend the case so that it can be scored, "
        f"roll back (`loop rollback {job.registry.name}`), or let the next model be judged by the "
        f"heuristics alone (`loop registry retire {job.registry.name}`)"
    )


def _judge(job: _Job, scores: Scores) -> Judgement:
    """Ask the gate, and refuse a model that was rolled back: the gate's figures did not find it out.

    After a fall within the rows, people decide whom the recipe has not seen, where there are enough of them.
    """
    rival = None if job.champion is None else CHAMPION
    judgement = _contest(job) or judge(
        scores, job.case.framing, job.gate, MODEL, job.evaluation.heuristic, rival
    )
    holding = job.registry.holding(str(job.evaluation.content["model"]))
    known = next((version for version in holding if ROLLED_BACK in version.tags), None)
    if known is None:
        return judgement
    words = (
        f"version {known.number} was rolled back ({known.tags[ROLLED_BACK]}); delete its tag '{ROLLED_BACK}' "
        "in MLflow to let it try again"
    )
    return Judgement((*judgement.reasons, Reason("history", False, words)))


def _contest(job: _Job) -> Judgement | None:
    """After a fall, let the recipe meet the champion on rows since that neither knows; None where that cannot tell.

    It is an aid: where it fails, which is told, the newest days judge, as they do where nothing fell.
    """
    champion = job.champion
    if champion is None or job.fall is None:
        return None
    # Of what was not told yet it has learned nothing, where labels alone tell how an example went.
    untold = job.case.label.told_after or timedelta(0)
    unseen = max(job.fall, datetime.fromisoformat(champion.tags["as_of"]) - untold + _INSTANT)
    if unseen >= job.as_of:
        return None
    whole = newest(job.case, job.ws, job.as_of, job.params, job.platform).start
    try:
        start = whole if job.choice is None else job.choice.start
        rival = load_model(job.case, job.registry.load(champion))
        return meet(
            job.case,
            job.ws,
            job.as_of,
            start,
            unseen,
            rival,
            job.params,
            job.platform,
            job.protocol,
            job.gate,
        )
    except Exception as error:
        words = f"after the fall no contest could be held ({type(error).__name__}: {error})"
        _log.warning("%s: %s", job.case.name, words, exc_info=True)
        job.faults.append(words)
        return None


def _decision(judgement: Judgement, job: _Job, mode: str, move_alias: bool) -> tuple[Decision, str]:
    words, champion = judgement.words, job.champion
    if not judgement.passed:
        return "rejected", words
    if not move_alias:
        return "passed", f"judged inside an experiment, where no alias moves: {words}"
    if champion is not None and job.origin == "runs" and champion.origin != "runs":
        return "passed", f"the champion comes from '{champion.origin}', so it stays: {words}"
    if mode == "canary" and champion is not None:
        return "challenger", words
    return "promoted", words


def _refit(job: _Job, folder: Path) -> tuple[Path | None, str]:
    """Fit what the gate has passed on the newest days too; None, with words, where that went wrong."""
    content = job.evaluation.content
    case, ws, as_of, params, platform = job.case, job.ws, job.as_of, job.params, job.platform
    try:
        made = refit(case, ws, as_of, params, platform, job.protocol, content["model"], folder, job.choice)
        gained = gain_of_refit(case, ws, as_of, params, platform, job.evaluation, folder)
    except Exception as error:  # what passed the gate serves all the same
        return (
            None,
            f"it stays as judged, for it could not be fitted once more ({type(error).__name__}: {error})",
        )
    if gained is None:
        return None, f"it stays as judged, for '{content['primary']}' does not apply to it once fitted again"
    if gained.high < 0:
        return (
            None,
            "it stays as judged, for fitted once more on the newest days it is worse on those very days",
        )
    alone = (
        f", on what came since {made.record['window']['start'][:10]} alone" if SINCE in made.record else ""
    )
    return folder, f"fitted once more until {made.record['window']['end'][:10]}{alone}"


def _record(
    job: _Job, scores: Scores, judgement: Judgement | None, decision: Decision, why: str, again: Path | None
) -> Version:
    """Log the run, register the model and tag it with the reasons, whichever way it went.

    Where it was fitted once more (`again`), that is a version of its own, and the one to return.
    """
    verdict = verdict_tags(judgement, decision, why, job.champion)
    with tempfile.TemporaryDirectory() as temporary:
        content = run_content(
            job.case,
            job.ws,
            job.evaluation,
            scores,
            job.champion,
            judgement,
            decision,
            why,
            job.origin,
            Path(temporary),
        )
        tags = origin_tags(read_record(job.ws.model), job.origin)
        _, version = job.registry.log_run(content, job.ws.model, tags)
        if again is not None:
            job.registry.tag(version, {**verdict, "decision": "judged"})
            tags = origin_tags(read_record(again), job.origin)
            version = job.registry.log_refit(content, version, again, tags)
            verdict |= reached_tags(judgement)
    job.registry.tag(version, verdict)
    return replace(version, tags={**version.tags, **verdict})
