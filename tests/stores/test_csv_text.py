"""CSV files as text: every line comes out, and what must not be used says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.case_study import SPOILED
from pipelines.errors import DataError
from pipelines.stores.csv_text import is_utf8, scan_csv


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def test_a_line_with_a_field_too_many_is_spoiled_and_no_other(file: Path) -> None:
    file.write_text('a,b,c\n1,2,3\n4,5,6,7\n8,9\n"x,1","y\nz",w\n10,11,12,\n13,14,15,,17\n')
    found = scan_csv(file, ("a", "c")).collect()
    assert found["a"].to_list() == ["1", "4", "8", "x,1", "10", "13"]
    assert found["c"].to_list() == ["3", "6", None, "w", "12", "15"]
    assert [each and "header: '" in each for each in found[SPOILED]] == [None, True, None, None, None, True]
    assert found[SPOILED][5] == "the line has more fields than the header: '17'"


def test_bytes_that_are_no_text_spoil_their_line(file: Path) -> None:
    file.write_bytes("a,b\n1,ü\n2,".encode() + b"\xfc\n3,4\n")
    found = scan_csv(file).collect()
    assert found["b"].to_list() == ["ü", "\ufffd", "4"]
    assert [each is None for each in found[SPOILED]] == [True, False, True]
    file.write_text("a,b\n1,\ufffd\n")
    assert scan_csv(file).collect()[SPOILED].to_list() == [None], "whoever wrote it meant it"


def test_a_missing_column_and_an_unreadable_file_are_named(file: Path) -> None:
    file.write_text("a,b\n1,2\n")
    with pytest.raises(
        DataError, match=r"rows\.csv has no column 'c': its first line must name a, c; it reads 'a,b'"
    ):
        scan_csv(file, ("a", "c"))
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"rows\.csv cannot be read: empty CSV"):
        scan_csv(file)


@given(st.binary(max_size=12), st.integers(0, 2**20 + 2))
def test_a_file_is_utf8_where_it_can_be_decoded_as_a_whole(
    tmp_path_factory: pytest.TempPathFactory, end: bytes, at: int
) -> None:
    file = tmp_path_factory.mktemp("bytes") / "any"
    whole = b"a" * at + end
    file.write_bytes(whole)
    try:
        whole.decode()
    except UnicodeDecodeError:
        assert not is_utf8(file)
    else:
        assert is_utf8(file)
