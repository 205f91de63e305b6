"""Malformed input for any case's routes, and what every answer on the wire must be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Protocol

from pipelines.case_study import Serving

PROBLEM = "application/problem+json"
JSON = "application/json"
SECRETS = ("Traceback", "Error(", ".py", "/home/", "/tmp/", "sqlite", ".db")
"""What no client should be told of the inside."""


class Reply(Protocol):
    """What a client of requests or httpx gets back."""

    status_code: int
    text: str

    @property
    def headers(self) -> Mapping[str, str]: ...

    def json(self) -> Any: ...


def check_problem(reply: Reply, status: int | None = None) -> dict[str, Any]:
    """Hold a reply to RFC 9457, and to telling nothing internal."""
    assert status is None or reply.status_code == status, reply.text[:500]
    assert reply.headers["content-type"] == PROBLEM, reply.text[:500]
    said: dict[str, Any] = reply.json()
    assert {"type", "title", "status", "detail"} <= said.keys()
    assert said["status"] == reply.status_code
    assert said["type"] == "about:blank" and said["title"] == HTTPStatus(reply.status_code).phrase
    assert isinstance(said["detail"], str) and said["detail"]
    assert not [secret for secret in SECRETS if secret in reply.text], reply.text
    assert len(reply.content) < 20_000, "the reply echoes what was sent"  # type: ignore[attr-defined]
    return said


def bodies() -> Iterator[tuple[str, bytes]]:
    """Yield bodies that are wrong for every route: (name, bytes)."""
    yield from {
        "empty": b"",
        "blank": b" \n",
        "broken JSON": b'{"user_id": ',
        "two documents": b"{} {}",
        "comma behind": b'{"user_id": "u0",}',
        "not UTF-8": b'{"user_id": "\xff\xfe"}',
        "null byte": b'{"user_id": "u\x00"}',
        "null": b"null",
        "a list": b"[]",
        "a text": b'"u0"',
        "a number": b"7",
        "a huge number": b"9" * 5_000,
        "NaN": b"NaN",
        "deep lists": b"[" * 100_000 + b"]" * 100_000,
        "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "deep list in a field": b'{"user_id": ' + b"[" * 500 + b"]" * 500 + b"}",
        "unknown field": b'{"no_such_field": 1}',
        "lone surrogate as a field": b'{"\\ud800": 1}',
        "a long field": b'{"' + b"x" * 200_000 + b'": 1}',
        "many fields": json.dumps({f"field_{n}": n for n in range(20_000)}).encode(),
    }.items()


def spoiled(good: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Put a value of every wrong kind into each field of a body that is good."""
    for name in good:
        for value in VALUES:
            yield f"{name} = {str(value)[:40]!r}", {**good, name: value}


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, 0.5, 1e308, float("nan"), float("inf"),
    float("-inf"), "", " ", "\x00", "\ud800", "\udfff\ud800", "x" * 100_000, "2026-02-01T12:00:00",
    "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z",
    "2026-02-30T00:00:00Z", "1e400", "-0", [], [[]], {}, {"a": {"b": []}}, ["x"] * 2_000,
)  # fmt: skip


def told_examples(serving: Serving) -> dict[str, Any]:
    """Give an example of whatever else a case's actions tell."""
    if serving.told is None:
        return {}
    fields = serving.told.model_fields
    return {name: fields[name].examples[0] for name in fields if name != "action"}  # type: ignore[index]


def wrong_actions(
    token: str, action: str, told: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Any]]:
    """Yield bodies of actions that are wrong in every field, with a token that is right."""
    good = {
        "action_id": "a1",
        "token": token,
        "action": action,
        "value": 0.5,
        "action_time": "2026-02-01T12:00:00Z",
        **(told or {}),
    }
    for name, each in spoiled(good):
        yield name, {"actions": [each]}
    for name in ("action_id", "token", "action"):
        yield f"without {name}", {"actions": [{key: value for key, value in good.items() if key != name}]}
    yield "unknown field", {"actions": [{**good, "weight": 100}]}
    yield "claims of its own", {"actions": [{**good, "impression_id": "another", "user_id": "another"}]}
    yield "none", {"actions": []}
    yield "too many", {"actions": [good] * 1001}
    yield "a text", {"actions": "a1"}
    yield "many that are wrong", {"actions": [{"action_id": 1}] * 1000}


def dumped(body: Any) -> bytes:
    """Write what JSON forbids too: NaN, infinities, lone surrogates."""
    return json.dumps(body, ensure_ascii=True, allow_nan=True).encode()
