"""Writes that are whole or absent: aside, fsync, rename. And the digests of what was written."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipelines.errors import LoopError

_STALE_SECONDS = 24 * 3600
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_WORDS = ("no space left", "disk quota exceeded", "max_temp_directory_size")


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success make it durable and rename it into place.

    A reader sees the old file or the new one, never a half. On failure nothing is left behind.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = _aside(path, "tmp")
        try:
            yield aside
            fsync(aside)
            aside.replace(path)
            fsync(path.parent)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it replaces `path` as a whole.

    Where the file system can exchange two names (Linux), there is no moment without `path`.
    Elsewhere a kill between two renames leaves the old folder aside: `recover_folder` puts it back.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover_folder(path)
        aside = _aside(path, "tmp")
        aside.mkdir()
        try:
            yield aside
            for file in aside.rglob("*"):
                fsync(file)
            fsync(aside)
            _replace_folder(aside, path)
            fsync(path.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Undo what a killed `write_folder_aside` left: put the old folder back, sweep what is stale."""
    if not path.parent.is_dir():
        return
    for old in sorted(path.parent.glob(f".{path.name}.*.old")):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(path)
    for aside in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            stale = time.time() - aside.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "disk full", however a library words it, into an error that says what to do."""
    try:
        yield
    except LoopError:
        raise
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        if not full and not any(words in str(error).lower() for words in _FULL_WORDS):
            raise
        raise LoopError(
            f"the disk that holds {path} is full: nothing half-written was kept and the last good state"
            " stands; free some space (or move the workspace to a larger disk) and run the same command again"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content is equal bytes."""
    with write_aside(path) as aside:
        aside.write_text(to_json(content))


def to_json(content: Any) -> str:
    """Render JSON as `write_json` writes it."""
    return json.dumps(content, indent=2, sort_keys=True, default=str) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


def file_digest(path: Path) -> str:
    """Hash a file's bytes (SHA-256, hex)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(path: Path, pattern: str = "**/*") -> str:
    """Hash the names and bytes of a folder's files, in the order of their names (SHA-256, hex)."""
    digest = hashlib.sha256()
    for file in sorted(path.glob(pattern)):
        if file.is_file():
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(path: Path, suffix: str) -> Path:
    return path.parent / f".{path.name}.{uuid4().hex}.{suffix}"


def _replace_folder(aside: Path, path: Path) -> None:
    """Put `aside` in the place of `path`; what stood there ends up at `aside`, or is removed."""
    if not path.exists():
        aside.rename(path)
    elif not _exchange(aside, path):
        old = _aside(path, "old")
        path.rename(old)
        aside.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (renameat2 with RENAME_EXCHANGE); False where that is not offered."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
