"""A run on real rows: the same steps, a source's adapter in front, each protocol judged in turn."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from pipelines import catalog
from pipelines.case_study import Source
from pipelines.errors import DataError, UsageError, nearest
from pipelines.flows.edge import Run, bind_source, perform, timed
from pipelines.settings import Project
from pipelines.stores.files import read_json, write_folder_aside, write_json
from pipelines.stores.models import read_card
from pipelines.stores.noted_files import NotedFiles
from pipelines.stores.workspace import Workspace

Say = Callable[[str], None]
FILES = "files.json"
"""In a workspace: the digests of the files that it was made of."""


def run_source(
    project: Project, name: str, source_name: str, data: str, protocol: str, as_of: datetime | None, say: Say
) -> dict[str, Any]:
    """Take a source's files to a registered version; return the document of `loop run --json`.

    The first of the asked protocols yields the version; the others are judged before it, with models of
    their own that stay in the workspace under `protocols/`.
    """
    source = catalog.source(name, source_name)
    asked = _protocols(source, protocol)
    run = bind_source(project, name, source_name)
    with run.workspace.lock():
        say(f"{source.name}: {source.describe}")
        run = ingest_source(run, source, data, as_of, say)
        perform(run, "features")
        judged = {}
        for each in reversed(asked):
            say(f"{name}: training and judging by protocol '{each}' ...")
            judged[each] = _judge(replace(run, protocol=each))
            if each != asked[0]:
                _set_aside(run, each)
        promotion = perform(replace(run, protocol=asked[0]), "promote")
        perform(replace(run, protocol=asked[0]), "monitor")
    result = {
        "case": name,
        "source": source_name,
        "data": data,
        "as_of": run.as_of.isoformat(),
        "rows": read_json(run.workspace.root / "rows.json"),
        "protocols": [judged[each] for each in asked],
        "model": run.workspace.name,
        "version": promotion.version,
        "alias": promotion.alias,
        "digest": promotion.digest,
        "why": promotion.why,
        "seconds": read_json(run.workspace.root / "seconds.json"),
    }
    write_json(run.workspace.root / "result.json", result)
    return result


def ingest_source(run: Run, source: Source, data: str, as_of: datetime | None, say: Say) -> Run:
    """Ingest the source's files, and bind the run to the midnight after the last row that arrived."""
    from pipelines.steps.ingest import ingest
    from pipelines.stores.location import open_location

    location = NotedFiles(open_location(data, run.workspace.root / "downloads"))
    with timed(run.workspace, "ingest"), _made_of(run, location, say) as workspace:
        manifest = ingest(
            run.case,
            workspace,
            source.read(location),
            source=source.name,
            as_of=as_of or datetime.now(UTC),
            zone=source.zone,
            observed=source.observed,
        )
        write_json(workspace.root / "rows.json", asdict(manifest.total))
    say(manifest.summary())
    return replace(run, as_of=as_of or midnight_after_last(run))


@contextmanager
def _made_of(run: Run, location: NotedFiles, say: Say) -> Iterator[Workspace]:
    """Yield the run's workspace; where it was made of other files, an empty one, which takes its place in the end.

    What the files of two runs say of the same ids must not be mixed. Raise UsageError where rows that somebody mended
    would be lost.
    """
    from pipelines.steps.ingest import manifests

    root = run.workspace.root
    notes = root / FILES
    if notes.is_file() and location.holds(read_json(notes)):
        yield run.workspace
        return
    if any(each["source"] == "quarantine" for each in manifests(run.workspace)):
        raise UsageError(
            f"{root} holds rows that were mended in quarantine, and the files are others than those it was made of: "
            "remove it to begin anew, or name the same files"
        )
    if run.workspace.lake.exists():
        say("the files are others than those of the last run: what was made of those is replaced")
    with write_folder_aside(root) as aside:
        yield Workspace(aside)
        write_json(aside / FILES, location.noted)
        if (root / "downloads").is_dir():
            (root / "downloads").rename(aside / "downloads")


def midnight_after_last(run: Run) -> datetime:
    """Find the first midnight (UTC) by which every row of the labelled tables had arrived.

    The last one that has come, where rows are of today: what arrived since waits.
    """
    from pipelines.stores.lake import Lake

    lake = Lake(run.workspace.lake, run.case.tables)
    newest = (
        lake.scan(name).select(pl.col("arrived_at").max()).collect().item() for name in run.case.label.reads
    )
    last: datetime | None = max((each for each in newest if each is not None), default=None)
    if last is None:
        raise DataError(
            f"no row of {', '.join(run.case.label.reads)} could be used: `loop quarantine list {run.case.name} "
            f"--source {run.workspace.name.removeprefix(run.case.name + '-')}` says why"
        )
    return min(_midnight(last) + timedelta(days=1), _midnight(datetime.now(UTC)))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def describe(judged: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return a protocol's outcome as a table: a row a scorer, a column a metric."""
    scorers = {"model": judged["metrics"]["model"], **judged["metrics"]["heuristics"]}
    if judged["metrics"]["oracle"]:
        scorers["oracle"] = judged["metrics"]["oracle"]
    metrics = list(dict.fromkeys(metric for found in scorers.values() for metric in found))
    return ["", *metrics], [
        [scorer, *(figure(found.get(metric)) for metric in metrics)] for scorer, found in scorers.items()
    ]


def figure(estimate: Mapping[str, Any] | None) -> str:
    """Write an estimate with its interval."""
    if estimate is None or estimate["value"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['value']:.4f}"
    return f"{estimate['value']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"


def _judge(run: Run) -> dict[str, Any]:
    perform(run, "train")
    evaluation = perform(run, "evaluate").content
    gain = evaluation["differences"][evaluation["best_heuristic"]][evaluation["primary"]]
    scorers = evaluation["scorers"]
    return {
        "protocol": evaluation["protocol"],
        "describe": evaluation["describe"],
        "primary": evaluation["primary"],
        "best_heuristic": evaluation["best_heuristic"],
        "gain": gain,
        "verdict": verdict(evaluation, gain),
        "notes": list(read_card(run.workspace.model).notes),
        "metrics": {
            "model": scorers["model"],
            "heuristics": {each: scorers[each] for each in evaluation["heuristics"]},
            "oracle": scorers.get("oracle"),
        },
    }


def verdict(evaluation: Mapping[str, Any], gain: Mapping[str, Any]) -> str:
    """Say whether the model is clearly better than the best heuristic: `gain` is model less heuristic."""
    if evaluation["primary"] in evaluation["lower_is_better"]:
        better = gain["high"] is not None and gain["high"] < 0
    else:
        better = gain["low"] is not None and gain["low"] > 0
    word = "is clearly better than" if better else "is not clearly better than"
    return (
        f"model {word} the best heuristic ({evaluation['best_heuristic']}): {evaluation['primary']} differs "
        f"by {figure(gain)}, {evaluation['confidence']:.0%} paired bootstrap over {gain['n']} units"
    )


def _set_aside(run: Run, protocol: str) -> None:
    """Keep another protocol's model and evaluation beside those of the registered one."""
    kept = run.workspace.root / "protocols" / protocol
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for folder in (run.workspace.model, run.workspace.evaluation):
        folder.rename(kept / folder.name)


def _protocols(source: Source, asked: str) -> Sequence[str]:
    if asked == "all":
        return source.protocols
    if asked not in source.protocols:
        hint = nearest(asked, [*source.protocols, "all"])
        raise UsageError(f"{source.name} has no protocol '{asked}': {hint}")
    return (asked,)
