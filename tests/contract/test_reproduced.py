"""The champion is built again from what its run recorded, through the command that a person would type."""

from __future__ import annotations

import json

import pytest

from pipelines.cli.reproduce import reproduce
from pipelines.flows.edge import Run
from pipelines.stores.files import folder_digest


def test_loop_reproduce_comes_to_the_same_digest(
    finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Run = finished.run
    name = run.workspace.name
    monkeypatch.setenv("LOOP_ROOT", str(run.project.root))
    before = folder_digest(run.workspace.root)
    reproduce(f"models:/{name}@champion", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["reproduced"] and found["rebuilt"] == found["digest"] == finished.promotion.digest
    assert found["changes"] == [] and found["workspace"] == f"runs/{name}"
    assert folder_digest(run.workspace.root) == before
    assert [path.name for path in run.workspace.root.parent.glob(f".{name}.*/")] == []
