"""The digest of the code that makes a model: its case, and the platform's rooms that influence it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.case_study import CaseStudy
from pipelines.stores.files import file_digest

_PACKAGE = Path(__file__).parent.parent
_INFLUENCE = (
    "case_study.py",
    "learning/*.py",
    "stores/asof_store.py",
    "stores/content.py",
    "stores/dataset.py",
    "stores/declarations.py",
    "stores/engine.py",
    "stores/feature_store.py",
    "stores/fold.py",
    "stores/frames.py",
    "stores/lake.py",
    "stores/models.py",
    "stores/rowcheck.py",
    "stores/schemas.py",
    "stores/sql.py",
    "steps/features.py",
    "steps/hold_out.py",
    "steps/ingest.py",
    "steps/partials.py",
    "steps/split.py",
    "steps/train.py",
)
_LIBRARIES = ("duckdb", "feast", "ibis-framework", "lightgbm", "numpy", "polars", "pyarrow", "torch")


def code_digest(case: CaseStudy) -> str:
    """Hash the code files that influence a case's models, by name and bytes (SHA-256, hex)."""
    digest = hashlib.sha256()
    for name, file in code_files(case).items():
        digest.update(f"{name}\0{file}\n".encode())
    return digest.hexdigest()


def code_files(case: CaseStudy) -> dict[str, str]:
    """Return {name: SHA-256} of the code files that influence a case's models, by name.

    The simulated world is left out: what it made is in the data's digest.
    """
    return {name: file_digest(path) for name, path in sorted(_files(case))}


def git_commit() -> str | None:
    """Name the checked-out commit, where there is one; edits since are in the code's digest alone."""
    command = ["git", "-C", str(_PACKAGE.parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def library_versions() -> dict[str, str]:
    """Tell the versions of the libraries that models are made with."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _files(case: CaseStudy) -> Iterator[tuple[str, Path]]:
    for pattern in _INFLUENCE:
        for path in _PACKAGE.glob(pattern):
            yield f"pipelines/{path.relative_to(_PACKAGE).as_posix()}", path
    for path in _case_files(case):
        inside = path.is_relative_to(_PACKAGE)
        yield f"pipelines/{path.relative_to(_PACKAGE).as_posix()}" if inside else f"case/{path.name}", path
    for path in (_PACKAGE.parent / "feature_repo").glob("*"):
        if path.suffix in {".py", ".yaml"} and (path.stem == case.name or not _is_a_case(path.stem)):
            yield f"feature_repo/{path.name}", path


def _case_files(case: CaseStudy) -> list[Path]:
    """List the case's own files: its folder where it has one, else the file that `load` stands in."""
    module = sys.modules[case.load.__module__].__file__
    if module is None:
        return []
    folder = Path(module).parent
    if not (folder / "case.py").is_file():
        return [Path(module)]
    return [path for path in folder.glob("**/*.py") if path.name != "world.py"]


def _is_a_case(name: str) -> bool:
    return (_PACKAGE / "cases" / name / "case.py").is_file()
