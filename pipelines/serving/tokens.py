"""Signed tokens: what was shown, on its way through a client's hands and back.

    token = base64url(version · key id · issued · case · claims · HMAC-SHA256 of all before, cut to 128 bits)

A token is bound to its case and ages by when it was issued. It may come back many times: an impression earns
several actions, and those are counted once each by their own ids. HMAC: RFC 2104 (cut to half: section 5).
"""

from __future__ import annotations

import hmac
import json
import struct
from base64 import urlsafe_b64encode
from binascii import Error, a2b_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.serving.token_keys import read_keys

Claim = str | int | float | bool | None
_VERSION = 1
_HEAD = struct.Struct(
    ">B4sqB"
)  # version, key id, issued (microseconds since 1970), length of the case's name
_MAC_BYTES = 16
_LONGEST = 4096
_WRITER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Reason(StrEnum):
    """Why a token is refused."""

    MALFORMED = "malformed"
    FORGED = "forged"
    OTHER_CASE = "other case"
    EXPIRED = "expired"


class Refused(Exception):  # noqa: N818  # an answer, not a failure
    """The token earns nothing, and `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Tokens:
    """Signs with the first key and verifies with all of them, so that keys can be changed without a gap.

    A token earns actions for `life` after it was issued.
    """

    def __init__(self, keys: Sequence[bytes], life: timedelta) -> None:
        if not keys:
            raise UsageError("tokens need at least one key")
        self._keys = {_key_id(key): key for key in keys}
        self._first = _key_id(keys[0])
        self._life = life

    def sign(self, case: str, claims: Mapping[str, Claim], now: datetime) -> str:
        """Write a token for what was shown: compact text that is safe in a URL."""
        name = case.encode()
        issued = (now - _EPOCH) // _MICROSECOND
        words = _WRITER.encode(dict(claims)).encode()
        body = _HEAD.pack(_VERSION, self._first, issued, len(name)) + name + words
        return urlsafe_b64encode(body + _mac(self._keys[self._first], body)).rstrip(b"=").decode()

    def pseudonym(self, text: str) -> str:
        """Hash a text that must not be read back from the log; another first key gives another hash."""
        return _mac(self._keys[self._first], b"pseudonym\0" + text.encode()).hex()

    def verify(self, token: str, case: str, now: datetime) -> dict[str, Claim]:
        """Return the claims that were signed; raises Refused."""
        return self.read(token, case, now)[0]

    def read(self, token: str, case: str, now: datetime) -> tuple[dict[str, Claim], datetime]:
        """Return the claims that were signed, and when they were; raises Refused.

        Nothing of a token is believed, or told apart, before its signature is found right.
        """
        signed = _decode(token)
        body, mac = signed[:-_MAC_BYTES], signed[-_MAC_BYTES:]
        version, key_id, issued, length = _HEAD.unpack_from(body)
        if version != _VERSION:
            raise Refused(Reason.MALFORMED)
        key = self._keys.get(key_id)
        if key is None or not hmac.compare_digest(mac, _mac(key, body)):
            raise Refused(Reason.FORGED)
        if body[_HEAD.size : _HEAD.size + length] != case.encode():
            raise Refused(Reason.OTHER_CASE)
        signed_at = _EPOCH + issued * _MICROSECOND
        if now - signed_at > self._life:
            raise Refused(Reason.EXPIRED)
        claims: dict[str, Claim] = json.loads(body[_HEAD.size + length :])
        return claims, signed_at


def open_tokens(path: Path, life: timedelta) -> Tokens:
    """Make tokens with the keys of LOOP_TOKEN_KEY, or of the key file, which is made where there is none."""
    return Tokens(read_keys(path), life)


def _key_id(key: bytes) -> bytes:
    return sha256(b"key id\0" + key).digest()[:4]


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:_MAC_BYTES]


def _decode(token: str) -> bytes:
    """Undo base64url; of the texts that stand for the same bytes only the one that `sign` writes will do."""
    try:
        if len(token) > _LONGEST:
            raise Refused(Reason.MALFORMED)
        text = token.encode("ascii")
        signed = a2b_base64(text.translate(_STANDARD) + b"=" * (-len(text) % 4), strict_mode=True)
    except (UnicodeEncodeError, Error):
        raise Refused(Reason.MALFORMED) from None
    if len(signed) < _HEAD.size + _MAC_BYTES or urlsafe_b64encode(signed).rstrip(b"=") != text:
        raise Refused(Reason.MALFORMED)
    return signed


_STANDARD = bytes.maketrans(b"-_", b"+/")
