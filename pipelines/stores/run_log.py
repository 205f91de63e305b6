"""What a run leaves in MLflow: parameters, metrics, data sets, artifacts and the model itself.

Always by client and run id: MLflow's active run and experiment are process-wide state that races.
Metrics carry the moment of the evaluation, so that logging them twice changes nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.errors import LoopError
from pipelines.stores.frames import as_pandas, signature

NOTE = "mlflow.note.content"
_TAG = 8000  # characters that MLflow keeps of a tag
_KEY = "run_key"
_PARAMS, _METRICS = 100, 1000  # what MLflow takes in one batch
_NEEDED = ("lightgbm", "mlflow", "numpy", "pandas", "polars", "safetensors", "torch")


@dataclass(frozen=True)
class LoggedData:
    """A data set that went into a run: where it stands, its digest, and some of its rows."""

    name: str
    digest: str
    source: str
    context: str
    rows: pl.DataFrame
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunContent:
    """Everything a run shows. Two runs with one `key` are one run."""

    key: str
    name: str
    at: int
    framing: str
    card: str
    experiment_tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]
    tags: Mapping[str, str]
    data: Sequence[LoggedData]
    artifacts: Path


def experiment(client: Any, name: str, artifact_root: str, content: RunContent) -> str:
    """Find or make the experiment; its tags and note say what the model is for."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            location = f"{artifact_root.rstrip('/')}/{name}"
            experiment_id = client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment_id = client.get_experiment_by_name(name).experiment_id
    elif found.lifecycle_stage == "deleted":
        raise LoopError(f"the experiment '{name}' was deleted in MLflow: restore it there, then try again")
    else:
        experiment_id = found.experiment_id
    for key, value in {**content.experiment_tags, NOTE: content.framing}.items():
        client.set_experiment_tag(experiment_id, key, value)
    return str(experiment_id)


def begin(client: Any, experiment_id: str, content: RunContent) -> str:
    """Start the run, or find the one with this key that was logged, or begun, before."""
    found = client.search_runs([experiment_id], f"tags.{_KEY} = '{content.key}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    run = client.create_run(experiment_id, tags={_KEY: content.key}, run_name=content.name)
    return str(run.info.run_id)


def fill(client: Any, run_id: str, model_id: str, content: RunContent) -> None:
    """Log everything but the model itself."""
    from mlflow.entities import Metric, Param, RunTag

    params = [Param(key, str(value)[:6000]) for key, value in content.params.items()]
    for start in range(0, len(params), _PARAMS):
        client.log_batch(run_id, params=params[start : start + _PARAMS])
    metrics = [
        Metric(_word(key), value, content.at, 0, model_id=model_id or None)
        for key, value in content.metrics.items()
    ] + [
        Metric(f"curves/{_word(key)}", value, content.at, step)
        for key, values in content.curves.items()
        for step, value in enumerate(values)
    ]
    for start in range(0, len(metrics), _METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS])
    tags = {**content.tags, NOTE: shortened(content.card, _TAG)}
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    _log_data(client, run_id, content.data)
    client.log_artifacts(run_id, str(content.artifacts))


def shortened(text: str, most: int) -> str:
    """Cut a text at a line's end to what MLflow keeps of it."""
    if len(text) <= most:
        return text
    more = "\n\n… and more: MLflow keeps no more of it here"
    return text[: most - len(more)].rpartition("\n")[0] + more


def end(client: Any, run_id: str, number: str) -> None:
    """Finish the run and name the version it made or judged."""
    client.set_tag(run_id, "model_version", number)
    client.set_terminated(run_id, "FINISHED")


def store_model(
    client: Any,
    experiment_id: str,
    run_id: str,
    folder: Path,
    examples: pl.DataFrame,
    content: RunContent,
) -> str:
    """Store a model directory as an MLflow model from code, and return its id."""
    import mlflow.pyfunc
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    made = client.create_logged_model(
        experiment_id,
        name="model",
        source_run_id=run_id,
        params={key: str(value) for key, value in content.params.items()},
        model_type="pyfunc",
    )
    rows = examples.head(5)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "mlflow_model"
        mlflow.pyfunc.save_model(
            path,
            python_model=str(Path(__file__).with_name("mlflow_model.py")),
            artifacts={"model": str(folder)},
            signature=signature(examples),
            input_example=as_pandas(examples).head(rows.height),
            pip_requirements=requirements(),
            mlflow_model=Model(artifact_path=made.artifact_location, model_uuid=made.model_id, run_id=run_id),
        )
        for cached in path.rglob("__pycache__"):
            for file in cached.iterdir():
                file.unlink()
            cached.rmdir()
        client.log_model_artifacts(made.model_id, str(path))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
    return str(made.model_id)


@contextmanager
def process_uri(tracking_uri: str) -> Iterator[None]:
    """Let MLflow's process-wide URI be ours for a moment: a SQL store resolves models:/ by it."""
    import mlflow

    before, variable = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        # MLflow exports what it is set to; settings and child processes would take it for the user's wish.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable


def requirements() -> list[str]:
    """Name the libraries a model needs, as installed here."""
    found = []
    for name in _NEEDED:
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return found


def _log_data(client: Any, run_id: str, data: Sequence[LoggedData]) -> None:
    import mlflow.data
    from mlflow.data.sources import LocalArtifactDatasetSource
    from mlflow.entities import DatasetInput, InputTag

    inputs = []
    for each in data:
        rows = as_pandas(each.rows)
        source = LocalArtifactDatasetSource(each.source)
        dataset = mlflow.data.from_pandas(rows, source=source, name=each.name, digest=each.digest[:36])
        tags = [InputTag("mlflow.data.context", each.context)]
        tags += [InputTag(key, value) for key, value in each.tags.items()]
        inputs.append(DatasetInput(dataset=dataset._to_mlflow_entity(), tags=tags))
    client.log_inputs(run_id, inputs)


def _word(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)
