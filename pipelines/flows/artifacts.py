"""What a flow run shows in Prefect's UI: its figures as a table, its outcome in words, links onward."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from pipelines.flows.edge import Run
from pipelines.steps.decide import Decision
from pipelines.steps.outcome import Outcome
from pipelines.steps.parity import Parity
from pipelines.steps.signals import Signals
from pipelines.stores.files import read_json
from pipelines.stores.registry import Version


def publish_version(run: Run, evaluation: Any, promotion: Any) -> None:
    """Show a version's figures and its verdict."""
    rows = metric_rows(evaluation.content)
    create_table_artifact(
        table=rows, key=key(run, "metrics"), description=f"{run.case.name}, as of {run.as_of:%Y-%m-%d}"
    )
    version = run.registry.version(promotion.version)
    create_markdown_artifact(markdown=version_text(run, version, promotion, rows), key=key(run, "version"))


def publish_watch(
    run: Run,
    verdict: Any,
    signals: Signals,
    decision: Decision,
    parity: Parity | None,
) -> None:
    """Show what a watch saw and what it asked for."""
    text = watch_text(run, verdict, signals, decision)
    if parity is not None and parity.requests:
        text += f"\n- **{parity.summary().replace(': ', '**: ', 1)}"
    create_markdown_artifact(markdown=text, key=key(run, "watch"))


def metric_rows(content: Any) -> list[dict[str, Any]]:
    """Return an evaluation as rows: scorer, metric, value, its interval and number of units."""
    return [
        {"scorer": scorer, "metric": metric, **{name: _short(value) for name, value in found.items()}}
        for scorer, metrics in content["scorers"].items()
        for metric, found in metrics.items()
    ]


def version_text(run: Run, version: Version, promotion: Any, rows: Sequence[dict[str, Any]]) -> str:
    """Tell in Markdown what came of a training."""
    primary = run.case.framing.primary_metric
    figures = [
        f"| {row['scorer']} | {row['value']} | {row['low']} | {row['high']} | {row['n']} |"
        for row in rows
        if row["metric"] == primary
    ]
    return "\n".join(
        [
            f"# {run.case.name}: version {promotion.version} {promotion.decision}",
            "",
            f"- **cause**: {run.cause}",
            f"- **as of**: {run.as_of:%Y-%m-%d %H:%M} UTC",
            f"- **verdict**: {promotion.why}",
            f"- **champion now**: version {promotion.champion or 'none'}",
            f"- **MLflow**: [run]({run_link(run, version)}), [version]({version_link(run, version)})",
            f"- **drift report**: {report_link(run)}",
            "",
            f"| {primary} | value | low | high | n |",
            "|---|---|---|---|---|",
            *figures,
        ]
    )


def watch_text(run: Run, verdict: Any, signals: Signals, decision: Decision) -> str:
    """Tell in Markdown what a watch saw."""
    found = signals.performance
    performance = (
        "not enough mature rows newer than the champion"
        if found is None
        else f"{found.metric} of version {found.version}: {found.now.value:.4f} "
        f"[{found.now.low:.4f}, {found.now.high:.4f}] on {found.now.n} newer units; "
        f"{found.then:.4f} when judged"
    )
    estimated = signals.estimated
    expected = (
        "not applicable: too few labelled rows that the model did not learn from, or labels are not yes or no"
        if estimated is None
        else f"normalized entropy {estimated.now.value:.4f} [{estimated.now.low:.4f}, {estimated.now.high:.4f}]"
        f" to be expected on {estimated.now.n} rows; {estimated.then.value:.4f} on those it was judged by"
    )
    asks_at = run.config.triggers.new_labels
    return "\n".join(
        [
            f"# {run.case.name}: watched as of {run.as_of:%Y-%m-%d %H:%M} UTC",
            "",
            f"- **{verdict.summary().replace(': ', '**: ', 1)}",
            f"- **labels that matured since the last training**: {signals.new_labels:,} "
            + (f"(asks for a retrain at {asks_at:,})" if asks_at else "(asks for no retrain)"),
            f"- **performance**: {performance}",
            *_outcome_line(run, signals.outcome),
            *([] if signals.answered is None else [f"- **what it answered**: {_came(signals.answered)}"]),
            f"- **before labels come**: {expected}",
            *(f"- **incident**: {incident.words}" for incident in decision.incidents),
            f"- **decision**: {decision.words}",
            *(f"  - {reason.words}" for reason in decision.reasons),
            f"- **drift report**: {report_link(run)}",
        ]
    )


def _outcome_line(run: Run, found: Outcome | None) -> list[str]:
    """Tell what came of the champion's answers, where it is watched."""
    watched = run.config.triggers.outcome_drop is not None
    return [f"- **what came of its answers**: {_came(found)}"] if watched else []


def _came(found: Outcome | None) -> str:
    """Say what came of the champion's answers, beside what is usual."""
    if found is None:
        return "no week of its answers to compare with"
    return f"{found.metric} {found.words()}"


def run_link(run: Run, version: Version) -> str:
    """Link to a version's run in MLflow's UI."""
    experiment = run.registry.client.get_run(version.run_id).info.experiment_id
    return f"{mlflow_url(run)}/#/experiments/{experiment}/runs/{version.run_id}"


def version_link(run: Run, version: Version) -> str:
    """Link to a version in MLflow's registry."""
    return f"{mlflow_url(run)}/#/models/{run.workspace.name}/versions/{version.number}"


def report_link(run: Run) -> str:
    """Link to the newest drift report: in MLflow where a watch logged it, else the file."""
    if not (run.workspace.monitor / "report.html").is_file():
        return "none yet"
    verdict = read_json(run.workspace.monitor / "verdict.json")
    watched = run.registry.find(verdict["reference"]["model"])
    if watched is None:
        return f"`{run.workspace.monitor / 'report.html'}`"
    logged = run.registry.client.list_artifacts(watched.run_id, "drift")
    newest = max((each.path for each in logged), default=None)
    return f"[report.html]({run_link(run, watched)}/artifacts/{newest}/report.html)" if newest else "none yet"


def mlflow_url(run: Run) -> str:
    """Say where MLflow's UI is: as `loop up` started it, else where the profile puts it."""
    return os.environ.get("LOOP_MLFLOW_URL") or f"http://127.0.0.1:{run.project.platform.ports.mlflow}"


def key(run: Run, what: str) -> str:
    """Name an artifact: Prefect keeps the versions of one key together."""
    return f"{run.case.name}-{what}".replace("_", "-").lower()


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
