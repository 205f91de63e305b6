"""Model directories: what a model is made of, hashed file by file, and loaded only when the hashes hold.

manifest.json      every file's SHA-256, the model's digest, how to load it
record.json        where it came from: moment, window, parameters, digests of data and code
card.json          figures, curves and notes of its training
examples.parquet   feature rows it learned from: the reference for drift, the example in the registry
model/             what the case's model wrote; no pickles
"""

from __future__ import annotations

import hashlib
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.case_study import Card, CaseStudy, Fitted, Model
from pipelines.errors import LoopError
from pipelines.stores.files import file_digest, read_json, write_folder_aside, write_json

MANIFEST = "manifest.json"
EXAMPLES = 20_000
_PICKLED = {".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"}


def save_model(
    case: CaseStudy, fitted: Fitted, folder: Path, record: Mapping[str, Any], *, seed: int = 0
) -> str:
    """Write a model directory, whole or not at all, and return the model's digest.

    The digest covers the model's files and the data's digest: not run ids, wall times or paths.
    Raise LoopError where the model wrote a pickle.
    """
    with write_folder_aside(folder) as aside:
        inner = aside / "model"
        inner.mkdir()
        fitted.model.save(inner)
        _refuse_pickles(aside)
        _sample(fitted.examples, seed).write_parquet(aside / "examples.parquet")
        write_json(aside / "card.json", _plain(vars(fitted.card)))
        write_json(aside / "record.json", dict(record))
        files = _hashes(aside)
        digest = _content_digest(files, record)
        loader = _loader(case)
        write_json(aside / MANIFEST, {"format": 1, "digest": digest, "loader": loader, "files": files})
    return digest


def load_model(case: CaseStudy, folder: Path) -> Model:
    """Load a model after checking every file of its directory; raise LoopError naming what is wrong."""
    check(folder)
    return case.load(folder / "model")


def load_by_manifest(folder: Path) -> Model:
    """Load a model by the function that its manifest names: for readers that know no case."""
    manifest = check(folder)
    loaded: Model = _resolve(manifest["loader"])(folder / "model")
    return loaded


def check(folder: Path) -> dict[str, Any]:
    """Compare a model directory with its manifest and return the manifest.

    Raise LoopError naming the first missing, changed or unknown file, and any pickle.
    """
    manifest = read_manifest(folder)
    expected, found = manifest["files"], _hashes(folder)
    remedy = "train it again, or fetch it from the registry again"
    for name in sorted(expected):
        if name not in found:
            raise LoopError(f"{folder}: {name} is missing: {remedy}")
        if found[name] != expected[name]:
            raise LoopError(f"{folder}: {name} is not what its manifest says (SHA-256 differs): {remedy}")
    for name in sorted(found):
        if name not in expected:
            raise LoopError(f"{folder}: {name} is not in the manifest: {remedy}")
    _refuse_pickles(folder)
    if manifest["digest"] != _content_digest(expected, read_json(folder / "record.json")):
        raise LoopError(f"{folder}: {MANIFEST} names another digest than its files have: {remedy}")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a model directory's manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        raise LoopError(f"{folder} holds no model ({MANIFEST} is missing): train one first")
    manifest: dict[str, Any] = read_json(path)
    return manifest


def read_record(folder: Path) -> dict[str, Any]:
    """Read where a model came from."""
    read_manifest(folder)
    record: dict[str, Any] = read_json(folder / "record.json")
    return record


def read_card(folder: Path) -> Card:
    """Read the figures, curves and notes of a model's training."""
    read_manifest(folder)
    return Card(**read_json(folder / "card.json"))


def read_examples(folder: Path) -> pl.DataFrame:
    """Read the feature rows that a model learned from, or a fair sample of them."""
    read_manifest(folder)
    return pl.read_parquet(folder / "examples.parquet")


def _loader(case: CaseStudy) -> str:
    name = f"{case.load.__module__}:{getattr(case.load, '__qualname__', '')}"
    try:
        _resolve(name)
    except (ImportError, AttributeError):
        raise LoopError(f"{case.name}: `load` must be a function of a module, not {case.load!r}") from None
    return name


def _resolve(name: str) -> Any:
    module, _, path = name.partition(":")
    return reduce(getattr, path.split("."), import_module(module))


def _sample(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    return rows if rows.height <= EXAMPLES else rows.sample(EXAMPLES, seed=seed)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def _content_digest(files: Mapping[str, str], record: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(str(record.get("data", "")).encode())
    for name in sorted(files):
        if name.startswith("model/"):
            digest.update(f"\n{name}\0{files[name]}".encode())
    return digest.hexdigest()


def _refuse_pickles(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _is_pickle(path):
            raise LoopError(
                f"{path} is a pickle, which runs code when it is loaded: save LightGBM text, safetensors, "
                "ONNX, Parquet or JSON instead"
            )


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLED:
        return True
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(Path(name).suffix.lower() in _PICKLED for name in archive.namelist())
    opcodes = []
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bytes that are no pickle make odd escape sequences
        try:
            opcodes = [opcode.name for opcode, _, _ in pickletools.genops(stream)]
        except Exception:  # genops raises whatever the bytes make it raise: not a pickle
            return False
    # Text such as "0.5" reads as opcodes too; only these can start a modern pickle or call anything.
    return opcodes[0] == "PROTO" or not {"GLOBAL", "INST", "STACK_GLOBAL"}.isdisjoint(opcodes)


def _plain(content: Any) -> Any:
    """Turn NumPy scalars and arrays into what JSON knows."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return content.tolist() if hasattr(content, "tolist") else content
