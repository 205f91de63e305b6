"""The label: the last word of the reviewers on each post and harm, within four days of the decision.

An appeal's outcome overrules the verdict. What was not reviewed in time has no label: it is unknown, not
harmless. One example a post and harm, so that each has its own probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir

from pipelines.case_study import Label
from pipelines.cases.harmful_content.tables import HARMS

ATTRIBUTION = timedelta(days=4)
VERDICT = timedelta(hours=36)
"""Within which reviewers vote as a rule; an appeal may yet overrule them, and what was not reviewed has no label."""
CONTEXT = ("request_id", "author_id", "text", "audience", "client", "reports", "propensity")


def _fold(tables: Mapping[str, ir.Table], as_of: datetime) -> ir.Table:
    """Yield a row a reviewed post and harm: keys, context, time, label, the share of votes, the appeal."""
    shown = tables["impressions"].select(
        "impression_id", "request_id", "impression_time", "reports", "propensity"
    )
    asked = tables["requests"].select("request_id", "author_id", "text", "audience", "client")
    posts = shown.inner_join(asked, "request_id")
    rows = posts.inner_join(_judged(tables), "impression_id")
    votes = _votes(tables)
    rows = rows.left_join(votes, "impression_id").drop("impression_id_right")
    found = [_of_harm(rows, harm) for harm in HARMS]
    return found[0].union(*found[1:])


def _in_time(tables: Mapping[str, ir.Table], kinds: list[str]) -> ir.Table:
    """Find the actions of some kinds that came within the attribution window, or tell no time."""
    done = tables["actions"]
    times = tables["impressions"].select("impression_id", "impression_time")
    rows = done.filter(done["action"].isin(kinds) & done["impression_id"].notnull())
    rows = rows.select("impression_id", "action", "action_time", "harms").inner_join(times, "impression_id")
    late = rows["impression_time"] + ibis.interval(hours=int(ATTRIBUTION.total_seconds() // 3600))
    untold = rows["action_time"].isnull() | rows["impression_time"].isnull()
    return rows.filter(
        untold | ((rows["action_time"] >= rows["impression_time"]) & (rows["action_time"] < late))
    )


def _judged(tables: Mapping[str, ir.Table]) -> ir.Table:
    """Lay the verdict and the outcome of each post side by side: a flag a harm, 0 or 1."""
    rows = _in_time(tables, ["verdict", "outcome"])
    outcome = rows["action"] == "outcome"
    flags: dict[str, ir.Value] = {"appealed": outcome.cast("int64").max()}
    for harm in HARMS:
        found = _has(rows, harm)
        flags[f"verdict_{harm}"] = found.max(where=~outcome)
        flags[f"outcome_{harm}"] = found.max(where=outcome)
    return rows.group_by("impression_id").aggregate(**flags)


def _votes(tables: Mapping[str, ir.Table]) -> ir.Table:
    rows = _in_time(tables, ["vote"])
    counts = {f"votes_{harm}": _has(rows, harm).sum().cast("int64") for harm in HARMS}
    return rows.group_by("impression_id").aggregate(votes=rows.count().cast("int64"), **counts)


def _has(rows: ir.Table, harm: str) -> ir.IntegerValue:
    return rows["harms"].contains(harm).fill_null(False).cast("int64")


def _of_harm(rows: ir.Table, harm: str) -> ir.Table:
    label = ibis.coalesce(rows[f"outcome_{harm}"], rows[f"verdict_{harm}"])
    kept = [rows[f"outcome_{each}"].fill_null(0) for each in HARMS]
    share = rows[f"votes_{harm}"].cast("float64") / rows["votes"].nullif(0).cast("float64")
    appealed = rows["appealed"] == 1
    return rows.select(
        *CONTEXT,
        example_id=rows["impression_id"],
        harm=ibis.literal(harm),
        time=rows["impression_time"],
        label=label.cast("int64"),
        vote_share=ibis.ifelse(appealed, label.cast("float64"), share),
        appealed=appealed,
        overturned=appealed & (ibis.greatest(*kept) == 0),
    )


LABEL = Label(
    keys=("example_id", "harm"),
    time="time",
    reads=("requests", "impressions", "actions"),
    fold=_fold,
    told_after=VERDICT,
)
