"""The label: clicked within an hour of being shown? Replace: what counts as a success, and how soon."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from pipelines.case_study import Label

ATTRIBUTION = timedelta(hours=1)
SHOWN = ("impression_id", "request_id", "user_id", "segment", "item_id", "kind", "position", "explored")
"""What stands beside the label. Experiments find a label's request by `request_id`."""


def _fold(tables: Mapping[str, ir.Table], as_of: datetime) -> ir.Table:
    """Yield a row an impression: what was shown, its time, its label."""
    shown, done = tables["impressions"], tables["actions"]
    clicks = done.filter(done["impression_id"].notnull())
    # A second click on the same impression must not make a second row of it.
    first = clicks.group_by("impression_id").aggregate(clicked_at=clicks["action_time"].min())
    rows = shown.left_join(first, "impression_id").drop("impression_id_right")
    late = rows["impression_time"] + ibis.interval(hours=int(ATTRIBUTION.total_seconds() // 3600))
    in_time = (rows["clicked_at"] >= rows["impression_time"]) & (rows["clicked_at"] < late)
    return rows.select(*SHOWN, time=rows["impression_time"], label=in_time.fill_null(False).cast("int64"))


LABEL = Label(keys=("impression_id",), time="time", reads=("impressions", "actions"), fold=_fold)
