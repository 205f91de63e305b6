"""kill -9 of `loop serve` under load: what was acknowledged is counted once, and training sees no trace of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from contract_help import open_gate
from load import Client, Memory
from tiny_project import CASE, tiny_project

from pipelines import catalog
from pipelines.flows import clock
from pipelines.flows.edge import bind, perform
from pipelines.flows.live import bind_live
from pipelines.settings import Project, SqliteLog
from pipelines.steps.features import build_features
from pipelines.steps.ingest import ingest_log
from pipelines.stores.action_log import open_action_log
from pipelines.stores.dataset import open_dataset
from pipelines.stores.lake import Lake
from pipelines.stores.schemas import REFUSED
from pipelines.stores.workspace import Workspace

MILL = Path(__file__).with_name("serve_mill.py")
SEED, KILLS, CLIENTS, MOST_REPLIES = 20260301, 50, 4, 60
TABLES = ("requests", "impressions", "actions")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tiny project, run from ingest to promote: what `loop serve` finds after `make demo`."""
    made = tiny_project(tmp_path_factory.mktemp("served") / "project", gate=open_gate(catalog.case(CASE)))
    run = bind(made, CASE)
    for step in ("ingest", "features", "train", "evaluate", "promote"):
        perform(run, step)
    return made


@contextmanager
def mill() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(MILL)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(30)


def serve(process: subprocess.Popen[str], project: Project) -> tuple[int, str]:
    """Start `loop serve`; return its pid and address."""
    assert process.stdin is not None and process.stdout is not None
    log = project.root / "serve.log"
    process.stdin.write(json.dumps({"root": str(project.root), "case": CASE, "log": str(log)}) + "\n")
    process.stdin.flush()
    said = json.loads(process.stdout.readline())
    assert said["url"], log.read_text()
    return said["pid"], said["url"]


def kill_under_load(project: Project, memory: Memory, kills: int, rng: np.random.Generator) -> None:
    """Let clients at work meet one kill after the other; the simulated clock moves on between them."""
    with mill() as process:
        for _ in range(kills):
            pid, url = serve(process, project)
            clients = [Client(url, memory, each) for each in rng.spawn(CLIENTS)]
            for client in clients:
                client.start()
            under_way(memory, int(rng.integers(0, MOST_REPLIES)))
            time.sleep(rng.uniform(0, 0.05))  # anywhere within an exchange
            os.kill(pid, signal.SIGKILL)
            for client in clients:
                client.enough.set()
            for client in clients:
                client.join()
            assert "Traceback" not in (told := (project.root / "serve.log").read_text()), told
            clock.advance(live(project), timedelta(minutes=float(rng.uniform(0, 40))))


def under_way(memory: Memory, replies: int) -> None:
    """Wait until so many more replies came, however fast the machine is; not for ever."""
    goal, patience = memory.counts["replies"] + replies, time.monotonic() + 20
    while memory.counts["replies"] < goal and time.monotonic() < patience:
        time.sleep(0.002)


def live(project: Project) -> Workspace:
    return Workspace(project.root / "live" / CASE)


def remembered(project: Project) -> Memory:
    """Let the clients be users of the tiny world, and a stranger."""
    run = bind(project, CASE)
    users = Lake(run.workspace.lake, run.case.tables).scan("users").head(40).collect()["user_id"].to_list()
    assert run.case.serving is not None
    return Memory(CASE, [{"user_id": user} for user in [*users, "stranger"]], run.case.serving.actions)


def trained_on(project: Project, log: Path | None, root: Path) -> bytes:
    """Ingest a log in a copy of the project, two days later, and write the training set from it, byte by byte."""
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns("runs", ".prefect"))
    copy = Project(root)
    ws = live(copy)
    if log is not None:
        shutil.rmtree(ws.log)
        shutil.copytree(log, ws.log)
    clock.advance(ws, timedelta(days=3))
    run = bind_live(copy, CASE)
    with open_action_log(SqliteLog(), ws) as opened:
        ingest_log(run.case, ws, opened, as_of=run.as_of)
    build_features(run.case, ws, run.as_of)
    start = run.as_of - timedelta(days=8)
    dataset = open_dataset(run.case, ws, start, run.as_of, 0, copy.platform)
    stream = BytesIO()
    dataset.historical(dataset.labels(), run.case.label.time).write_parquet(
        stream
    )  # IPC tells how memory was laid out
    return stream.getvalue()


