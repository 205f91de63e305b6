"""The gate: what a challenger must show, and the words for why it may or may not pass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.case_study import Framing
from pipelines.errors import UsageError, nearest
from pipelines.learning.bootstrap import Estimate, Resampled
from pipelines.learning.scores import EVERYWHERE, Scores
from pipelines.settings import Gate

DAY = "day="
"""Slices of this name are days, shown as a curve; one day's noise is no reason to refuse a model."""


CHAMPION = "champion"
CONTEST = "contest"
_RIVALS = ("heuristic", "champion", CONTEST)


@dataclass(frozen=True)
class Reason:
    """One check of the gate: what it compared, how it went, and why in words.

    `reached` is the model's own primary metric, by the names of a run's metrics, where later days are held to it.
    """

    check: str
    passed: bool
    words: str
    estimate: Estimate | None = None
    reached: Mapping[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        estimate = None if self.estimate is None else self.estimate.as_json()
        reached = None if self.reached is None else dict(self.reached)
        told = {"check": self.check, "passed": self.passed, "words": self.words}
        return told | {"estimate": estimate, "reached": reached}


@dataclass(frozen=True)
class Judgement:
    """All the checks; the challenger passes if every one of them does."""

    reasons: tuple[Reason, ...]

    @property
    def passed(self) -> bool:
        return all(reason.passed for reason in self.reasons)

    @property
    def words(self) -> str:
        """Say why it failed, or what it is better than."""
        failed = [reason.words for reason in self.reasons if not reason.passed]
        return "; ".join(failed or [each.words for each in self.reasons if each.check in _RIVALS])


def check_tolerances(framing: Framing, gate: Gate, where: str) -> None:
    """Refuse a tolerance of what is no guardrail, for it would be ignored; the UsageError names the nearest."""
    for name in gate.guardrail_tolerance:
        if name not in framing.guardrails:
            raise UsageError(
                f"{where}: gate: guardrail_tolerance names '{name}', which is no guardrail of the system: "
                f"{nearest(name, framing.guardrails)}"
            )


def judge(
    scores: Scores, framing: Framing, gate: Gate, model: str, heuristic: str, champion: str | None
) -> Judgement:
    """Judge a model against the best heuristic and, where there is one, the champion.

    Better means: the lower end of the paired interval of the primary metric's difference lies above
    the margin. A guardrail or a slice breaks where the model is worse than what serves today by more than
    its tolerance and the interval leaves no doubt that it is worse.
    """
    rival = champion or heuristic
    reasons = [
        _enough(scores, framing, gate, model),
        _better("heuristic", scores, framing, gate, model, heuristic, gate.heuristic_margin),
    ]
    if champion is not None:
        reasons.append(_better("champion", scores, framing, gate, model, champion, gate.champion_margin))
    reasons += _guardrails(scores, framing, gate, model, rival)
    reasons += _slices(scores, framing, gate, model, rival)
    return Judgement(tuple(reasons))


def judge_contest(
    scores: Scores, framing: Framing, gate: Gate, model: str, champion: str, where: str
) -> Judgement | None:
    """Judge a recipe against the champion on rows that neither knows: not surely worse, and no guardrail surely broken.

    The recipe knows more of what came since the fall, the rows are few, and the champion has fallen, or was learned on
    its first days: what chance may have made is no defeat. None where the selection metric has no value there.
    """
    metric = framing.selects
    difference = gain(scores, framing, metric, model, champion)
    if difference is None or not math.isfinite(difference.value):
        return None
    found = difference.estimate(gate.confidence)
    words = f"{metric} is {_figure(found)} than {_called(champion)}'s {where}"
    reason = Reason(CONTEST, not found.high < 0, words, found, _reached(scores, framing, gate, model))
    return Judgement((reason, *_guardrails(scores, framing, gate, model, champion, few=True)))


def _reached(scores: Scores, framing: Framing, gate: Gate, model: str) -> dict[str, float]:
    """Tell the model's own primary metric with its interval; nothing where it has no value."""
    metric = framing.primary_metric
    reached = scores.get(model, metric)
    if reached is None or not math.isfinite(reached.value):
        return {}
    found = reached.estimate(gate.confidence)
    return {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}


def best_heuristic(scores: Scores, framing: Framing, heuristics: list[str]) -> str:
    """Name the heuristic with the best primary metric."""
    metric, sign = framing.primary_metric, framing.sign(framing.primary_metric)
    reached = {name: scores.get(name, metric) for name in heuristics}
    known = {name: sign * each.value for name, each in reached.items() if each is not None}
    return max(known, key=lambda name: known[name])


def _enough(scores: Scores, framing: Framing, gate: Gate, model: str) -> Reason:
    reached = scores.get(model, framing.primary_metric)
    n = 0 if reached is None else reached.n
    words = f"{n} units were measured, {gate.minimum_units} are needed"
    return Reason("minimum_units", n >= gate.minimum_units, words)


def _better(
    check: str, scores: Scores, framing: Framing, gate: Gate, model: str, rival: str, margin: float
) -> Reason:
    metric = framing.primary_metric
    called = _called(rival)
    difference = gain(scores, framing, metric, model, rival)
    if difference is None:
        return Reason(check, False, f"{metric} does not apply to {called}, so nothing was shown against it")
    found = difference.estimate(gate.confidence)
    passed = found.low > margin
    verdict = "clears" if passed else "does not clear"
    words = f"{metric} is {_figure(found)} than {called}'s: it {verdict} the margin of {margin:g}"
    return Reason(check, passed, words, found)


def _guardrails(
    scores: Scores, framing: Framing, gate: Gate, model: str, rival: str, few: bool = False
) -> Iterator[Reason]:
    for metric in framing.guardrails:
        difference = gain(scores, framing, metric, model, rival)
        if difference is None:
            words = f"guardrail {metric} does not apply here"
            yield Reason(f"guardrail {metric}", scores.get(model, metric) is not None, words)
            continue
        tolerance = gate.guardrail_tolerance.get(metric, 0.0)
        yield _unharmed(f"guardrail {metric}", metric, difference, gate, tolerance, _called(rival), few)


def _slices(scores: Scores, framing: Framing, gate: Gate, model: str, rival: str) -> Iterator[Reason]:
    metric = framing.primary_metric
    for name in scores.slices():
        difference = gain(scores, framing, metric, model, rival, name)
        if difference is None or name.startswith(DAY) or difference.n < gate.slice_minimum_units:
            continue
        where, called = f"slice {name}", _called(rival)
        yield _unharmed(where, metric, difference, gate, gate.slice_tolerance, called)


def _unharmed(
    check: str,
    metric: str,
    difference: Resampled,
    gate: Gate,
    tolerance: float,
    called: str,
    few: bool = False,
) -> Reason:
    """Check that something is not worse: by more than is tolerated, and surely; on `few` rows surely by more."""
    found = difference.estimate(gate.confidence)
    harmed = found.high < -tolerance if few else found.value < -tolerance and not found.high >= 0
    where = f" on {check}" if check.startswith("slice") else ""
    words = f"{metric}{where} is {_figure(found)} than {called}'s (tolerance {tolerance:g})"
    return Reason(check, not harmed, words, found)


def gain(
    scores: Scores, framing: Framing, metric: str, model: str, rival: str, slice_: str = EVERYWHERE
) -> Resampled | None:
    """Return how much better the model is: positive is better, whichever way the metric goes."""
    if framing.sign(metric) > 0:
        return scores.difference(model, rival, metric, slice_)
    return scores.difference(rival, model, metric, slice_)


def _called(rival: str) -> str:
    return "the champion" if rival == CHAMPION else f"the heuristic {rival}"


def _figure(found: Estimate) -> str:
    if found.value < 0:
        return f"{-found.value:.4f} worse [{-found.high:.4f}, {-found.low:.4f}]"
    return f"{found.value:.4f} better [{found.low:.4f}, {found.high:.4f}]"
