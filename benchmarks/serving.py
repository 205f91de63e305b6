"""Measure how long an answer takes: over HTTP, one worker on one core, beside the bare scoring of the same matrix.

    python benchmarks/serving.py [--requests 2000]

500 candidates are scored and 20 shown and logged (durably, before the reply) for each request, by the video
champion of `runs/` (`make demo` makes it) in a copy of the checkout. One client on another core asks one request
after another, each for another user. `bare` is LightGBM's predict on the very matrices of those requests. Goals:
p50 at most that of bare + 5 ms, p99 at most 20 ms. Then clients act, over HTTP too. `--soak N` asks N times more, in
process, and prints the memory.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CASE = "video_recommendation"
CANDIDATES, PLACES = 500, 20
OVER_MS, P99_MS = 5.0, 20.0
COPIED = ("configs", "feature_repo", "params.yaml", "registry", f"runs/{CASE}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=2000)
    options.add_argument("--seconds", type=float, default=3.0)
    options.add_argument("--soak", type=int, default=0)
    options.add_argument("--worker", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        work(Path(given.worker), given.requests, given.soak)
        return
    if not (ROOT / "runs" / CASE / "model").is_dir():
        sys.exit(f"there is no champion to serve in runs/{CASE}: run `make demo` first")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        show(given, measure(Path(folder), given, cores[0]))


def copy(folder: Path) -> None:
    """Copy what serving reads, so that the log of the checkout stays as it is."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder / name)


