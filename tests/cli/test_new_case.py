"""`loop new`: a new case is written whole or not at all, edits keep comments, and it works from the first minute."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipelines.errors import UsageError
from pipelines.flows.new_case import new_case

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
NAME = "churn_offers"
MODULES = (
    "case", "features", "heuristics", "label", "model", "params", "predictions", "protocols", "serving",
    "sources", "tables", "truth", "world",
)  # fmt: skip
WRITTEN = {
    *(f"pipelines/cases/{NAME}/{module}.py" for module in ("__init__", *MODULES)),
    f"pipelines/cases/{NAME}/README.md",
    f"feature_repo/{NAME}.py",
    f"configs/{NAME}.yaml",
    f"tests/cases/{NAME}/tiny.yaml",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `loop new` needs of a checkout: the files that it edits, and the folders that it writes to."""
    root = tmp_path / "checkout"
    for folder in ("pipelines/cases/ad_click", "feature_repo", "configs", "tests/cases"):
        (root / folder).mkdir(parents=True)
    for file in ("params.yaml", "dvc.yaml", "configs/embedded.yaml", "feature_repo/entities.py"):
        shutil.copy(ROOT / file, root / file)
    return root


def texts(root: Path) -> dict[str, str]:
    """Read every file of a checkout."""
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_exactly_the_files_told_are_written(checkout: Path) -> None:
    before = texts(checkout)
    told = {str(path.relative_to(checkout)) for path in new_case(checkout, NAME)}
    after = texts(checkout)
    assert after.keys() - before.keys() == WRITTEN
    assert {name for name in before if before[name] != after[name]} == {"params.yaml", "dvc.yaml"}
    assert told == {*WRITTEN, "params.yaml", "dvc.yaml"}
    for name in WRITTEN:
        assert "example_case" not in after[name] and "case_template" not in after[name], name
        assert not name.endswith(".py") or after[name].startswith('"""'), name


def test_edited_files_keep_their_comments(checkout: Path) -> None:
    before = texts(checkout)
    new_case(checkout, NAME)
    after = texts(checkout)
    assert after["params.yaml"].startswith(before["params.yaml"])
    sections = yaml.safe_load(after["params.yaml"])
    assert list(sections) == [*yaml.safe_load(before["params.yaml"]), NAME]
    assert set(sections[NAME]) == {"as_of", "seed", "window", "world", "train"}

    lines = [before["dvc.yaml"].splitlines(), after["dvc.yaml"].splitlines()]
    changed = [(one, other) for one, other in zip(*lines, strict=True) if one != other]
    assert len(changed) == 1 and changed[0][0] == changed[0][1].replace(f", {NAME}]", "]")
    cases = [yaml.safe_load(each["dvc.yaml"])["vars"][0]["cases"] for each in (before, after)]
    assert cases[1] == [*cases[0], NAME]


def test_dvc_finds_the_keys_that_it_asks_for(checkout: Path) -> None:
    """DVC stops at a key that a file does not hold, though the platform has a default for it."""
    new_case(checkout, NAME)
    section = yaml.safe_load((checkout / "params.yaml").read_text())[NAME]
    config = yaml.safe_load((checkout / "configs" / f"{NAME}.yaml").read_text())
    asked = 0
    for stage in yaml.safe_load((checkout / "dvc.yaml").read_text())["stages"].values():
        for entry in stage.get("params", ()):
            keys = next(iter(entry.values())) if isinstance(entry, dict) else [entry.partition("}.")[2]]
            for key in keys:
                found = config if isinstance(entry, dict) else section
                for part in key.split("."):
                    found = found[part]
                asked += 1
    assert asked > 10


@pytest.mark.parametrize("name", ["x1", "a_case_of_thirty_letters_whole"])
def test_what_is_written_is_formatted_whatever_the_name(checkout: Path, name: str) -> None:
    # Which imports are the project's own, and so how they are sorted, is told by the files that are there.
    code = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipelines", checkout / "pipelines", dirs_exist_ok=True, ignore=code)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    new_case(checkout, name)
    written = [f"pipelines/cases/{name}", f"feature_repo/{name}.py"]
    for words in (["check"], ["format", "--check"]):
        command = [BIN / "ruff", *words, "--no-cache", *written]
        done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ChurnOffers", "lower case"),
        ("churn-offers", "lower case"),
        ("1st_offer", "a letter first"),
        ("../offers", "lower case"),
        ("cases", "means something else in params.yaml"),
        ("yes", "means something else in params.yaml"),
        ("null", "means something else in params.yaml"),
        ("class", "cannot name a case"),
        ("a" * 31, "at most 30"),
        ("feast", "Python module"),
        ("ad_click", "exists already"),
        ("embedded", "exists already"),
        ("entities", "exists already"),
        ("video_recommendation", "has a section"),
    ],
)
def test_a_name_that_cannot_be_is_refused(checkout: Path, name: str, said: str) -> None:
    before = texts(checkout)
    with pytest.raises(UsageError, match=said):
        new_case(checkout, name)
    assert texts(checkout) == before


