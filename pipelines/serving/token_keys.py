"""The keys that sign tokens: from the environment, or from a file that nobody else may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.stores.files import disk_errors, fsync

VARIABLE = "LOOP_TOKEN_KEY"
_KEY_BYTES = 32
_HOW = (
    "write each as 64 hexadecimal digits or more (openssl rand -hex 32); the first signs, and older ones behind"
    " it still verify"
)


def read_keys(path: Path) -> list[bytes]:
    """Read the keys of LOOP_TOKEN_KEY (separated by commas), or of the file (one a line, made if absent).

    Raises UsageError for a key that is too short or not hexadecimal, and for a file that others can read.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return _parse(named.split(","), VARIABLE)
    if not path.exists():
        _make(path)
    with path.open() as stream:
        mode = os.fstat(stream.fileno()).st_mode & 0o777
        if mode & 0o077:
            raise UsageError(
                f"{path} can be read or written by others (mode {mode:03o}), who could forge tokens:"
                f" put a new key into it, then run `chmod 600 {path}`"
            )
        return _parse(stream.read().splitlines(), str(path))


def _parse(words: list[str], where: str) -> list[bytes]:
    keys = []
    for word in filter(None, map(str.strip, words)):
        try:
            key = bytes.fromhex(word)
        except ValueError:
            key = b""
        if len(key) < _KEY_BYTES:
            raise UsageError(f"{where} holds a key that is too short or not hexadecimal: {_HOW}")
        keys.append(key)
    if not keys:
        raise UsageError(f"{where} holds no key: {_HOW}")
    return keys


def _make(path: Path) -> None:
    """Write a new key, private from its first byte; of two processes that start at once, one's key stands."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
        try:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
            fsync(aside)
            try:
                os.link(aside, path)  # unlike a rename, it fails where a key stands already
            except FileExistsError:
                return
            fsync(path.parent)
        finally:
            aside.unlink(missing_ok=True)