def measure(folder: Path, given: argparse.Namespace, core: int) -> dict[str, Any]:
    """Run the worker on its core; ask it over HTTP; return its figures and the client's."""
    command = [sys.executable, __file__, "--worker", str(folder), f"--requests={given.requests}"]
    command.append(f"--soak={given.soak}")
    environment = {**os.environ, "LOOP_ROOT": str(folder), "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    try:
        found: dict[str, Any] = json.loads(process.stdout.readline())
        port = found.pop("port")
        found["over HTTP"], token = ask(port, found.pop("bodies"))
        found["batches"] = 100 * asyncio.run(act(port, token, 100, connections=8, seconds=given.seconds))
        found["singles"] = asyncio.run(act(port, token, 1, connections=64, seconds=given.seconds))
    finally:
        process.terminate()
        process.wait()
    return found


def ask(port: int, bodies: list[dict[str, Any]]) -> tuple[list[float], str]:
    """Ask one request after another on one connection; return seconds each, and a token to act with."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    spent = []
    for number, body in enumerate([*bodies[:200], *bodies]):
        text = json.dumps(body)
        started = time.perf_counter()
        connection.request("POST", f"/v1/{CASE}/decide", text, {"content-type": "application/json"})
        reply = connection.getresponse()
        answer = json.loads(reply.read())
        if number >= 200:  # the first ones warm it up
            spent.append(time.perf_counter() - started)
        if reply.status != 200 or len(answer["places"]) != PLACES or answer["fallback"]:
            raise SystemExit(f"no whole answer: {reply.status} {answer}")
    return spent, answer["places"][0]["token"]


async def act(port: int, token: str, batch: int, connections: int, seconds: float) -> float:
    """Send batches of actions, each connection waiting for its acknowledgement; return batches a second."""
    done, ends = 0, time.perf_counter() + seconds

    async def client(number: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent = 0
        while time.perf_counter() < ends:
            ids = [f"{batch}-{number}-{sent}-{each}" for each in range(batch)]
            actions = [{"action_id": name, "token": token, "action": "click"} for name in ids]
            body = json.dumps({"actions": actions}).encode()
            head = f"POST /v1/{CASE}/actions HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            reply = await reader.readuntil(b"\r\n\r\n")
            length = int(reply.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
            if answer.get("accepted") != batch:
                raise SystemExit(f"not acknowledged: {answer}")
            done, sent = done + 1, sent + 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(connections)))
    return done / (time.perf_counter() - started)


def show(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print the table, and whether the goals were reached."""
    print(
        f"{given.requests:,} requests, {found['candidates']:.0f} candidates scored, {PLACES} places logged each"
    )
    print(f"{'milliseconds':34}{'p50':>8}{'p99':>8}")
    words = {
        "bare": "bare scoring of the same matrix",
        "answer": "answer: candidates, features, order",
        "decide": "decide: own features, log, tokens",
        "over HTTP": "over HTTP",
    }
    at: dict[str, tuple[float, float]] = {}
    for name, text in words.items():
        p50, p99 = np.percentile(np.array(found[name]) * 1e3, [50, 99])
        at[name] = float(p50), float(p99)
        print(f"{text:34}{p50:8.1f}{p99:8.1f}")
    over, p99 = at["over HTTP"][0] - at["bare"][0], at["over HTTP"][1]
    print(f"p50 over bare: {over:.1f} ms (goal {OVER_MS:.0f}); p99: {p99:.1f} ms (goal {P99_MS:.0f})")
    print(f"actions a second, batches of 100 from 8 connections: {found['batches']:,.0f} (goal 10,000)")
    print(f"actions a second, one a request from 64 connections: {found['singles']:,.0f} (goal 2,000)")
    if "memory" in found:
        print("resident MiB on the way: " + " ".join(f"{each:.0f}" for each in found["memory"]))


def work(folder: Path, requests: int, soak: int) -> None:
    """Serve in this process: measure it from within, then answer over HTTP until ended."""
    import polars as pl
    import uvicorn

    from pipelines.flows.serve import open_service
    from pipelines.serving.app import make_app
    from pipelines.serving.keys import Keys
    from pipelines.settings import Project

    service = open_service(Project.find(), CASE, seed=1)
    widen(service)
    users = pl.scan_parquet(folder / "live" / CASE / "lake" / "users" / "**" / "*.parquet")
    names = users.select("user_id").unique().sort("user_id").collect().to_series().to_list()
    rng = np.random.default_rng(1)
    bodies = [{"user_id": str(name), "device": "phone"} for name in rng.choice(names, requests)]
    asked = [service.serving.request(**body) for body in bodies[:300]]
    answerer: Any = service.state.first.answerer
    with noted(answerer, "answer") as frames, noted(answerer.model.ranker, "predict") as matrices:
        for one in asked:
            service.decide([one])
    gc.collect()
    gc.freeze()
    found: dict[str, Any] = {
        "candidates": float(np.mean([len(each) for each in matrices])),
        "bare": timed(answerer.model.ranker.predict, matrices),
        "answer": timed(answerer.answer, frames),
        "decide": timed(lambda one: service.decide([one]), asked),
    }
    if soak:
        found["memory"] = soaked(service, asked, soak)
    server = uvicorn.Server(uvicorn.Config(make_app({CASE: service}, Keys({})), log_level="warning"))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    found |= {"port": listening.getsockname()[1], "bodies": bodies}
    gc.collect()
    gc.freeze()
    print(json.dumps(found), flush=True)
    server.run(sockets=[listening])


def widen(service: Any) -> None:
    """Let the service's model score CANDIDATES and answer PLACES."""
    from pipelines.cases.video_recommendation import serving

    serving.PLACES = PLACES
    service.serving = dataclasses.replace(service.serving, places=PLACES)
    answerer = service.state.first.answerer
    wanted = {"per_source": CANDIDATES, "ranked": CANDIDATES}
    params = answerer.model.params
    params = params.model_copy(update={"candidates": params.candidates.model_copy(update=wanted)})
    answerer.model = dataclasses.replace(answerer.model, params=params)


@contextmanager
def noted(holder: Any, name: str) -> Iterator[list[Any]]:
    """Note what a method of an object is called with."""
    calls: list[Any] = []
    method = getattr(holder, name)

    def note(given: Any) -> Any:
        calls.append(given)
        return method(given)

    setattr(holder, name, note)
    yield calls
    delattr(holder, name)


def soaked(service: Any, asked: list[Any], times: int) -> list[float]:
    """Ask in process, `times` in all; return the resident memory in MiB at ten moments on the way."""
    found = []
    for part in range(10):
        for number in range(times // 10):
            service.decide([asked[(part + number) % len(asked)]])
        found.append(resident())
    return found


def resident() -> float:
    """Read this process's resident memory, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def timed(call: Callable[[Any], object], inputs: list[Any]) -> list[float]:
    """Time a call on each input, after a round that warms it up; seconds each."""
    for each in inputs[:50]:
        call(each)
    spent = []
    for each in inputs:
        started = time.perf_counter()
        call(each)
        spent.append(time.perf_counter() - started)
    return spent


if __name__ == "__main__":
    main()
