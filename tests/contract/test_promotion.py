"""One champion at a time: it is promoted, a refused challenger leaves it alone, and a rollback brings it back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from contract_help import ANY, copied, open_gate

from pipelines.flows.edge import Run, perform
from pipelines.settings import Gate
from pipelines.steps.promote import Promotion, promote, rollback
from pipelines.stores.registry import Registry


@pytest.fixture
def registry(finished, tmp_path: Path) -> Registry:
    """A registry that a test may change: it starts with the finished run's champion."""
    store = tmp_path / "registry" / "mlflow.db"
    store.parent.mkdir()
    shutil.copy(finished.run.project.registry_folder / "mlflow.db", store)
    return Registry(f"sqlite:///{store}", str(store.parent / "artifacts"), finished.run.workspace.name)


def test_promotion_rejection_and_rollback(
    finished, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.steps.run_content.draw_all", lambda *_: [])
    run: Run = finished.run
    first = registry.champion()
    assert first is not None and first.digest == finished.promotion.digest
    assert finished.promotion.decision == "promoted"

    # A day earlier there was other data, so there is another model.
    earlier = replace(
        run, workspace=copied(run, tmp_path, "lake", "features"), as_of=run.as_of - timedelta(days=1)
    )
    for step in ("train", "evaluate"):
        perform(earlier, step)
    refused = judged(earlier, registry, heuristic_margin=ANY)
    assert refused.decision == "rejected" and refused.digest != first.digest
    assert registry.aliases() == {"champion": first.number}
    assert registry.version(refused.version).tags["decision"] == "rejected"

    assert judged(earlier, registry).decision == "promoted"
    assert registry.aliases() == {"champion": refused.version, "previous": first.number}
    rollback(registry, "a test")
    assert registry.aliases() == {"champion": first.number, "previous": refused.version}
    again = judged(earlier, registry)
    assert again.decision == "rejected" and "was rolled back" in again.why


def judged(run: Run, registry: Registry, **gate: float) -> Promotion:
    """Promote by the open gate, or by one that is closed somewhere."""
    return promote(
        run.case,
        run.workspace,
        run.as_of,
        run.params,
        run.project.platform,
        Gate.model_validate(open_gate(run.case) | gate),
        registry,
        origin=run.workspace.origin,
    )