def logged(ws: Workspace) -> dict[str, pl.DataFrame]:
    """Read what the log holds, a frame a table, in the order of arrival."""
    found: dict[str, list[pl.DataFrame]] = {}
    with open_action_log(SqliteLog(), ws) as log:
        for _, batch in log.read():
            found.setdefault(batch.table, []).append(batch.rows)
    return {name: pl.concat(rows) for name, rows in found.items()}


def without_faults(project: Project, rows: dict[str, pl.DataFrame], folder: Path) -> Path:
    """Write a log that got every distinct row once, the first time it came, an append a table."""
    ws = Workspace(folder / "live" / CASE)
    with open_action_log(SqliteLog(), ws) as log:
        for table in bind(project, CASE).case.tables:
            if table.name in TABLES:
                log.append(table.name, rows[table.name].unique(table.key, keep="first", maintain_order=True))
    return ws.log


def check_actions(memory: Memory, kept: pl.DataFrame) -> dict[str, int]:
    """Compare the lake's actions with what clients sent, and were told; return what was lost, and what came twice."""
    ours = kept.filter(pl.col("action_id").str.starts_with("action-"))
    found = {row["action_id"]: row for row in ours.iter_rows(named=True)}
    places = {place["token"]: place for answer in memory.answers for place in answer["places"]}
    assert not found.keys() & memory.forged
    for name, row in found.items():
        sent, place = memory.sent[name], places[memory.sent[name]["token"]]
        assert (row["action"], row["value"]) == (sent["action"], sent["value"])
        assert row["impression_id"] == place["impression_id"]
    return {"lost": len(memory.acknowledged - found.keys()), "twice": ours.height - len(found)}


def check_answers(memory: Memory, requests: pl.DataFrame, impressions: pl.DataFrame) -> dict[str, int]:
    """Compare the lake's requests and impressions with the answers that clients were given."""
    told = [
        (
            place["impression_id"],
            answer["request_id"],
            place["position"],
            place["propensity"],
            *place["item"].values(),
        )
        for answer in memory.answers
        for place in answer["places"]
    ]
    (item,) = {name for answer in memory.answers for place in answer["places"] for name in place["item"]}
    columns = ["impression_id", "request_id", "position", "propensity", item]
    kept = impressions.select(columns).rows()
    asked = {answer["request_id"] for answer in memory.answers}
    lost = len(asked - set(requests["request_id"])) + len(set(told) - set(kept))
    twice = sum(
        frame.height - frame.n_unique()
        for frame in (requests.select("request_id"), impressions.select("impression_id"))
    )
    return {"lost": lost, "twice": twice}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_kills_lose_nothing_and_count_nothing_twice(project: Project, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    memory = remembered(project)
    kill_under_load(project, memory, KILLS, rng)
    assert not memory.strange, memory.strange[:5]
    rows = logged(live(project))
    repeated = rows["actions"].height - rows["actions"]["action_id"].n_unique()
    assert repeated > 0 and memory.counts["broken"] > 0 and rows[REFUSED].height > 0, (
        "nothing was put to the test"
    )

    faulty = trained_on(project, None, tmp_path / "faulty")
    clean = trained_on(project, without_faults(project, rows, tmp_path / "log"), tmp_path / "clean")
    assert faulty == clean, "the training set tells that there were faults"
    case = catalog.case(CASE)
    lake = Lake(live(Project(tmp_path / "faulty")).lake, case.tables)
    requests, impressions, actions = (lake.scan(name).collect() for name in TABLES)
    done, answered = check_actions(memory, actions), check_answers(memory, requests, impressions)
    examples = pl.read_parquet(BytesIO(clean))
    ours = examples.filter(pl.col("request_id").is_in([answer["request_id"] for answer in memory.answers]))
    assert ours["label"].n_unique() > 1, "what clients did is among what is learned"
    print(
        f"seed {SEED}: {KILLS} kills; acknowledged {len(memory.answers):,} answers and"
        f" {len(memory.acknowledged):,} actions; retried {memory.counts['retried']:,}, connections cut"
        f" {memory.counts['cut']:,} by clients and {memory.counts['broken']:,} by kills, logged again"
        f" {repeated:,}; lost {done['lost'] + answered['lost']}, twice {done['twice'] + answered['twice']};"
        f" training set of {examples.height:,} rows, byte-identical"
    )
    assert (done, answered) == ({"lost": 0, "twice": 0}, {"lost": 0, "twice": 0})
