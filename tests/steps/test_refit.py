"""After the gate: the recipe fitted once more on the newest days, as a version of its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
import stub_case
from stub_case import AS_OF, CASE

from pipelines.case_study import CaseStudy, Dataset, Fitted
from pipelines.settings import CaseParams, Gate, Platform
from pipelines.steps.evaluate import evaluate
from pipelines.steps.promote import Promotion, promote, rollback
from pipelines.steps.reproduce import reproduce
from pipelines.steps.train import train
from pipelines.stores.models import read_record
from pipelines.stores.registry import Registry
from pipelines.stores.workspace import Workspace

PLATFORM, GATE = Platform(), Gate(resamples=200)


def params(skill: float) -> CaseParams:
    plain = stub_case.params(skill=skill)
    return plain.model_copy(update={"window": plain.window.model_copy(update={"refit": True})})


def promoted(
    ws: Workspace,
    registry: Registry,
    skill: float,
    *,
    case: CaseStudy = CASE,
    protocol: str = "logged",
    at: datetime = AS_OF,
    gate: Gate = GATE,
) -> Promotion:
    asked = params(skill)
    train(case, ws, at, asked, PLATFORM, protocol)
    evaluate(case, ws, at, asked, PLATFORM, protocol, gate=gate)
    return promote(case, ws, at, asked, PLATFORM, gate, registry, origin=ws.origin)


def test_what_serves_has_learned_until_the_moment(breakdown: Workspace, registry: Registry) -> None:
    promotion = promoted(breakdown, registry, 0.6)
    champion = registry.champion()
    assert champion is not None and promotion.version == champion.number == "2"
    judged = registry.judged(champion)
    assert judged.number == "1" and judged.tags["decision"] == "judged"
    assert champion.tags["decision"] == "promoted" and champion.run_id == judged.run_id
    record = read_record(registry.load(champion))
    assert record["window"]["end"] == AS_OF.isoformat() and record["judged"] == judged.digest
    before = read_record(registry.load(judged))
    lengths = [
        pl.Series([each["window"]["start"], each["window"]["end"]]).str.to_datetime().diff()[1]
        for each in (record, before)
    ]
    assert lengths[0] == lengths[1]
    assert "fitted once more until 2026-03-01" in promotion.why


def test_a_champion_meets_the_next_one_as_it_was_judged(
    breakdown: Workspace, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refit has seen the rows that the two are measured on."""
    promoted(breakdown, registry, 0.6)
    met: list[str] = []
    load = Registry.load
    monkeypatch.setattr(
        Registry, "load", lambda self, version: (met.append(version.number), load(self, version))[1]
    )
    promoted(breakdown, registry, 0.9)
    assert met == ["1", "4"]  # the champion's judged version is rescored, and what is crowned is loaded
    assert registry.aliases() == {"champion": "4", "previous": "2"}


def test_a_champion_that_has_not_seen_the_rows_meets_the_next_one_itself(
    breakdown: Workspace, registry: Registry
) -> None:
    """A week later the model to be judged is the champion to the byte: no worse, and fitted once more it serves."""
    lenient = Gate(resamples=200, champion_margin=-0.01)
    promoted(breakdown, registry, 0.6, at=AS_OF - 7 * stub_case.DAY)
    assert registry.aliases() == {"champion": "2"}
    promotion = promoted(breakdown, registry, 0.6, gate=lenient)
    assert promotion.decision == "promoted" and registry.aliases() == {"champion": "4", "previous": "2"}
    (met,) = [each for each in promotion.reasons if each.check == "champion"]
    assert met.estimate is not None and met.estimate.low == met.estimate.high == 0

    # The same bytes, judged by other rows: a version with a run and a record of its own.
    before, judged, champion = (registry.version(number) for number in "234")
    assert before.digest == judged.digest and registry.judged(champion).number == "3"
    assert before.tags["decision"] == "promoted", "what crowned it stays its verdict"
    assert champion.run_id == judged.run_id != before.run_id
    assert read_record(registry.load(judged))["as_of"] == AS_OF.isoformat()


def test_a_refit_that_was_rolled_back_is_not_judged_into_service_again(
    breakdown: Workspace, registry: Registry
) -> None:
    lenient = Gate(resamples=200, champion_margin=-0.01)
    promoted(breakdown, registry, 0.5, at=AS_OF - 8 * stub_case.DAY)
    promoted(breakdown, registry, 0.6, at=AS_OF - 7 * stub_case.DAY, gate=lenient)
    bad = registry.champion()
    rollback(registry, "it annoyed people")
    assert bad is not None and "rolled_back" in registry.version(bad.number).tags
    again = promoted(breakdown, registry, 0.6, gate=lenient)  # a week later its very bytes are to be judged
    assert again.digest == bad.digest
    assert again.decision == "rejected" and "was rolled back (it annoyed people)" in again.why


def test_promoting_twice_changes_nothing(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    assert promoted(breakdown, registry, 0.6).decision == "unchanged"
    assert promoted(breakdown, registry, 0.1).decision == "rejected"
    assert [version.number for version in registry.versions()] == ["3", "2", "1"]


def test_what_was_rolled_back_does_not_come_back_as_a_refit(breakdown: Workspace, registry: Registry) -> None:
    promoted(breakdown, registry, 0.6)
    promoted(breakdown, registry, 0.9)
    rollback(registry, "it annoyed people")
    assert registry.aliases() == {"champion": "2", "previous": "4"}
    again = promoted(breakdown, registry, 0.9)
    assert again.decision == "rejected" and "was rolled back (it annoyed people)" in again.why
    rollback(registry)
    assert registry.aliases() == {"champion": "4", "previous": "2"}
    assert "rolled_back" not in registry.version("3").tags


def test_a_refit_that_is_worse_on_its_own_rows_does_not_serve(
    breakdown: Workspace, registry: Registry
) -> None:
    def fit(dataset: Dataset, settings: stub_case.Settings) -> Fitted:
        skill = 0.05 if dataset.end == AS_OF else settings.skill
        return stub_case.fit(dataset, settings.model_copy(update={"skill": skill}))

    promotion = promoted(breakdown, registry, 0.6, case=replace(CASE, fit=fit))
    assert promotion.decision == "promoted" and registry.aliases() == {"champion": "1"}
    assert "it is worse on those very days" in promotion.why


def test_a_refit_that_fails_leaves_what_passed_the_gate(breakdown: Workspace, registry: Registry) -> None:
    def fit(dataset: Dataset, settings: stub_case.Settings) -> Fitted:
        if dataset.end == AS_OF:
            raise MemoryError("too many rows")
        return stub_case.fit(dataset, settings)

    promotion = promoted(breakdown, registry, 0.6, case=replace(CASE, fit=fit))
    assert promotion.decision == "promoted" and registry.aliases() == {"champion": "1"}
    assert "could not be fitted once more (MemoryError: too many rows)" in promotion.why


@pytest.mark.parametrize("protocol", ["time", "random"])
def test_a_protocol_with_a_split_of_its_own_is_not_refitted(
    breakdown: Workspace, registry: Registry, protocol: str
) -> None:
    promoted(breakdown, registry, 0.6, protocol=protocol)
    assert registry.aliases() == {"champion": "1"}


def test_a_refit_is_rebuilt_from_its_record(breakdown: Workspace, registry: Registry, tmp_path: Path) -> None:
    promoted(breakdown, registry, 0.6)
    champion = registry.champion()
    assert champion is not None
    found = reproduce(CASE, breakdown, registry.load(champion), params(0.6), PLATFORM, tmp_path / "scratch")
    assert found.same, found.summary()