def test_a_second_time_overwrites_nothing(checkout: Path) -> None:
    new_case(checkout, NAME)
    (checkout / "pipelines" / "cases" / NAME / "model.py").write_text("# mine\n")
    before = texts(checkout)
    with pytest.raises(UsageError, match="exists already"):
        new_case(checkout, NAME)
    assert texts(checkout) == before


def test_a_list_of_cases_on_many_lines_is_not_guessed_at(checkout: Path) -> None:
    (checkout / "dvc.yaml").write_text("vars:\n  - cases:\n      - ad_click\nstages: {}\n")
    before = texts(checkout)
    with pytest.raises(UsageError, match="on one line"):
        new_case(checkout, NAME)
    assert texts(checkout) == before


def test_a_failure_on_the_way_leaves_nothing_behind(checkout: Path) -> None:
    """Where the last of the new files has no place, those before it are taken back."""
    shutil.rmtree(checkout / "tests")
    (checkout / "tests").write_text("no folder")
    before = texts(checkout)
    with pytest.raises(OSError, match="tests"):
        new_case(checkout, NAME)
    assert texts(checkout) == before
    assert not (checkout / "pipelines" / "cases" / NAME).exists()


def test_the_command_says_what_comes_next(checkout: Path) -> None:
    done = subprocess.run([BIN / "loop", "new", NAME], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in (
        *WRITTEN,
        "loop sync",
        f"pytest tests/contract -k {NAME}",
        "dvc repro",
        "tables.py comes first",
    ):
        assert said in done.stderr, said
    again = subprocess.run([BIN / "loop", "new", NAME], cwd=checkout, capture_output=True, text=True)
    assert again.returncode == 2 and "exists already" in again.stderr and "Traceback" not in again.stderr


class Copy:
    """A copy of this checkout, in which commands run as a person would run them there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)

    def run(self, *command: str | Path) -> str:
        """Run a command in the copy, on the copy's code; return what it wrote to stdout."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "LOOP"))}
        env = kept | {"PYTHONPATH": str(self.root)}
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def python(self, code: str, *words: str) -> str:
        return self.run(sys.executable, "-c", code, *words)

    def loop(self, *words: str) -> str:
        return self.python("from pipelines.cli import main; main()", *words)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A copy of the checkout with a new case in it."""
    made = Copy(tmp_path_factory.mktemp("copy"))
    made.loop("new", "demo_case")
    made.loop("sync")
    yield made
    shutil.rmtree(made.root)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_new_case_is_held_to_every_contract(copy: Copy) -> None:
    copy.loop("sync", "--check")
    copy.run(sys.executable, "-m", "pytest", "-q", "tests/contract", "-k", "demo_case")
    copy.run(
        sys.executable, "-m", "pytest", "-q", "tests/steps/test_plan.py", "tests/flows/test_deployments.py"
    )
    written = ["pipelines/cases/demo_case", "feature_repo/demo_case.py"]
    copy.run(BIN / "ruff", "check", *written)
    copy.run(BIN / "ruff", "format", "--check", *written)
    copy.run(BIN / "mypy")
    copy.run(BIN / "lint-imports")


EXPORT = """
from pathlib import Path
from pipelines import catalog
from pipelines.stores.lake import Lake
from pipelines.stores.workspace import Workspace

case, folder = catalog.case("demo_case"), Path("exported")
folder.mkdir()
lake = Lake(Workspace(Path("runs/demo_case")).lake, case.tables)
for table in case.tables:
    rows = lake.scan(table.name).collect()
    late = ["arrived_at"] if table.name == "requests" else []
    rows.drop(late).write_csv(folder / f"{table.name}.csv")
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_new_case_lives_and_reads_csv_files(copy: Copy) -> None:
    params = copy.root / "params.yaml"
    params.write_text(params.read_text().replace("users: 1500", "users: 300"))
    copy.loop("step", "ingest", "demo_case")
    copy.python(EXPORT)
    result = json.loads(copy.loop("run", "demo_case", "--source", "csv", "--data", "exported", "--json"))
    assert result["rows"]["kept"] == result["rows"]["read"] > 10_000
    (judged,) = result["protocols"]
    assert judged["metrics"]["model"]["normalized_entropy"]["value"] < 1
    lived = json.loads(copy.loop("timelapse", "demo_case", "--days", "1", "--json"))
    assert lived["case"] == "demo_case"
