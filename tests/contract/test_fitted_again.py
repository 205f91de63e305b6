"""What the gate passed is fitted once more until the moment, answers as any model does, and can be built again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from contract_help import copied, opened, window

from pipelines.flows.edge import Run
from pipelines.steps.refit import refit
from pipelines.steps.reproduce import reproduce
from pipelines.stores.models import load_model, read_manifest, read_record


def test_a_model_is_fitted_once_more_until_the_moment(finished, tmp_path: Path) -> None:
    run: Run = finished.run
    ws, judged = copied(run, tmp_path, "lake", "features"), read_manifest(run.workspace.model)["digest"]
    platform, folder = run.project.platform, tmp_path / "model"
    made = refit(run.case, ws, run.as_of, run.params, platform, run.protocol, judged, folder)
    record = read_record(folder)
    assert made.digest != judged
    assert record["judged"] == judged and record["window"]["end"] == run.as_of.isoformat()

    rows = run.case.predictions(opened(run, ws, window(run)[0], run.as_of)).head(300)
    before, after = (load_model(run.case, each).predict(rows) for each in (run.workspace.model, folder))
    assert np.isfinite(after).all() and not np.array_equal(before, after)

    found = reproduce(run.case, ws, folder, run.params, platform, tmp_path / "scratch")
    assert found.same, found.summary()
