"""Where the snapshots stand: `<workspaces>/<case>/features/<view>/date=YYYY-MM-DD/*.parquet`.

LOOP_WORKSPACES names the folder of workspaces; the live ones beside this repository are the default.
"""

import os
from pathlib import Path

from feast import FileSource

_PROJECT = Path(__file__).resolve().parent.parent


def snapshots(case: str, view: str) -> FileSource:
    """Declare the dated snapshots of one feature view as its batch source."""
    workspaces = _PROJECT / os.environ.get("LOOP_WORKSPACES", "live")
    return FileSource(
        name=f"{case}_{view}",
        path=str(workspaces / case / "features" / view / "*" / "*.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
