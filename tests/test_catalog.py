"""A case is found by its folder; what its files leave out is said in words, what they do wrong is theirs to tell."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pipelines.cases
from pipelines import catalog
from pipelines.errors import UsageError

Write = Callable[..., None]
CASE = "from dataclasses import replace\nfrom tiny import tiny_case\nCASE = replace(tiny_case(), name='{}')\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write the files of a case into a catalogue of its own; nothing of it outlives the test."""
    monkeypatch.setattr(catalog, "_CASES", tmp_path)
    monkeypatch.setattr(pipelines.cases, "__path__", [str(tmp_path)])
    for loader in (catalog.case, catalog.world):
        loader.cache_clear()

    def write(name: str, **files: str) -> None:
        (tmp_path / name).mkdir()
        for module, text in files.items():
            (tmp_path / name / f"{module}.py").write_text(text)
        importlib.invalidate_caches()

    yield write
    for loader in (catalog.case, catalog.world):
        loader.cache_clear()
    for module in [each for each in sys.modules if each.startswith("pipelines.cases.made_")]:
        del sys.modules[module]


def test_a_case_is_found_by_its_folder_with_or_without_a_world(write: Write) -> None:
    write("made_alone", case=CASE.format("made_alone"))
    write("made_whole", case=CASE.format("made_whole"), world="WORLD = None")
    assert catalog.names() == ["made_alone", "made_whole"]
    assert catalog.case("made_alone").name == "made_alone"
    assert [catalog.has_world(name) for name in ("made_alone", "made_whole", "elsewhere")] == [
        False,
        True,
        False,
    ]
    with pytest.raises(UsageError, match="did you mean 'made_alone'"):
        catalog.world("made_alon")


def test_a_copied_case_that_kept_its_name_is_refused(write: Write) -> None:
    """Two systems would write to one workspace, and their models to one name."""
    write("made_copy", case=CASE.format("ad_click"))
    with pytest.raises(UsageError, match=r"made_copy/case\.py names its CASE 'ad_click'.* 'made_copy'"):
        catalog.case("made_copy")


@pytest.mark.parametrize("text", ["", "CASE = 'made_empty'"])
def test_a_file_without_a_case_says_what_it_must_export(write: Write, text: str) -> None:
    write("made_empty", case=text)
    with pytest.raises(UsageError, match=r"made_empty/case\.py must export `CASE`, a CaseStudy"):
        catalog.case("made_empty")


def test_a_world_that_is_not_there_is_told_from_one_that_exports_nothing(write: Write) -> None:
    write("made_worldless", case=CASE.format("made_worldless"))
    write("made_void", case=CASE.format("made_void"), world="World = None")
    with pytest.raises(UsageError, match=r"made_worldless/world\.py does not exist: write it"):
        catalog.world("made_worldless")
    with pytest.raises(UsageError, match=r"made_void/world\.py must export `WORLD`, a World"):
        catalog.world("made_void")


def test_what_a_case_itself_cannot_import_is_named(write: Write) -> None:
    write("made_broken", case="import no_such_library")
    write(
        "made_typo", case=CASE.format("made_typo"), world="from pipelines.cases.made_typo.truht import WORLD"
    )
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        catalog.case("made_broken")
    with pytest.raises(ModuleNotFoundError, match="truht"):
        catalog.world("made_typo")
