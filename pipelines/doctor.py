"""Check the machine before anything is installed. Standard library only: `python3 pipelines/doctor.py`."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

GIGABYTES = 6


def python() -> str | None:
    """Ask for Python 3.11 or newer, with venv."""
    if sys.version_info < (3, 11):  # noqa: UP036  this file runs before anything is installed
        return (
            f"Python {platform.python_version()} is too old: install Python 3.11 or newer "
            "and run `make PYTHON=python3.11 …`"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return "Python's venv module is missing: on Debian and Ubuntu, `apt install python3-venv`"
    return None


def git() -> str | None:
    """Ask for git, which DVC and the models' records need."""
    return None if shutil.which("git") else "git is missing: install it with your system's package manager"


def libgomp() -> str | None:
    """Ask for OpenMP's runtime, which LightGBM loads."""
    if platform.system() == "Linux":
        names = ["libgomp.so.1"]
        remedy = "on Debian and Ubuntu, `apt install libgomp1`; on Fedora, `dnf install libgomp`"
    elif platform.system() == "Darwin":
        names = [
            "libomp.dylib",
            "/opt/homebrew/opt/libomp/lib/libomp.dylib",
            "/usr/local/opt/libomp/lib/libomp.dylib",
        ]
        remedy = "`brew install libomp`"
    else:
        return None
    for name in names:
        try:
            ctypes.CDLL(name)
            return None
        except OSError:
            continue
    return f"OpenMP's runtime ({names[0]}) is missing, LightGBM needs it: {remedy}"


def disk() -> str | None:
    """Ask for room for the environment and the runs."""
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    if free < GIGABYTES:
        return (
            f"{here} has {free:.1f} GB free; {GIGABYTES} GB are needed: free some, or clone to a larger disk"
        )
    return None


CHECKS: tuple[Callable[[], str | None], ...] = (python, git, libgomp, disk)


def main() -> int:
    """Print what is missing with its remedy; return 1 if anything is."""
    problems = [problem for check in CHECKS if (problem := check())]
    for problem in problems:
        sys.stderr.write(f"cannot start: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
