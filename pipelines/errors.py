"""Errors that a person can act on: each names what is wrong, where, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LoopError(Exception):
    """Any failure that the user can mend; the command line prints its message, without a traceback."""

    exit_code = 1


class UsageError(LoopError):
    """The command or the configuration names something that does not exist."""

    exit_code = 2


class DataError(LoopError):
    """The data cannot be used as it is."""

    exit_code = 3


class StrangerError(DataError):
    """A simulated world is asked for the truth about somebody or something that it did not make."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known word was probably meant, or list them all."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + (", ".join(known) or "none")
