"""A server that forks a child for each request, so that libraries are imported once; children die when told.

Reads requests from stdin, a JSON a line: {"do": prepare | run | see | end, "job", "root", "moment"}. A run
with a moment above 0 is killed at its moment of that number. Answers on stdout: {"code", "said"}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import mlflow.artifacts
import mlflow.data
import mlflow.pyfunc
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401  # what every child would import anew
import polars as pl
from kill_jobs import JOBS, stub
from mlflow import MlflowClient

from pipelines.stores import files
from pipelines.stores.registry import quiet

REGISTRY = ("create_", "set_", "delete_", "log_", "finalize_")
MOMENTS: dict[str, list[tuple[Any, str]]] = {
    "fsync": [(os, "fsync"), (os, "sync")],
    "rename": [(Path, "replace"), (Path, "rename"), (files, "_exchange")],
    "remove": [(os, "unlink"), (os, "rmdir"), (Path, "unlink")],
    "mkdir": [(Path, "mkdir")],
    "write": [(Path, "write_text"), (pl.DataFrame, "write_parquet")],
    "registry": [(MlflowClient, name) for name in dir(MlflowClient) if name.startswith(REGISTRY)],
}
"""Every call by which the stores change the disk or the registry: each is a moment to die before.

A write is two: before it, and in the middle of it ("torn"), with half of its bytes on the disk.
"""


class Fuse:
    """Counts the moments of a process, and kills it at one of them."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.passed: list[str] = []

    def arm(self) -> None:
        """Watch every call of MOMENTS."""
        for kind, calls in MOMENTS.items():
            for owner, name in calls:
                setattr(owner, name, self.watched(kind, getattr(owner, name)))

    def watched(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.burns(kind):
                die()
            if kind == "write" and self.burns("torn"):
                tear(function, *args, **kwargs)
                die()
            return function(*args, **kwargs)

        return call

    def burns(self, kind: str) -> bool:
        self.passed.append(kind)
        return len(self.passed) == self.moment


def tear(write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Write to the file named by the call, and leave half of its bytes."""
    write(*args, **kwargs)
    path = next(each for each in args if isinstance(each, Path))
    os.truncate(path, path.stat().st_size // 2)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def answer(request: dict[str, Any]) -> Any:
    """Do what is asked, in a child."""
    job, root = JOBS[request["job"]], Path(request["root"])
    if request["do"] == "run":
        fuse = Fuse(request["moment"])
        fuse.arm()
        job.run(root)
        return fuse.passed
    return getattr(job, request["do"])(root)


def child(request: dict[str, Any], pipe: int) -> None:
    """Answer through a pipe, and leave at once: no clean-up that a killed process would not do."""
    code = 0
    try:
        said = answer(request)
        text = json.dumps(None if request["do"] == "prepare" else said)
    except BaseException:
        code, text = 1, json.dumps(traceback.format_exc())
    with os.fdopen(pipe, "w") as stream:
        stream.write(text)
    os._exit(code)


def serve() -> None:
    quiet()
    stub()
    print("ready", flush=True)
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.dup2(2, 1)
            child(json.loads(line), write)
        os.close(write)
        with os.fdopen(read) as stream:
            said = stream.read()
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, "said": json.loads(said) if said else None}), flush=True)


if __name__ == "__main__":
    serve()
