"""The adapters: rows aligned and mapped, nothing invented, and what is wrong is named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.case_study import Source
from pipelines.cases.ad_click.case import CASE
from pipelines.cases.ad_click.sources import OPEN_BANDIT, WNS
from pipelines.errors import DataError
from pipelines.steps.ingest import Manifest, ingest
from pipelines.stores.lake import Lake
from pipelines.stores.location import open_location
from pipelines.stores.workspace import Workspace

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = (
    "session_id,DateTime,user_id,product,campaign_id,webpage_id,product_category_1,product_category_2,"
    "user_group_id,gender,age_level,user_depth,city_development_index,var_1"
)
SESSIONS = [
    "7,2017-07-02 0:01,u1,H,82320,1734,1,,2,Male,1,3,4,1",
    "8,2017-07-02 12:30,u2,H,82320,1734,1,,6,,,3,,0",
    "9,2017-07-03 23:59,u1,C,405490,60305,3,146115,2,Male,1,3,4,1",
]
BANDIT_HEADER = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,"
    "user_feature_3,user-item_affinity_0,user-item_affinity_1"
)
BANDIT = [
    "0,2019-11-24 00:01:03.979311+00:00,1,2,0,0.25,f0,f1,f2,f3,0.0,3.0",
    "1,2019-11-24 00:01:45+00:00,0,3,1,0.75,f0,g1,g2,g3,1.0,0.0",
]
ITEMS = ["0,0,-0.6,p0,s0,c0", "1,1,0.2,p1,s1,c1"]


def wns(folder: Path, rows: list[str] | None = None, clicks: str = "0\n1\n0\n") -> Path:
    folder.mkdir()
    (folder / "X.csv").write_text("\n".join([HEADER, *(rows or SESSIONS)]) + "\n")
    (folder / "y.csv").write_text(clicks)
    return folder


def bandit(folder: Path, policies: tuple[str, ...] = ("random", "bts"), name: str = "men") -> Path:
    for policy in policies:
        (folder / policy).mkdir(parents=True, exist_ok=True)
        (folder / policy / f"{name}.csv").write_text("\n".join([BANDIT_HEADER, *BANDIT]) + "\n")
        items = [",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3", *ITEMS]
        (folder / policy / "item_context.csv").write_text("\n".join(items) + "\n")
    return folder


def take(source: Source, folder: Path, root: Path) -> tuple[Manifest, dict[str, pl.DataFrame]]:
    """Ingest a source and return the lake's tables, sorted by key."""
    ws = Workspace(root / "runs" / "ad_click")
    location = open_location(str(folder), root / "cache")
    manifest = ingest(
        CASE,
        ws,
        source.read(location),
        source=source.name,
        as_of=AS_OF,
        zone=source.zone,
        observed=source.observed,
    )
    lake = Lake(ws.lake, CASE.tables)
    return manifest, {each.name: lake.scan(each.name).collect().sort(each.key) for each in CASE.tables}


def test_wns_becomes_requests_impressions_and_clicks(tmp_path: Path) -> None:
    manifest, found = take(WNS, wns(tmp_path / "wns"), tmp_path)
    assert manifest.total.kept == 3 + 3 + 1 + 2 and manifest.total.quarantined == 0
    requests = found["requests"]
    assert requests["request_time"][0] == datetime(2017, 7, 2, 0, 1, tzinfo=UTC), "an hour of one digit"
    assert requests["gender"].to_list() == ["Male", None, "Male"], "what is missing is null"
    assert requests["site"].to_list() == ["1734", "1734", "60305"]
    assert requests["policy"].null_count() == requests["device"].null_count() == 3
    impressions = found["impressions"]
    assert impressions["position"].null_count() == impressions["propensity"].null_count() == 3
    assert impressions["ad_id"].to_list() == ["H-82320-1-", "H-82320-1-", "C-405490-3-146115"]
    (click,) = found["actions"].to_dicts()
    assert click["impression_id"] == "s8-1" and click["user_id"] == "u2"
    assert click["action_time"] == requests["request_time"][1], "nobody saw when: at once"
    ads = {row["ad_id"]: row for row in found["ads"].to_dicts()}
    assert ads["C-405490-3-146115"]["subcategory"] == "146115" and ads["H-82320-1-"]["created_at"] is None


