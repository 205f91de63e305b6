"""Files and folders are written whole or not at all."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from pipelines.errors import LoopError, UsageError
from pipelines.stores import files
from pipelines.stores.files import (
    disk_errors,
    folder_digest,
    read_json,
    recover_folder,
    write_aside,
    write_folder_aside,
    write_json,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    with write_aside(path) as aside:
        aside.write_text("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), write_aside(path) as aside:
        aside.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    assert names(path.parent) == {"file"}


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    return bool(request.param)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, exchange: bool) -> None:
    path = tmp_path / "model"
    for number in (1, 2):
        with write_folder_aside(path) as aside:
            (aside / f"part{number}").write_text("x")
    with pytest.raises(ZeroDivisionError), write_folder_aside(path) as aside:
        (aside / "part3").write_text("x")
        raise ZeroDivisionError
    assert names(path) == {"part2"}
    assert names(tmp_path) == {"model"}


def test_exchange_works_here(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange names")
    assert names(tmp_path / "a") == {"b"}


def test_a_kill_between_two_renames_is_mended(tmp_path: Path) -> None:
    old = tmp_path / ".model.abc.old"
    old.mkdir()
    (old / "part").write_text("old")
    recover_folder(tmp_path / "model")
    assert (tmp_path / "model" / "part").read_text() == "old"
    assert names(tmp_path) == {"model"}


def test_stale_leftovers_are_swept_and_fresh_ones_left_alone(tmp_path: Path) -> None:
    stale, fresh = tmp_path / ".model.a.tmp", tmp_path / ".model.b.tmp"
    stale.mkdir()
    fresh.mkdir()
    os.utime(stale, (time.time() - 90_000,) * 2)
    recover_folder(tmp_path / "model")
    assert names(tmp_path) == {fresh.name}


def test_json_is_the_same_bytes_whatever_the_order_of_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, 2]})
    first = (tmp_path / "a.json").read_bytes()
    write_json(tmp_path / "a.json", {"a": [1, 2], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == first
    assert read_json(tmp_path / "a.json") == {"a": [1, 2], "b": 1}


def test_folder_digest_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    digests = {folder_digest(tmp_path)}
    (tmp_path / "a").write_text("2")
    digests.add(folder_digest(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    digests.add(folder_digest(tmp_path))
    assert len(digests) == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("IO Error: could not write: No space left on device"),
    ],
)
def test_a_full_disk_says_what_to_do(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(LoopError, match=r"is full: .*free some space"), disk_errors(tmp_path):
        raise error


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), UsageError("no space left"), ValueError("x")])
def test_other_errors_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error
