"""Feast is imported without its run-time type checks, and without touching our warning filters."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import sys, warnings, typeguard
checking, filters = typeguard.typechecked, list(warnings.filters)
from pipelines.stores.feast_import import import_feast
feast = import_feast()
assert typeguard.typechecked is checking, "typeguard was not put back"
assert warnings.filters == filters, "the warning filters were changed"
assert "torch" not in sys.modules, "torch was imported, or is barred for good"
import torch
feast.Entity(name=1)  # a checked class would refuse the number as a name
"""


def test_feast_is_left_unchecked_and_the_rest_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