def test_wns_refuses_what_is_not_aligned(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"y\.csv has 2 rows of 1 columns, X\.csv has 3 rows"):
        take(WNS, wns(tmp_path / "short", clicks="0\n1\n"), tmp_path / "a")
    with pytest.raises(DataError, match=r"y\.csv has 4 rows"):
        take(WNS, wns(tmp_path / "header", clicks="is_click\n0\n1\n0\n"), tmp_path / "b")
    (tmp_path / "short" / "y.csv").unlink()
    with pytest.raises(DataError, match=r"'y\.csv' is missing"):
        take(WNS, tmp_path / "short", tmp_path / "c")
    (tmp_path / "header" / "X.csv").write_text("session_id,DateTime\n1,2\n")
    with pytest.raises(DataError, match=r"X\.csv has no column 'user_id'"):
        take(WNS, tmp_path / "header", tmp_path / "d")


def test_wns_quarantines_bad_rows_by_field(tmp_path: Path) -> None:
    rows = [*SESSIONS, "10,yesterday,u3,H,82320,1734,1,,2,Male,1,3,4,1", SESSIONS[0]]
    manifest, found = take(WNS, wns(tmp_path / "wns", rows, "0\n1\n7\n0\n0\n"), tmp_path)
    counts = manifest.tables
    assert (counts["requests"].quarantined, counts["requests"].duplicate) == (1, 1)
    assert counts["impressions"].quarantined == 1
    assert counts["actions"].quarantined == 1, "7 is no click and no pass"
    assert found["actions"].height == 1
    assert found["impressions"]["impression_id"].to_list() == ["s7-1", "s8-1"], (
        "what nobody answered is no example"
    )


def test_a_missing_answer_is_not_a_no(tmp_path: Path) -> None:
    folder = bandit(tmp_path / "men")
    log = folder / "bts" / "men.csv"
    log.write_text(log.read_text().replace(",1,2,0,0.25", ",1,2,,0.25"))
    manifest, found = take(OPEN_BANDIT, folder, tmp_path)
    assert manifest.tables["actions"].quarantined == 1 and manifest.tables["actions"].kept == 2
    assert found["impressions"]["impression_id"].str.starts_with("bts").sum() == 1, "and no example"


def test_a_click_may_be_written_as_a_number(tmp_path: Path) -> None:
    manifest, found = take(WNS, wns(tmp_path / "wns", clicks="0.0\n 1.0\n0\n"), tmp_path)
    assert manifest.total.quarantined == 0 and found["actions"]["impression_id"].to_list() == ["s8-1"]


def test_rows_of_one_session_stay_apart_and_whole(tmp_path: Path) -> None:
    """Two rows of one session that differ are two requests: no click moves from one to the other."""
    rows = [SESSIONS[0], SESSIONS[0].replace("C,", "H,").replace("82320", "405490"), SESSIONS[2]]
    for folder, order in (("one", [0, 1, 2]), ("other", [1, 0, 2])):
        clicks = "".join("01"[each == 1] + "\n" for each in order)
        _, found = take(
            WNS, wns(tmp_path / folder, [rows[each] for each in order], clicks), tmp_path / folder
        )
        shown = found["impressions"].join(found["actions"], on="impression_id")
        assert found["impressions"].height == 3 and shown["campaign_id"].to_list() == ["405490"]


