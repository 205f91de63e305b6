"""Background processes of one project: started once, found again by pid and start time, stopped whole."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.errors import LoopError, UsageError
from pipelines.stores.files import read_json, write_json


@dataclass(frozen=True)
class Process:
    """A named process under `folder` (`<project>/.run`), with its log beside its pid file."""

    name: str
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / f"{self.name}.json"

    def find(self) -> psutil.Process | None:
        """Find the running process; a pid that another process has taken since is not it."""
        if not self.pid_file.is_file():
            return None
        noted = read_json(self.pid_file)
        try:
            process = psutil.Process(noted["pid"])
            same = abs(process.create_time() - noted["started"]) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def note(self) -> Mapping[str, object]:
        """Read what was noted when the process started."""
        noted: Mapping[str, object] = read_json(self.pid_file)
        return noted

    def start(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, **noted: object) -> None:
        """Start the process in a session of its own, its output appended to the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = psutil.Process(child.pid).create_time()
        write_json(self.pid_file, {"pid": child.pid, "started": started, "command": list(command), **noted})

    def stop(self, patience: float = 20.0) -> bool:
        """Stop the process with all it started; say whether it was running."""
        process = self.find()
        if process is not None:
            family = [process, *process.children(recursive=True)]
            _signal([process], "terminate")
            psutil.wait_procs([process], timeout=patience)
            left = [each for each in family if each.is_running()]
            _signal(left, "terminate")
            _, alive = psutil.wait_procs(left, timeout=5.0)
            _signal(alive, "kill")
            psutil.wait_procs(alive, timeout=5.0)
        self.pid_file.unlink(missing_ok=True)
        return process is not None

    def last_words(self, lines: int = 15) -> str:
        """Read the end of the log."""
        text = self.log.read_text(errors="replace") if self.log.is_file() else ""
        return "\n".join(text.splitlines()[-lines:])

    def died(self) -> LoopError:
        """Make the error for a process that ended by itself."""
        return LoopError(f"{self.name} stopped by itself; the end of {self.log}:\n{self.last_words()}")


def _signal(processes: Sequence[psutil.Process], how: str) -> None:
    for process in processes:
        try:
            getattr(process, how)()
        except psutil.NoSuchProcess:
            continue


def require_free(port: int, what: str, option: str) -> None:
    """Refuse a port of loopback that somebody listens on, naming the way to another."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UsageError(
                f"port {port}, meant for {what}, is taken by another program: choose another with "
                f"`loop up {option} PORT`, or set `ports` in configs/<profile>.yaml"
            ) from None
