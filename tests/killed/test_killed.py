"""kill -9 at any write, fsync, rename or registry call: no half-written output is read, and a rerun mends the rest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SERVER = Path(__file__).with_name("kill_server.py")
KILLED = -9
WHOLE = ("ingest", "log", "replay", "train", "evaluate", "first promotion", "promotion")
KILLS = {
    "ingest": 16,
    "log": 12,
    "replay": 12,
    "features": 14,
    "train": 10,
    "evaluate": 10,
    "first promotion": 12,
    "promotion": 14,
}
"""A hundred in all."""


@dataclass
class Story:
    """A job's workspace before it, the kinds of its moments, what is seen before and after, and the end."""

    job: str
    root: Path
    before: Path
    moments: list[str]
    states: list[dict[str, Any]]
    end: dict[str, Any]


@dataclass
class Mill:
    """The fork server, and the stories it has told."""

    process: subprocess.Popen[str]
    home: Path
    known: dict[str, Story] = field(default_factory=dict)

    def ask(self, do: str, job: str, root: Path, moment: int = 0) -> tuple[int, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        request = {"do": do, "job": job, "root": str(root), "moment": moment}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["code"], answer["said"]

    def tell(self, do: str, job: str, root: Path) -> Any:
        """Ask for what must not fail."""
        code, said = self.ask(do, job, root)
        assert code == 0, f"{job}, {do}: {said}"
        return said

    def story(self, job: str) -> Story:
        """Run a job undisturbed, once. MLflow stores absolute paths, so every run is at the same place."""
        if job not in self.known:
            home = self.home / job.replace(" ", "_")
            root, before = home / "work", home / "before"
            root.mkdir(parents=True)
            self.tell("prepare", job, root)
            shutil.copytree(root, before)
            first = self.tell("see", job, root)
            moments = self.tell("run", job, root)
            last, end = self.tell("see", job, root), self.tell("end", job, root)
            assert first != last
            self.known[job] = Story(job, root, before, moments, [first, last], end)
        return self.known[job]

    def kill(self, story: Story, moment: int) -> bool:
        """Kill a job at a moment; check what is seen, and the end of a second run. True if it was decided."""
        where = f"{story.job} killed at moment {moment} ({story.moments[moment - 1]})"
        shutil.rmtree(story.root)
        shutil.copytree(story.before, story.root)
        code, said = self.ask("run", story.job, story.root, moment)
        assert code == KILLED, f"{where} went on: {said}"
        seen = self.tell("see", story.job, story.root)
        if story.job in WHOLE:
            assert seen in story.states, f"{where} is seen half done"
        else:
            known = [set(state.items()) for state in story.states]
            assert set(seen.items()) <= set.union(*known), f"{where} left a piece that is neither old nor new"
        self.tell("run", story.job, story.root)
        assert self.tell("end", story.job, story.root) == story.end, f"{where} was not mended by a second run"
        return bool(seen == story.states[-1])


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mill]:
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield Mill(process, tmp_path_factory.mktemp("killed"))
    finally:
        process.stdin.close()
        process.wait(30)


def chosen(moments: list[str], kills: int, rng: np.random.Generator) -> list[int]:
    """Choose moments (from 1) at random, each kind in turn; of registry calls four a turn. In order."""
    by_kind: dict[str, list[int]] = {}
    for place in rng.permutation(len(moments)):
        by_kind.setdefault(moments[place], []).append(int(place) + 1)
    turns = [
        (nth // (4 if kind == "registry" else 1), moment)
        for kind, found in by_kind.items()
        for nth, moment in enumerate(found)
    ]
    return sorted(moment for _, moment in sorted(turns, key=lambda each: each[0])[:kills])


@pytest.mark.parametrize("job", sorted(KILLS.keys() - {"first promotion"}))
def test_killed_at_one_moment(mill: Mill, job: str) -> None:
    story = mill.story(job)
    mill.kill(story, round(0.8 * len(story.moments)))


def test_the_record_of_a_commit_is_never_read_half_written(mill: Mill) -> None:
    """Die in the middle of writing the very file that decides: nothing has happened yet."""
    story = mill.story("ingest")
    last = max(moment for moment, kind in enumerate(story.moments, start=1) if kind == "torn")
    assert not mill.kill(story, last)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("job", sorted(KILLS))
def test_killed_at_a_hundred_moments(mill: Mill, job: str) -> None:
    """All jobs together; what is decided stays decided, so outcomes turn once."""
    seed = sorted(KILLS).index(job)
    story = mill.story(job)
    moments = chosen(story.moments, KILLS[job], np.random.default_rng(seed))
    kinds = Counter(story.moments[moment - 1] for moment in moments)
    print(f"{job}: seed {seed}, {len(moments)} of {len(story.moments)} moments {moments}, {dict(kinds)}")
    outcomes = [mill.kill(story, moment) for moment in moments]
    if job in WHOLE:
        assert outcomes == sorted(outcomes), "once decided, a commit stays decided"
        assert False in outcomes


def test_a_hundred_kills_are_asked_for() -> None:
    assert sum(KILLS.values()) == 100
