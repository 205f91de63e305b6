"""Locations: named files from a folder or a base URL, whole or not at all, with errors that name them."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import DataError
from pipelines.stores import location
from pipelines.stores.location import open_location, reading


@dataclass
class Site:
    """A web site in memory: its files, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    cut: bool = False
    delay: float = 0.0
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(location.time, "sleep", lambda seconds: None)
    content = Site({"/data/set/ratings.csv": b"user,item\n1,2\n", "/data/set/my file.txt": b"spaced"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.replace("%20", " ").partition("?")[0]
            threading.Event().wait(content.delay)
            found = content.files.get(path)
            tag = f'"{hash(found)}"'
            code = content.failures.pop(0) if content.failures else 200 if found is not None else 404
            if code == 200 and self.headers.get("If-None-Match") == tag:
                code = 304
            content.asked.append((self.command, path, code))
            self.send_response(code)
            if code == 200 and found is not None:
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(found)))
            self.end_headers()
            if code == 200 and found is not None:
                self.wfile.write(found[:3] if content.cut else found)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hung up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    content.url = f"http://127.0.0.1:{server.server_port}/data/set"
    yield content
    server.shutdown()
    server.server_close()


def test_a_folder_gives_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    for text in (str(tmp_path), tmp_path.as_uri(), str(tmp_path) + "/"):
        place = open_location(text, tmp_path / "cache")
        assert place.fetch("a.csv").read_text() == "x"
        assert (place.has("a.csv"), place.has("b.csv")) == (True, False)
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_names_itself_the_folder_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "movie.csv").write_text("x")
    with pytest.raises(DataError, match=rf"'ratings.csv' is missing in {tmp_path}: it holds movie.csv"):
        open_location(str(tmp_path), tmp_path).fetch("ratings.csv")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder '.*/nowhere'"):
        open_location(str(tmp_path / "nowhere"), tmp_path)


@pytest.mark.parametrize("text", ["ftp://host/x", "s3://bucket/x"])
def test_other_schemes_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="http://, https:// or file://"):
        open_location(text, tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", ""])
def test_names_stay_inside(tmp_path: Path, site: Site, name: str) -> None:
    for text in (str(tmp_path), site.url):
        with pytest.raises(DataError, match="not the name of a file inside"):
            open_location(text, tmp_path).fetch(name)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_url_gives_named_files_only(tmp_path: Path, site: Site, slash: str) -> None:
    place = open_location(site.url + slash, tmp_path)
    assert place.fetch("ratings.csv").read_bytes() == b"user,item\n1,2\n"
    assert place.fetch("my file.txt").read_bytes() == b"spaced"
    assert {path for _, path, _ in site.asked} == set(site.files)


def test_a_query_stays_with_the_url(tmp_path: Path, site: Site) -> None:
    assert open_location(site.url + "?token=1", tmp_path).fetch("ratings.csv").is_file()


def test_what_did_not_change_is_not_fetched_again(tmp_path: Path, site: Site) -> None:
    for _ in range(2):
        open_location(site.url, tmp_path).fetch("ratings.csv")
    assert [code for _, _, code in site.asked] == [200, 304]
    site.files["/data/set/ratings.csv"] = b"new"
    assert open_location(site.url, tmp_path).fetch("ratings.csv").read_bytes() == b"new"


def test_a_404_names_the_file_and_the_url(tmp_path: Path, site: Site) -> None:
    with pytest.raises(DataError, match=rf"'users.csv' is missing at {site.url} .*404"):
        open_location(site.url, tmp_path).fetch("users.csv")
    assert open_location(site.url, tmp_path).has("ratings.csv")
    assert not open_location(site.url, tmp_path).has("users.csv")


def test_a_passing_failure_is_tried_again(tmp_path: Path, site: Site) -> None:
    site.failures = [503, 500]
    assert open_location(site.url, tmp_path).fetch("ratings.csv").is_file()


@pytest.mark.parametrize(("code", "times"), [(503, 3), (403, 1)])
def test_a_lasting_failure_is_told_and_no_absence(tmp_path: Path, site: Site, code: int, times: int) -> None:
    site.failures = [code] * 9
    with pytest.raises(DataError, match=rf"cannot fetch 'ratings.csv' from .*{code}"):
        open_location(site.url, tmp_path).has("ratings.csv")
    assert len(site.asked) == times


def test_a_transfer_that_breaks_off_leaves_nothing(tmp_path: Path, site: Site) -> None:
    site.cut = True
    with pytest.raises(DataError, match=r"ratings.csv came incomplete: 3 of 14 bytes"):
        open_location(site.url, tmp_path).fetch("ratings.csv")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_slow_server_times_out(tmp_path: Path, site: Site) -> None:
    site.delay = 0.5
    started = time.monotonic()
    with pytest.raises(DataError, match=r"no answer within 0\.1 s"):
        open_location(site.url, tmp_path, timeout=0.1).fetch("ratings.csv")
    assert time.monotonic() - started < 5


def test_a_dead_server_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location.time, "sleep", lambda seconds: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(DataError, match=r"cannot fetch 'a.csv' from .*refused.*check the address"):
        open_location(url, tmp_path).fetch("a.csv")


def test_reading_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with (
        pytest.raises(DataError, match=r"a\.csv\.gz cannot be read"),
        reading(path),
        gzip.open(path) as stream,
    ):
        stream.read()
    with pytest.raises(DataError, match=r"b\.parquet cannot be read"), reading(tmp_path / "b.parquet"):
        (tmp_path / "b.parquet").write_bytes(b"nonsense")
        pl.read_parquet(tmp_path / "b.parquet")