def test_one_unreadable_time_spoils_its_row_alone(tmp_path: Path) -> None:
    rows = [
        SESSIONS[0],
        SESSIONS[1].replace("2017-07-02 12:30", ""),
        SESSIONS[2].replace("2017-07-03 23:59", "-"),
    ]
    manifest, found = take(WNS, wns(tmp_path / "wns", rows), tmp_path)
    assert manifest.tables["ads"].quarantined == 0 and found["ads"].height == 2
    folder = bandit(tmp_path / "men")
    log = folder / "bts" / "men.csv"
    log.write_text(log.read_text().replace("2019-11-24 00:01:45+00:00", "0000-00-00 00:00:00"))
    manifest, found = take(OPEN_BANDIT, folder, tmp_path / "men")
    assert manifest.tables["requests"].quarantined == 1 and found["ads"].height == 2
    assert found["ads"]["arrived_at"][0] == datetime(2019, 11, 24, 0, 1, 3, 979311, tzinfo=UTC)


def test_a_line_with_a_field_too_many_is_kept_for_quarantine_whole(tmp_path: Path) -> None:
    rows = [SESSIONS[0], SESSIONS[1] + ",more", SESSIONS[2].replace("C,", "N,")]
    manifest, found = take(WNS, wns(tmp_path / "wns", rows), tmp_path)
    counts = {name: each.quarantined for name, each in manifest.tables.items()}
    assert counts == {"ads": 0, "requests": 1, "impressions": 1, "actions": 1}
    assert found["requests"]["request_id"].to_list() == ["s7", "s9"] and found["actions"].is_empty()
    folder = bandit(tmp_path / "men")
    log = folder / "bts" / "men.csv"
    log.write_bytes(log.read_bytes().replace(b"g1", b"\xe9"))
    manifest, found = take(OPEN_BANDIT, folder, tmp_path / "men")
    assert manifest.tables["requests"].quarantined == 1 and found["actions"].height == 1


def test_there_is_no_click_on_what_is_quarantined(tmp_path: Path) -> None:
    folder = bandit(tmp_path / "men")
    log = folder / "bts" / "men.csv"
    log.write_text(log.read_text().replace(",0,3,1,0.75", ",0,0,1,0.75"))
    manifest, found = take(OPEN_BANDIT, folder, tmp_path)
    assert manifest.tables["impressions"].quarantined == 1, "positions are counted from 1"
    assert set(found["actions"]["impression_id"]) <= set(found["impressions"]["impression_id"])
    assert found["actions"].height == 1


def test_open_bandit_keeps_policies_and_propensities(tmp_path: Path) -> None:
    manifest, found = take(OPEN_BANDIT, bandit(tmp_path / "men"), tmp_path)
    assert manifest.total.kept == 4 + 4 + 2 + 2 and manifest.total.quarantined == 0
    assert sorted(found["requests"]["policy"].to_list()) == ["bts", "bts", "random", "random"]
    impressions = found["impressions"].filter(pl.col("request_id").str.starts_with("random"))
    assert impressions["propensity"].to_list() == [0.25, 0.75]
    assert impressions["position"].to_list() == [2, 3]
    assert impressions["affinity"].to_list() == [3.0, 1.0], "that of the item that was shown"
    assert impressions["explored"].to_list() == [True, True]
    assert found["impressions"]["user_id"].null_count() == 4, "nobody is named"
    assert found["requests"]["trait_1"].to_list() == ["f1", "g1", "f1", "g1"]
    assert found["ads"]["ad_id"].to_list() == ["men-0", "men-1"]
    assert found["ads"]["arrived_at"][0] == found["requests"]["request_time"].min()


def test_one_policy_by_itself_is_read_and_not_named(tmp_path: Path) -> None:
    folder = bandit(tmp_path / "log", ("random",), "women") / "random"
    _, found = take(OPEN_BANDIT, folder, tmp_path)
    assert (
        found["requests"]["policy"].null_count() == 2 and found["impressions"]["explored"].null_count() == 2
    )
    assert found["impressions"]["campaign_id"].unique().to_list() == ["women"]
    with pytest.raises(DataError, match="neither 'random/' nor 'bts/'"):
        take(OPEN_BANDIT, tmp_path, tmp_path / "nothing")
