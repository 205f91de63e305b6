"""A transaction is decided by one rename; a break before it leaves nothing, one after it is made good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import LoopError
from pipelines.stores import transaction as module
from pipelines.stores.transaction import Transaction, settle, transaction


class PowerCutError(BaseException):
    """The process ends here."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base with one file that the transaction of these tests removes."""
    (tmp_path / "old").write_text("old")
    return tmp_path


def fill(opened: Transaction) -> None:
    for name in ("a/one", "b/c/two", "three"):
        opened.write(opened.base / name, name)
    opened.remove(opened.base / "old")


def files(base: Path) -> dict[str, str]:
    found = (path for path in base.rglob("*") if path.is_file() and ".lake" not in str(path))
    return {path.relative_to(base).as_posix(): path.read_text() for path in found}


DONE = {name: name for name in ("a/one", "b/c/two", "three")}


def cut_after(monkeypatch: pytest.MonkeyPatch, calls: int, owner: Any, name: str) -> None:
    """Let a function work so many times, then cut the power."""
    real, left = getattr(owner, name), [calls]

    def function(*args: Any, **kwargs: Any) -> Any:
        if left[0] == 0:
            raise PowerCutError
        left[0] -= 1
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, function)


def next_writer(base: Path) -> None:
    with transaction(base, "lake"):
        pass


def next_reader(base: Path) -> None:
    settle(base, "lake")


def test_commit_puts_and_removes(base: Path) -> None:
    with transaction(base, "lake") as opened:
        fill(opened)
        assert files(base) == {"old": "old"}
        opened.commit()
        assert files(base) == DONE
    assert not (base / ".lake.txn").exists()


def test_without_commit_nothing_happened(base: Path) -> None:
    with transaction(base, "lake") as opened:
        fill(opened)
    assert files(base) == {"old": "old"}
    assert not (base / ".lake.txn").exists()


def test_what_is_put_anew_is_not_removed(base: Path) -> None:
    with transaction(base, "lake") as opened:
        opened.write(base / "old", "new")
        opened.remove(base / "old")
        opened.commit()
    assert files(base) == {"old": "new"}


@pytest.mark.parametrize("mend", [next_writer, next_reader])
@pytest.mark.parametrize("moves", [1, 2, 3])
def test_a_decided_commit_is_carried_out_by_whoever_comes_next(
    base: Path, monkeypatch: pytest.MonkeyPatch, moves: int, mend: Callable[[Path], None]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(PowerCutError), transaction(base, "lake") as opened:
        fill(opened)
        cut_after(patch, moves, Path, "replace")  # the first is the decision
        opened.commit()
    assert len(files(base)) == moves
    mend(base)
    assert files(base) == DONE
    assert not (base / ".lake.txn").exists()


def test_before_the_decision_nothing_is_carried_out(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(PowerCutError), transaction(base, "lake") as opened:
        fill(opened)
        cut_after(patch, 0, Path, "replace")
        opened.commit()
    next_reader(base)
    assert files(base) == {"old": "old"}


def test_files_are_durable_before_the_decision(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    real = module.fsync
    monkeypatch.setattr(module, "fsync", lambda path: (synced.append(path), real(path)))
    with transaction(base, "lake") as opened:
        fill(opened)
        real_write = module.write_json

        def decide(path: Path, content: Any) -> None:
            assert {base / staged for staged in content["put"]} <= set(synced)
            real_write(path, content)

        monkeypatch.setattr(module, "write_json", decide)
        opened.commit()
    assert {base / "a", base / "b", base / "b" / "c", base} <= set(synced)


def test_a_second_writer_is_refused(base: Path) -> None:
    with (
        transaction(base, "lake"),
        pytest.raises(LoopError, match="another process is writing"),
        transaction(base, "lake"),
    ):
        pass
