"""Tokens: what was signed comes back, and nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UsageError
from pipelines.serving.token_keys import VARIABLE, read_keys
from pipelines.serving.tokens import Reason, Refused, Tokens, open_tokens

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIFE = timedelta(days=30)
OLD, NEW = b"o" * 32, b"n" * 32
CLAIMS = {"impression_id": "r1-1", "request_id": "r1", "user_id": "u7", "value": None}
TOKENS = Tokens([NEW], LIFE)
TOKEN = TOKENS.sign("ad_click", CLAIMS, NOW)

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
moments = st.integers(0, 2**53).map(
    lambda number: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=number)
)


def refused(token: str, case: str = "ad_click", now: datetime = NOW, tokens: Tokens = TOKENS) -> Reason:
    """Return why a token is refused; fail where it is not."""
    with pytest.raises(Refused) as caught:
        tokens.verify(token, case, now)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


@given(case=st.text(max_size=60), claims=st.dictionaries(st.text(), scalars), now=moments)
def test_what_was_signed_comes_back(case: str, claims: dict[str, object], now: datetime) -> None:
    token = TOKENS.sign(case, claims, now)  # type: ignore[arg-type]
    if len(token) <= 4096:
        assert TOKENS.verify(token, case, now) == claims


@given(bit=st.integers(0, 8 * len(TOKEN) - 1))
def test_a_bit_changed_in_the_text_is_refused(bit: int) -> None:
    changed = bytearray(TOKEN.encode())
    changed[bit // 8] ^= 1 << bit % 8
    assert refused(changed.decode("latin-1")) in {Reason.FORGED, Reason.MALFORMED}


def test_a_bit_changed_in_the_bytes_is_forged() -> None:
    signed = urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))
    for bit in range(8 * len(signed)):
        changed = bytearray(signed)
        changed[bit // 8] ^= 1 << bit % 8
        reason = refused(urlsafe_b64encode(changed).rstrip(b"=").decode())
        assert reason is (Reason.MALFORMED if bit < 8 else Reason.FORGED), "the first byte is the version"


@given(text=st.text() | st.binary().map(lambda raw: urlsafe_b64encode(raw).decode()))
def test_any_text_is_refused_in_one_way_or_another(text: str) -> None:
    assert refused(text) in {Reason.FORGED, Reason.MALFORMED}


@pytest.mark.parametrize("text", ["", "A" * 5000, TOKEN + "=", TOKEN + "\n", " " + TOKEN, TOKEN[:40]])
def test_what_is_no_token_is_malformed_or_forged(text: str) -> None:
    assert refused(text) in {Reason.FORGED, Reason.MALFORMED}


def test_a_cut_token_is_forged_at_every_length() -> None:
    for length in range(len(TOKEN)):
        assert refused(TOKEN[:length]) in {Reason.FORGED, Reason.MALFORMED}


def test_a_token_is_good_for_its_life_and_not_longer() -> None:
    assert TOKENS.verify(TOKEN, "ad_click", NOW + LIFE) == CLAIMS
    assert refused(TOKEN, now=NOW + LIFE + timedelta(microseconds=1)) is Reason.EXPIRED
    assert TOKENS.verify(TOKEN, "ad_click", NOW - timedelta(minutes=1)) == CLAIMS


def test_a_token_is_good_for_its_case_alone() -> None:
    assert refused(TOKEN, case="video_recommendation") is Reason.OTHER_CASE
    assert refused(TOKEN, case="ad_clic") is Reason.OTHER_CASE


def test_keys_change_without_a_gap() -> None:
    before = Tokens([OLD], LIFE).sign("ad_click", CLAIMS, NOW)
    both = Tokens([NEW, OLD], LIFE)
    assert both.verify(before, "ad_click", NOW) == CLAIMS
    after = both.sign("ad_click", CLAIMS, NOW)
    assert after == TOKEN, "the first key signs"
    assert refused(before) is Reason.FORGED, "a key that was taken away verifies nothing"


def test_a_token_is_safe_in_a_url_and_short() -> None:
    assert set(TOKEN) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(TOKEN) < 180


# --- keys -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "live" / "token.key"
    lenient = os.umask(0)
    try:
        token = open_tokens(path, LIFE).sign("x", CLAIMS, NOW)
    finally:
        os.umask(lenient)
    assert path.stat().st_mode & 0o777 == 0o600
    assert open_tokens(path, LIFE).verify(token, "x", NOW) == CLAIMS
    assert [each.name for each in path.parent.iterdir()] == ["token.key"]
    assert read_keys(tmp_path / "other.key") != read_keys(path)


def test_processes_that_start_at_once_agree_on_a_key(tmp_path: Path) -> None:
    path = tmp_path / "token.key"
    code = (
        "import sys; from pathlib import Path; from pipelines.serving.token_keys import read_keys;"
        "sys.stdin.readline(); print(read_keys(Path(sys.argv[1])))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    told = {child.communicate()[0] for child in children}
    assert told == {f"{read_keys(path)}\n"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token.key"
    read_keys(path)
    path.chmod(mode)
    with pytest.raises(UsageError, match=rf"mode {mode:03o}.*chmod 600"):
        read_keys(path)


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{NEW.hex()}, {OLD.hex()}")
    assert read_keys(tmp_path / "token.key") == [NEW, OLD]
    assert not (tmp_path / "token.key").exists()


@pytest.mark.parametrize("text", ["", " , ", "secret", "ab" * 31, "xy" * 32])
def test_a_weak_key_is_refused_and_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=f"{VARIABLE} holds.*openssl rand -hex 32") as caught:
        read_keys(tmp_path / "token.key")
    assert not text.strip(" ,") or text not in str(caught.value)
