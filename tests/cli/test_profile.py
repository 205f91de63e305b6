"""`loop --profile`: one word before the command moves it to other stores."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_project import tiny_project

from pipelines import cli


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LOOP_PROFILE", "embedded")
    root = tiny_project(tmp_path / "project").root
    monkeypatch.chdir(root)
    return root


def loop(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `loop` in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["loop", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_an_unknown_profile_names_the_nearest(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loop(monkeypatch, "--profile", "embeded", "status") == 2
    assert "unknown profile 'embeded': did you mean 'embedded'?" in capsys.readouterr().err


def test_a_profile_reaches_the_command_and_what_it_starts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "configs" / "other.yaml").write_text("mlflow: {tracking_uri: 'sqlite:///registry/other.db'}")
    assert loop(monkeypatch, "--profile", "other", "status", "--json") == 0
    assert os.environ["LOOP_PROFILE"] == "other"
