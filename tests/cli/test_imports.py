"""Heavy imports are late: what needs no model library does not wait for one."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"torch", "mlflow", "feast", "evidently", "prefect", "lightgbm", "sklearn"}


def loaded_by(code: str) -> set[str]:
    """Run code in a new interpreter and list the heavy modules that it loaded."""
    report = "\nimport sys; print('\\n'.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


def test_help_is_light() -> None:
    assert not loaded_by(
        "import sys\nfrom pipelines.cli import main\nsys.argv = ['loop', '--help']\n"
        "try: main()\nexcept SystemExit: pass"
    )


def test_ingest_is_light() -> None:
    assert not loaded_by(
        "from pipelines import catalog\nimport pipelines.steps.ingest, pipelines.flows.edge\n"
        "[(catalog.case(name), catalog.has_world(name) and catalog.world(name)) for name in catalog.names()]"
    )
