"""Where a source's files stand: a folder, or a base URL from which named files are fetched."""

from __future__ import annotations

import http.client
import logging
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from pipelines.case_study import Location
from pipelines.errors import DataError
from pipelines.stores.files import disk_errors, read_json, write_aside, write_json

_log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 3
_AGENT = {"User-Agent": "ml-loops"}


def open_location(text: str, cache: Path, timeout: float = _TIMEOUT_SECONDS) -> Location:
    """Open a folder, or an http(s) or file URL; fetched files are kept in `cache`.

    Raises DataError where the folder does not exist.
    """
    scheme = urllib.parse.urlsplit(text).scheme.lower()
    if scheme in ("http", "https"):
        return Remote(text, cache / sha256(text.encode()).hexdigest()[:16], timeout)
    if scheme == "file":
        text = urllib.request.url2pathname(urllib.parse.urlsplit(text).path)
    elif "://" in text:
        raise DataError(f"cannot fetch from '{text}': name a folder, or an http://, https:// or file:// URL")
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise DataError(f"there is no folder '{folder}': name the folder that holds the source's files")
    return Folder(folder)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while reading a file into an error that names it."""
    try:
        with disk_errors(path):
            yield
    except (pl.exceptions.PolarsError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{path} cannot be read: {reason}; check that it is the right file, and whole"
        ) from error


@dataclass(frozen=True)
class Folder:
    """Files in a folder of this machine."""

    folder: Path

    def fetch(self, name: str) -> Path:
        """Return the file's path."""
        path = self.folder / _checked(name)
        if not path.is_file():
            raise DataError(f"'{name}' is missing in {self.folder}{_files_of(self.folder)}")
        return path

    def has(self, name: str) -> bool:
        """Say whether the file exists."""
        return (self.folder / _checked(name)).is_file()


@dataclass(frozen=True)
class Remote:
    """Files under a base URL. A file is fetched whole or not at all, and asked for again if it changed."""

    url: str
    cache: Path
    timeout: float = _TIMEOUT_SECONDS

    def fetch(self, name: str) -> Path:
        """Fetch the file into the cache (or find there that it has not changed); return its path."""
        path = self.cache / _checked(name)
        notes = path.with_name(f".{path.name}.json")
        known = read_json(notes) if path.is_file() and notes.is_file() else {}
        asked = {header: known[key] for header, key in _CONDITIONS.items() if known.get(key)}
        try:
            with self._open(name, asked) as answer:
                self._save(name, answer, path)
                write_json(notes, {key: answer.headers.get(key) for key in _CONDITIONS.values()})
        except _NotModifiedError:
            _log.debug("%s has not changed", path)
        return path

    def has(self, name: str) -> bool:
        """Say whether the server has the file; an outage is an error, not an absence."""
        try:
            with self._open(name, {"Range": "bytes=0-0"}, method="GET"):
                return True
        except _AbsentError:
            return False

    def _save(self, name: str, answer: Any, path: Path) -> None:
        expected = answer.headers.get("Content-Length")
        with write_aside(path) as aside:
            try:
                with aside.open("wb") as stream:
                    shutil.copyfileobj(answer, stream, 1 << 20)
            except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
                raise DataError(
                    f"the transfer of {self._address(name)} broke off ({error}): run it again"
                ) from error
            if expected is not None and aside.stat().st_size != int(expected):
                raise DataError(
                    f"{self._address(name)} came incomplete: {aside.stat().st_size} of {expected} bytes;"
                    " run it again"
                )

    @contextmanager
    def _open(self, name: str, headers: dict[str, str], method: str = "GET") -> Iterator[Any]:
        address = self._address(name)
        for attempt in range(1, _ATTEMPTS + 1):
            request = urllib.request.Request(address, headers={**_AGENT, **headers}, method=method)
            try:
                answer = urllib.request.urlopen(request, timeout=self.timeout)
                break
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 304:
                    raise _NotModifiedError from None
                if error.code in (404, 410):
                    raise _AbsentError(
                        f"'{name}' is missing at {self.url} ({address}: {error.code})"
                    ) from None
                problem = f"the server answered {error.code} {error.reason}"
                final = error.code < 500 and error.code not in (408, 429)
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
                problem, final = self._outage(error), False
            if final or attempt == _ATTEMPTS:
                raise DataError(
                    f"cannot fetch '{name}' from {self.url}: {problem}; check the address and the network"
                )
            time.sleep(0.2 * 2**attempt)
        with answer:
            yield answer

    def _outage(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"no answer within {self.timeout:g} s"
        return str(reason) or type(error).__name__

    def _address(self, name: str) -> str:
        parts = urllib.parse.urlsplit(self.url)
        path = parts.path.rstrip("/") + "/" + urllib.parse.quote(_checked(name).as_posix())
        return urllib.parse.urlunsplit(parts._replace(path=path))


_CONDITIONS = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}


class _NotModifiedError(Exception):
    """The cached copy is current."""


class _AbsentError(DataError):
    """The server answers, and does not have the file."""


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"'{name}' is not the name of a file inside the location")
    return path


def _files_of(folder: Path, most: int = 12) -> str:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return ": the folder is empty"
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f": it holds {', '.join(names[:most])}{more}"
