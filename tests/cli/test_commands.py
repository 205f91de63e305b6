"""The command line as a person meets it: exit codes, words, JSON that holds nothing but JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_project import CASE, tiny_project

from pipelines.cli.live import per_second
from pipelines.errors import UsageError

LOOP = str(Path(sys.executable).parent / "loop")


def loop(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `loop` in a project, as a person would."""
    return subprocess.run([LOOP, *words], cwd=root, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_project(tmp_path_factory.mktemp("cli") / "project").root


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred people's ratings of sixty films, with tastes; two lines are wrong, one stands twice."""
    folder = tmp_path_factory.mktemp("ratings")
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,rating,timestamp"]
    for user in range(300):
        taste = rng.integers(0, 2)
        films = rng.choice(60, size=10, replace=False, p=_taste(taste))
        lines += [
            f"{user},{film:07d},{rng.integers(3, 11)},{1362000000 + rng.integers(0, 90 * 86400)}"
            for film in films
        ]
    lines += [lines[-1], "7,0000007,many,1362000000", ",0000008,5,1362000000"]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    films = [f'{film:07d},"Film {film} (2012)",{["Drama", "Comedy"][film % 2]}' for film in range(60)]
    (folder / "movies.csv").write_text("\n".join(["item_id,title,genres", *films]) + "\n")
    return folder


def _taste(side: int) -> np.ndarray:
    weights = np.where(np.arange(60) % 2 == side, 4.0, 1.0) / (1 + np.arange(60) / 20)
    return weights / weights.sum()


@pytest.mark.slow  # half a minute and more; `test_real_data_lives.py` takes the same road in process
def test_real_data_end_in_a_registered_version(project: Path, ratings: Path) -> None:
    done = loop(project, "run", CASE, "--source", "movietweetings", "--data", str(ratings), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = result["rows"]
    assert rows["read"] == rows["kept"] + rows["duplicate"] + rows["quarantined"] == 3063
    assert (rows["duplicate"], rows["quarantined"]) == (1, 2)
    assert [each["protocol"] for each in result["protocols"]] == ["time", "random"]
    for each in result["protocols"]:
        model = each["metrics"]["model"][each["primary"]]
        assert set(model) == {"value", "low", "high", "n"} and model["low"] <= model["value"] <= model["high"]
        assert set(each["metrics"]["heuristics"]) >= {"popularity", "item_knn"}
        assert each["metrics"]["oracle"] is None
    assert result["version"] == "1" and len(result["digest"]) == 64

    status = loop(project, "status", "--json")
    (entry,) = json.loads(status.stdout)
    assert entry["source"] == "movietweetings" and entry["metric"] == "ndcg_at_10"
    assert {**entry["rows"], "later": 0} == rows

    refused = loop(project, "quarantine", "list", CASE, "--source", "movietweetings", "--json")
    assert sum(each["rows"] for each in json.loads(refused.stdout)) >= 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["step", "ingest", "video_recomendation"], 2, "did you mean 'video_recommendation'"),
        (["step", "injest", CASE], 2, "did you mean 'ingest'"),
        (["step", "train", CASE, "--as-of", "2026-03-01T00:00:00"], 2, "names no time zone"),
        (["step", "train", CASE, "--as-of", "yesterday"], 2, "no ISO 8601 time"),
        (["run", CASE, "--source", "movietweeting", "--data", "."], 2, "did you mean 'movietweetings'"),
        (["run", CASE, "--source", "movietweetings", "--data", "nowhere"], 3, "nowhere"),
        (["clock", "advance", "2d"], 2, "loop up"),
        (["world", "advance", CASE, "--days", "1"], 2, "loop up"),
        (["timelapse", "video_recomendation", "--seed", "7"], 2, "did you mean 'video_recommendation'"),
        (["rollback", CASE], 1, "no previous champion"),
        (["reproduce", f"{CASE}@champion"], 2, "write models:/<name>@champion"),
        (["reproduce", f"models:/{CASE}@champion"], 2, f"no model '{CASE}' is registered"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_slip_is_named_with_its_remedy(project: Path, words: list[str], code: int, said: str) -> None:
    done = loop(project, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_unknown_parameter_names_the_nearest(tmp_path: Path) -> None:
    root = tiny_project(tmp_path / "project").root
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("learning_rate", "lerning_rate"))
    done = loop(root, "step", "train", CASE)
    assert done.returncode == 2 and "did you mean 'learning_rate'" in done.stderr


def test_outside_a_project_says_where_to_stand(tmp_path: Path) -> None:
    done = loop(tmp_path, "status")
    assert done.returncode == 2 and "params.yaml" in done.stderr


@pytest.mark.parametrize(("text", "rate"), [("20", 20.0), ("50/s", 50.0), ("0.5/s", 0.5)])
def test_a_rate_reads_as_people_write_it(text: str, rate: float) -> None:
    assert per_second(text) == rate


@pytest.mark.parametrize("text", ["fast", "50/min", "0", "-3", "nan", "1e9"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"20, or 20/s"):
        per_second(text)
