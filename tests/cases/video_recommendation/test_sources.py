"""The adapter: both layouts give the same rows, and a bad line becomes a bad row, not a dead file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.cases.video_recommendation.sources import read_movietweetings
from pipelines.errors import DataError
from pipelines.stores.location import open_location

RATINGS = [("1", "0000011", "7", "1362100000"), ("2", "0000012", "10", "1362200000")]
FILMS = [("0000011", "One, Two (1912)", "Drama|Short"), ("0000012", "Three (2012)", "Comedy")]


def published(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ratings.dat").write_text("\n".join("::".join(row) for row in RATINGS) + "\n")
    (folder / "movies.dat").write_text("\n".join("::".join(row) for row in FILMS) + "\n")
    return folder


def ours(folder: Path) -> Path:
    folder.mkdir()
    lines = ["user_id,item_id,rating,timestamp", *(",".join(row) for row in RATINGS)]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    films = ["item_id,title,genres", *(f'{film},"{title}",{genres}' for film, title, genres in FILMS)]
    (folder / "movies.csv").write_text("\n".join(films) + "\n")
    return folder


def read(folder: Path) -> dict[str, pl.DataFrame]:
    batches = list(read_movietweetings(open_location(str(folder), folder / "cache")))
    return {
        name: pl.concat([each.rows for each in batches if each.table == name])
        for name in ("videos", "actions")
    }


def test_both_layouts_give_the_same_rows(tmp_path: Path) -> None:
    one, other = read(published(tmp_path / "dat")), read(ours(tmp_path / "csv"))
    for name in one:
        assert one[name].equals(other[name]), name
    actions = one["actions"]
    assert actions["action_time"][0] == datetime.fromtimestamp(1362100000, UTC)
    assert actions["video_id"].to_list() == ["0000011", "0000012"], "leading zeros are part of an id"
    assert actions["impression_id"].null_count() == 2, "nobody observed what was shown"
    assert one["videos"]["genres"].to_list() == [["Drama", "Short"], ["Comedy"]]
    assert one["videos"]["published_at"].null_count() == 2, "the publisher does not tell it"


def test_a_bad_line_becomes_a_row_that_can_be_refused(tmp_path: Path) -> None:
    folder = published(tmp_path / "dat")
    with (folder / "ratings.dat").open("a") as stream:
        stream.write("3::0000011::many::1362300000\n4::0000012\n")
    actions = read(folder)["actions"]
    assert actions.height == 4
    assert actions["action"].to_list()[2] == "rate: many"
    assert actions["action_time"].null_count() == 1


def test_a_time_that_is_none_is_kept_for_quarantine_to_name(tmp_path: Path) -> None:
    folder = published(tmp_path / "dat")
    with (folder / "ratings.dat").open("a") as stream:
        stream.write("3::0000011::7::1362300000.0\n4::0000012::7::2013-04-03\n5::0000012::7::0\n")
    times = read(folder)["actions"]["action_time"].to_list()
    assert times[2].startswith("2013-03-03T08:40:00") and times[3:] == ["2013-04-03", "0"]


def test_files_in_other_units_or_with_other_ids_are_refused(tmp_path: Path) -> None:
    folder = ours(tmp_path / "csv")
    ratings = (folder / "ratings.csv").read_text()
    (folder / "ratings.csv").write_text(ratings.replace("00000\n", "00000000\n"))
    with pytest.raises(DataError, match=r"ratings\.csv: no 'timestamp' is a time.*'1362.00000000'"):
        read(folder)
    (folder / "ratings.csv").write_text(ratings.replace(",00000", ","))
    with pytest.raises(
        DataError, match=r"rates no film of movies\.csv: its 'item_id' reads '11', there.*'0000011'"
    ):
        read(folder)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    folder = ours(tmp_path / "csv")
    (folder / "movies.csv").unlink()
    with pytest.raises(DataError, match=r"neither 'movies\.dat'.*nor 'movies\.csv'"):
        read(folder)
    (folder / "movies.csv").write_text("item_id,title\n1,One\n")
    with pytest.raises(DataError, match=r"movies\.csv has no column 'genres'"):
        read(folder)
