"""A server that forks `loop serve` again and again, so that libraries are imported once, not once a kill.

Reads from stdin, a JSON a line: {"root", "case", "log"}. For each it forks a child that runs the command itself, on a
free port, and answers on stdout with the child's {"pid", "url"}; the child before is reaped first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

HEAVY = (
    "alembic.command", "feast", "feast.infra.online_stores.sqlite", "feast.repo_operations", "ibis.backends.duckdb",
    "lightgbm", "mlflow.artifacts", "mlflow.pyfunc", "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store", "pipelines.flows.serve", "pipelines.serving.app",
    "pipelines.serving.ladder", "pipelines.serving.own", "pipelines.serving.run",
    "pipelines.stores.action_log_sqlite", "pipelines.stores.asof_store", "torch",
)  # fmt: skip
"""What every child would import anew."""


def child(root: str, case: str, log: Path) -> None:
    """Run `loop serve`; what it says goes to a file."""
    from pipelines.cli import main

    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.environ["LOOP_ROOT"] = root
    sys.argv = ["loop", "serve", case, "--port", "0"]
    main()


def until_it_listens(pid: int, log: Path) -> str:
    """Wait for a child's address; nothing where it ends before."""
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        said = log.read_text() if log.exists() else ""
        if "http://" in said and said.endswith("\n"):
            return "http://" + said.partition("http://")[2].partition("/")[0]
        time.sleep(0.02)
    return ""


def main() -> None:
    from pipelines.stores.feast_import import import_feast
    from pipelines.stores.registry import quiet

    quiet()
    import_feast()
    for name in HEAVY:
        import_module(name)
    print("ready", flush=True)
    before = 0
    for line in sys.stdin:
        if before:
            os.waitpid(before, 0)
        request = json.loads(line)
        log = Path(request["log"])
        log.unlink(missing_ok=True)
        before = os.fork()
        if before == 0:
            try:
                child(request["root"], request["case"], log)
            finally:
                os._exit(1)
        print(json.dumps({"pid": before, "url": until_it_listens(before, log)}), flush=True)
    if before:
        os.waitpid(before, 0)


if __name__ == "__main__":
    main()
