"""Several files that become visible together, or not at all, whatever moment the process is killed at.

Files are written aside in `<base>/.<name>.txn/`. One rename of a commit record decides: before it
nothing happened, after it the record is carried out, by this process or by the next one to open.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.errors import LoopError
from pipelines.stores.files import disk_errors, fsync, read_json, write_json

_PATIENCE_SECONDS = 60.0


class Transaction:
    """Files to put and to remove under `base`; use `transaction()` to open one."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base = base
        self.folder = folder
        self._puts: dict[str, str] = {}
        self._removals: list[str] = []

    def put(self, staged: Path, target: Path) -> None:
        """Move a file of the transaction's folder to `target` (under `base`) on commit."""
        self._puts[self._relative(staged)] = self._relative(target)

    def write(self, target: Path, text: str) -> None:
        """Stage a small text file for `target`."""
        staged = self.folder / f"text-{len(self._puts)}"
        staged.write_text(text)
        self.put(staged, target)

    def remove(self, target: Path) -> None:
        """Remove `target` on commit, unless the same commit puts it anew."""
        self._removals.append(self._relative(target))

    def commit(self) -> None:
        """Make everything durable, decide, and carry it out."""
        for staged in self._puts:
            fsync(self.base / staged)
        fsync(self.folder)
        removals = sorted(set(self._removals) - set(self._puts.values()))
        write_json(_record(self.folder), {"put": self._puts, "remove": removals})
        _carry_out(self.base, self.folder)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()


@contextmanager
def transaction(base: Path, name: str) -> Iterator[Transaction]:
    """Open a transaction alone; nothing is kept unless `commit` was called.

    Raises LoopError where another process writes here.
    """
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base, name), disk_errors(base / name):
        folder = _folder(base, name)
        _recover(base, folder)
        folder.mkdir()
        try:
            yield Transaction(base, folder)
        finally:
            if not _record(folder).exists():
                shutil.rmtree(folder, ignore_errors=True)


def settle(base: Path, name: str) -> None:
    """Finish a commit that was decided but not carried out. Readers call this first.

    A live writer is waited for: the time between decision and end is short.
    """
    folder = _folder(base, name)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _record(folder).exists():
        try:
            with _locked(base, name):
                if _record(folder).exists():
                    _carry_out(base, folder)
            return
        except LoopError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _folder(base: Path, name: str) -> Path:
    return base / f".{name}.txn"


def _record(folder: Path) -> Path:
    return folder / "commit.json"


@contextmanager
def _locked(base: Path, name: str) -> Iterator[None]:
    lock = FileLock(base / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LoopError(
            f"another process is writing to {base / name}: wait for it to end, or name another workspace"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _recover(base: Path, folder: Path) -> None:
    if _record(folder).exists():
        _carry_out(base, folder)
    shutil.rmtree(folder, ignore_errors=True)


def _carry_out(base: Path, folder: Path) -> None:
    """Do what the record says; doing it twice, or from the middle, comes to the same."""
    record = read_json(_record(folder))
    touched: set[Path] = set()
    for staged, target in record["put"].items():
        touched |= _make_parents(base, base / target)
        if (base / staged).exists():
            (base / staged).replace(base / target)
    for target in record["remove"]:
        (base / target).unlink(missing_ok=True)
        touched.add((base / target).parent)
    for parent in sorted(touched):
        if parent.is_dir():
            fsync(parent)
    _record(folder).unlink()
    fsync(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _make_parents(base: Path, target: Path) -> set[Path]:
    """Create the folders above `target`; return those up to `base`, whose names must become durable."""
    target.parent.mkdir(parents=True, exist_ok=True)
    below = target.relative_to(base).parents
    return {base / parent for parent in below}
