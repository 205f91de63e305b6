"""Davidson's file: votes, verdicts, and what is wrong with a row; and a whole run without times or authors."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from tiny_project import tiny_project

from pipelines.cases.harmful_content.case import CASE
from pipelines.cases.harmful_content.sources import DAVIDSON, PUBLISHED
from pipelines.errors import DataError
from pipelines.flows.real import run_source
from pipelines.steps.ingest import ingest
from pipelines.steps.quarantine import show_quarantine
from pipelines.stores.lake import Lake
from pipelines.stores.location import open_location
from pipelines.stores.workspace import Workspace

HEADER = ["", "count", "hate_speech", "offensive_language", "neither", "class", "tweet"]


def written(folder: Path, rows: list[list[object]], header: list[str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "labeled_data.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header or HEADER, *rows])
    return folder


def read(folder: Path, ws: Workspace) -> Lake:
    batches = DAVIDSON.read(open_location(str(folder), folder / "downloads"))
    ingest(CASE, ws, batches, source="davidson", as_of=PUBLISHED, observed=DAVIDSON.observed)
    return Lake(ws.lake, CASE.tables)


def test_votes_and_class_become_votes_and_a_verdict(tmp_path: Path, ws: Workspace) -> None:
    rows = [
        [0, 3, 1, 2, 0, 1, 'a "zomu", they\nsaid'],
        [25, 3, 0, 0, 3, 2, "all well"],
        [7, 2, 2, 0, 0, 0, "vupa é"],
    ]
    lake = read(written(tmp_path / "data", rows), ws)
    posts = lake.scan("requests").collect()
    assert dict(posts.select("request_id", "text").rows()) == {
        "t0": 'a "zomu", they\nsaid', "t25": "all well", "t7": "vupa é"
    }  # fmt: skip
    assert posts["request_time"].null_count() == posts["author_id"].null_count() == 3
    done = lake.scan("actions").collect()
    verdicts = done.filter(pl.col("action") == "verdict").select("impression_id", "harms")
    assert dict(verdicts.rows()) == {"t0": ["offensive"], "t25": [], "t7": ["hate"]}
    votes = done.filter(pl.col("action") == "vote").select("impression_id", pl.col("harms").list.join("+"))
    assert Counter(votes.rows()) == {
        ("t0", "hate"): 1, ("t0", "offensive"): 2, ("t25", ""): 3, ("t7", "hate"): 2
    }  # fmt: skip


@pytest.mark.parametrize("first", ["", "split"])
def test_posts_with_one_number_stay_apart_and_whole(tmp_path: Path, ws: Workspace, first: str) -> None:
    """Files put together count from 0 again; and what else stands first is no number of a post's."""
    cruel = [[number, 3, 3, 0, 0, 0, f"vupa {number}"] for number in range(20)]
    kind = [[number, 3, 0, 0, 3, 2, f"well {number}"] for number in range(20)]
    lake = read(written(tmp_path / "data", [*cruel, *kind], [first, *HEADER[1:]]), ws)
    posts = lake.scan("requests").collect()
    verdicts = lake.scan("actions").filter(pl.col("action") == "verdict").collect()
    told = posts.join(verdicts, left_on="request_id", right_on="impression_id")
    assert told.height == 40
    assert (told["text"].str.starts_with("vupa") == (told["harms"].list.len() == 1)).all()


def test_other_columns_do_not_matter_but_missing_ones_do(tmp_path: Path, ws: Workspace) -> None:
    header = ["hate_speech", "offensive_language", "neither", "class", "tweet", "extra"]
    lake = read(written(tmp_path / "a", [[0, 0, 3, 2, "well", "x"], [0, 3, 0, 1, "vupa", "y"]], header), ws)
    assert lake.scan("requests").collect()["request_id"].to_list() == ["t0", "t1"]
    with pytest.raises(DataError, match="no column 'tweet': its first line must name"):
        read(written(tmp_path / "b", [[0, 3, 0, 0, 3, 2, "well"]], [*HEADER[:-1], "text"]), ws)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match=r"labeled_data\.csv"):
        read(tmp_path / "c", ws)


def test_what_is_wrong_with_a_row_is_named(tmp_path: Path, ws: Workspace) -> None:
    sound = [[number, 3, 0, 3, 0, 1, f"vupa {number}"] for number in range(30)]
    wrong = [
        [90, 3, 0, 3, 0, 7, "vupa"],
        [91, 3, "x", 3, 0, 1, "vupa"],
        [92, 3, 0, 3, 0, "", "vupa"],
        [93, 3, 0, 3, 0, 1, ""],
    ]
    lake = read(written(tmp_path / "data", [*sound, *wrong]), ws)
    found = {(row["row"].get("action_id") or row["row"]["request_id"]): row for row in show_quarantine(ws)}
    assert set(found) == {"t90-verdict", "t91-hate_speech-0", "t92-verdict", "t93"}
    assert "class 7" in found["t90-verdict"]["problems"][0]["reason"]
    assert found["t90-verdict"]["row_number"] == 32
    assert "hate_speech x" in found["t91-hate_speech-0"]["problems"][0]["reason"]
    assert found["t93"]["problems"] == [{"field": "text", "reason": "is null"}]
    assert lake.rows("requests") == 33


def generated(rows: int, seed: int) -> list[list[object]]:
    """Write posts of invented words: some words are hateful or offensive, mostly."""
    rng = np.random.default_rng(seed)
    words = np.array([f"{a}{b}{c}o" for a in "bdfgk" for b in "aeiu" for c in "lmnrst"])
    cues = {0: words[:8], 1: words[8:24], 2: words[24:]}
    found: list[list[object]] = []
    for number in range(rows):
        kind = int(rng.choice(3, p=[0.1, 0.6, 0.3]))
        votes = np.bincount(rng.choice([kind, int(rng.integers(3))], 3, p=[0.85, 0.15]), minlength=3)
        text = [*rng.choice(words[24:], 8), *rng.choice(cues[kind], 2)]
        found.append(
            [number, 3, *votes.tolist(), int(votes.argmax()), " ".join(rng.permutation(text).tolist())]
        )
    return found


def test_a_run_without_times_or_authors(tmp_path: Path) -> None:
    data = written(tmp_path / "data", generated(1500, seed=2))
    project = tiny_project(tmp_path / "project", "harmful_content")
    section = yaml.safe_load((project.root / "params.yaml").read_text())
    section["harmful_content"]["train"]["text"] |= {"bits": 14, "words": [1, 2]}
    (project.root / "params.yaml").write_text(yaml.safe_dump(section))
    result = run_source(project, "harmful_content", "davidson", str(data), "all", None, lambda _: None)
    assert result["as_of"].startswith("2017-03-12")
    (judged,) = result["protocols"]
    model, rivals = judged["metrics"]["model"], judged["metrics"]["heuristics"]
    assert judged["metrics"]["oracle"] is None
    assert 100 < model["pr_auc_macro"]["n"] < 200
    assert model["pr_auc_macro"]["value"] > rivals["prior"]["pr_auc_macro"]["value"] + 0.3
    assert model["f1_macro"]["value"] > 0.7
    for name in ("f1_weighted", "f1_hate", "f1_offensive", "pr_auc_hate", "recall_at_p80_hate"):
        assert 0 < model[name]["value"] <= 1
    assert "pr_auc_spam" not in model and "appeals_upheld" not in model and "oracle_share" not in model
    assert rivals["reports"]["pr_auc_macro"] == rivals["prior"]["pr_auc_macro"]
