"""A live system may serve people whom no simulated world made: then nobody knows the truth, and learning goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pipelines.steps.evaluate import ORACLE, evaluate
from pipelines.stores.workspace import Workspace


def test_rows_of_strangers_are_evaluated_without_an_oracle(finished, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = finished.run
    copy = Workspace(tmp_path / run.workspace.name)
    shutil.copytree(run.workspace.root, copy.root)
    run = replace(run, workspace=copy)
    # A world that begins long after the rows made none of them.
    stranger = run.world.judge(run.world_params, run.params.seed, run.world_start + timedelta(days=2000))
    platform, gate = run.project.platform, run.config.gate
    found = evaluate(run.case, copy, run.as_of, run.params, platform, run.protocol, stranger, gate=gate)
    assert ORACLE not in found.scores.scorers()
    assert (
        "the oracle is not told" in found.content["unjudged"] and "the oracle is not told" in found.summary()
    )
    known = evaluate(run.case, copy, run.as_of, run.params, platform, run.protocol, run.judge(), gate=gate)
    assert ORACLE in known.scores.scorers() and "unjudged" not in known.content
