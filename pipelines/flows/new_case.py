"""The files of a new case study: copies of `pipelines/case_template/`, the case's name in place of its own.

What stands in the template's folder `checkout/` goes to the same path of the checkout, all else to the case's folder;
`checkout/params.yaml` is a section, which is added to the checkout's. Comments of edited files stay.
"""

from __future__ import annotations

import keyword
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import yaml

from pipelines.errors import UsageError
from pipelines.settings import read_yaml
from pipelines.stores.files import write_aside

TEMPLATE = Path(__file__).parents[1] / "case_template"
_PACKAGE, _NAME = "pipelines.case_template", "example_case"
_LONGEST = 30
_CASES = re.compile(r"^(?P<head> *- cases: *\[)(?P<names>[^\]\n]*)\]", flags=re.MULTILINE)


def new_case(root: Path, name: str) -> list[Path]:
    """Write a case of that name into the checkout `root`, all of it or nothing; return what was written or edited.

    Raise UsageError where the name cannot be a case's, or anything of that name is there.
    """
    _check_name(name)
    files = _files(root, name)
    for path in (root / "pipelines" / "cases" / name, *files):
        if path.exists():
            raise UsageError(
                f"{path} exists already: choose another name, or remove what is left of that case"
            )
    edited = {
        root / "params.yaml": _with_section(root / "params.yaml", name),
        root / "dvc.yaml": _with_name(root / "dvc.yaml", name),
    }
    with _undone_on_failure(root, name, files, edited):
        for path, text in (files | edited).items():
            with write_aside(path) as aside:
                aside.write_text(text)
    return [*files, *edited]


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or len(name) > _LONGEST:
        raise UsageError(
            f"'{name}' cannot name a case: it becomes a Python package, so write lower case letters, digits and "
            f"underscores, a letter first, at most {_LONGEST} of them, as in churn_offers"
        )
    # A section of params.yaml is named by it, beside `cases:`, by what YAML takes for a text.
    if name == "cases" or yaml.safe_load(name) != name:
        raise UsageError(f"'{name}' means something else in params.yaml: choose another, such as {name}_case")
    # feature_repo/ comes first on the path where its files are read: one named `json` would hide the real one.
    if find_spec(name) is not None:
        raise UsageError(f"'{name}' is the name of a Python module: choose another, such as {name}_case")


def _files(root: Path, name: str) -> dict[Path, str]:
    """Lay out the new files: where each goes, and its text."""
    if not (root / "pipelines" / "cases").is_dir():
        raise UsageError(f"{root} has no pipelines/cases: run this in the checkout that the cases stand in")
    found = {}
    for path in TEMPLATE.rglob("*"):
        inside = path.relative_to(TEMPLATE)
        if path.suffix not in {".py", ".md", ".yaml"} or inside == Path("checkout/params.yaml"):
            continue
        own = inside.parts[0] != "checkout"
        place = Path("pipelines", "cases", _NAME, inside) if own else inside.relative_to("checkout")
        found[root / str(place).replace(_NAME, name)] = _renamed(path.read_text(), name)
    return dict(sorted(found.items()))


def _renamed(text: str, name: str) -> str:
    return text.replace(_PACKAGE, f"pipelines.cases.{name}").replace(_NAME, name)


def _with_section(path: Path, name: str) -> str:
    """Return params.yaml with the case's section after all others."""
    if name in read_yaml(path):
        raise UsageError(f"{path} has a section '{name}' already: choose another name, or remove the section")
    section = _renamed((TEMPLATE / "checkout" / "params.yaml").read_text(), name)
    return f"{path.read_text().rstrip()}\n\n{section}"


def _with_name(path: Path, name: str) -> str:
    """Return dvc.yaml with the case at the end of its list of cases."""
    read_yaml(path)
    text = path.read_text()
    line = _CASES.search(text)
    if line is None:
        raise UsageError(
            f"{path} has no line `- cases: [...]` under `vars`: write the list of cases on one line"
        )
    names: list[str] = yaml.safe_load(f"[{line['names']}]")
    if name in names:
        raise UsageError(f"{path} names '{name}' already: choose another name, or take it off the list")
    return f"{text[: line.start()]}{line['head']}{', '.join([*names, name])}]{text[line.end() :]}"


@contextmanager
def _undone_on_failure(
    root: Path, name: str, files: Mapping[Path, str], edited: Mapping[Path, str]
) -> Iterator[None]:
    """Take back what was written where not all could be."""
    before = {path: path.read_text() for path in edited}
    try:
        yield
    except BaseException:
        for path in files:
            with suppress(OSError):
                path.unlink()
        for folder in (root / "pipelines" / "cases" / name, root / "tests" / "cases" / name):
            shutil.rmtree(folder, ignore_errors=True)
        for path, text in before.items():
            path.write_text(text)
        raise
