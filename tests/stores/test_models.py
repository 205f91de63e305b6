"""Model directories: what was saved is what is loaded, or nothing is."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import stub_case
from stub_case import CASE, Mixture

from pipelines.case_study import Card, Fitted
from pipelines.errors import LoopError
from pipelines.stores import models

RECORD = {"data": "d1", "as_of": "2026-03-01"}


def fitted(skill: float = 0.5) -> Fitted:
    card = Card(metrics={"loss": np.float64(0.5)}, curves={"loss": np.array([1.0, 0.5])}, notes=("a note",))
    return Fitted(Mixture(skill, 1), card, stub_case.readings(3))


def saved(folder: Path, skill: float = 0.5) -> Path:
    models.save_model(CASE, fitted(skill), folder, RECORD)
    return folder


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    assert models.load_model(CASE, folder) == Mixture(0.5, 1)
    assert models.load_by_manifest(folder) == Mixture(0.5, 1)
    assert models.read_card(folder).curves == {"loss": [1.0, 0.5]}
    assert models.read_record(folder) == RECORD
    assert models.read_examples(folder).height == 180


def test_the_digest_is_of_content_and_nothing_else(tmp_path: Path) -> None:
    one = models.save_model(CASE, fitted(), tmp_path / "one" / "model", RECORD)
    again = models.save_model(CASE, fitted(), tmp_path / "two" / "other", {**RECORD, "code": "edited"})
    other_model = models.save_model(CASE, fitted(0.6), tmp_path / "three", RECORD)
    other_data = models.save_model(CASE, fitted(), tmp_path / "four", {**RECORD, "data": "d2"})
    assert one == again
    assert len({one, other_model, other_data}) == 3


@pytest.mark.parametrize("name", ["model/mixture.json", "card.json", "record.json", "examples.parquet"])
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "model")
    with (folder / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(LoopError, match=f"{name} is not what its manifest says"):
        models.load_model(CASE, folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    (folder / "model" / "mixture.json").unlink()
    with pytest.raises(LoopError, match=r"model/mixture.json is missing"):
        models.load_model(CASE, folder)


def test_an_extra_file_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    (folder / "model" / "more.json").write_text("{}")
    with pytest.raises(LoopError, match=r"model/more.json is not in the manifest"):
        models.load_model(CASE, folder)


def test_a_manifest_that_lies_about_its_digest_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    text = (folder / "manifest.json").read_text()
    digest = models.read_manifest(folder)["digest"]
    (folder / "manifest.json").write_text(text.replace(digest, "0" * 64))
    with pytest.raises(LoopError, match="another digest"):
        models.load_model(CASE, folder)


def test_no_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LoopError, match="train one first"):
        models.load_model(CASE, tmp_path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["model.bin", "model.pkl"])
def test_pickles_are_refused_whatever_their_name(tmp_path: Path, protocol: int, name: str) -> None:
    class Pickled(Mixture):
        def save(self, folder: Path) -> None:
            (folder / name).write_bytes(pickle.dumps(Path("x"), protocol=protocol))

    with pytest.raises(LoopError, match=rf"{name} is a pickle"):
        models.save_model(
            CASE, Fitted(Pickled(0.5, 1), Card(), stub_case.readings(1)), tmp_path / "m", RECORD
        )
    assert not (tmp_path / "m").exists()


def test_torch_archives_are_refused_and_honest_formats_are_not(tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import save_file

    torch.save({"w": torch.ones(2)}, tmp_path / "weights.pt")
    assert models._is_pickle(tmp_path / "weights.pt")
    # A safetensors header may have any length, so also one whose first byte opens a pickle.
    for length in range(1, 400, 7):
        save_file({"w" * length: np.ones(3, dtype=np.float32)}, tmp_path / "w.safetensors")
        assert not models._is_pickle(tmp_path / "w.safetensors")
    for content in ("0.5", "1,2\n3,4", "[]", "{}", "tree\nversion=v4\n", ".", ""):
        (tmp_path / "text").write_text(content)
        assert not models._is_pickle(tmp_path / "text"), content
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "rows.parquet")
    assert not models._is_pickle(tmp_path / "rows.parquet")


def test_a_failed_save_leaves_the_last_good_model(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")

    class Fails(Mixture):
        def save(self, folder: Path) -> None:
            (folder / "half").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises((LoopError, OSError), match=r"(?i)no space|disk"):
        models.save_model(CASE, Fitted(Fails(0.5, 1), Card(), stub_case.readings(1)), folder, RECORD)
    assert models.load_model(CASE, folder) == Mixture(0.5, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
