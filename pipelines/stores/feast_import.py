"""Import Feast quickly and quietly: without typeguard's recompiled classes, with our warning filters kept."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


def import_feast() -> ModuleType:
    """Import Feast in a third of its time.

    Feast decorates its classes with `typeguard.typechecked`, which parses and recompiles each of them at
    every start: about 3 of 6 seconds. The declarations are checked all the same: `feast apply` does it,
    and so does mypy. Another second goes to torch, which Feast wants only to offer tensors: here it is told
    that there is none, unless it is there already. It also shows every DeprecationWarning once, which is undone here.
    """
    if "feast" not in sys.modules:
        import typeguard

        checking = typeguard.typechecked
        typeguard.typechecked = _leave_alone
        try:
            with warnings.catch_warnings(), _without("torch"):
                import feast  # noqa: F401
        finally:
            typeguard.typechecked = checking
    return sys.modules["feast"]


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let imports of a module fail for a while, where it has not been imported yet."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # what the import system reads as "not there"
    try:
        yield
    finally:
        del sys.modules[module]


def _leave_alone(target: Any = None, **_: Any) -> Any:
    """Stand in for the decorator, called with or without options."""
    return _leave_alone if target is None else target
