"""Who may call what: API keys with scopes, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from pipelines.errors import UsageError
from pipelines.serving.problems import ProblemError

SCOPES = ("decide", "collect", "admin")
VARIABLE = "LOOP_API_KEYS"


class Keys:
    """API keys by scope; without any, everybody on this machine may call everything."""

    def __init__(self, keys: Mapping[str, str | Sequence[str]]) -> None:
        unknown = [scope for scope in keys if scope not in SCOPES]
        if unknown:
            raise UsageError(f"{VARIABLE}: unknown scope '{unknown[0]}'; known: {', '.join(SCOPES)}")
        each = ((scope, [key] if isinstance(key, str) else key) for scope, key in keys.items())
        self._digests = {scope: [sha256(key.encode()).digest() for key in several] for scope, several in each}

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Read `decide=KEY,collect=KEY,admin=KEY`, as the environment variable holds them.

        A scope may come several times: the old key is good until it is taken out, and nobody is shut out meanwhile.
        """
        parts = [part.partition("=") for part in text.split(",") if part.strip()]
        pairs = [(scope.strip(), equals, key.strip()) for scope, equals, key in parts]
        bad = [scope for scope, equals, key in pairs if not equals or len(key) < 16]
        if bad:
            raise UsageError(
                f"{VARIABLE}: write scope=key pairs, each key of at least 16 characters (see '{bad[0]}')"
            )
        return cls({scope: [key for each, _, key in pairs if each == scope] for scope, _, _ in pairs})

    def guard(self, scope: str) -> type[APIRoute]:
        """Make a kind of route that lets callers with the scope (or admin's) in.

        A dependency would be asked only once the body has been read: strangers could send what they like.
        """
        keys = self

        class Guarded(APIRoute):
            def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
                inner = super().get_route_handler()

                async def handle(request: Request) -> Response:
                    keys.check(request.headers.get("authorization", ""), scope)
                    return await inner(request)

                return handle

        return Guarded

    @property
    def security(self) -> dict[str, Any]:
        """Return what OpenAPI says of a guarded route: nothing where no keys are set."""
        return {"security": [{name: []} for name in self.schemes]} if self.schemes else {}

    @property
    def schemes(self) -> dict[str, Any]:
        """Return what OpenAPI says of the keys themselves: nothing where none are set."""
        return {"key": {"type": "http", "scheme": "bearer"}} if self._digests else {}

    def check(self, given: str, scope: str) -> None:
        """Raise ProblemError where an Authorization header does not allow the scope: 401, or 403."""
        if not self._digests:
            return
        word, _, key = given.partition(" ")
        if word.lower() != "bearer" or not key:
            raise ProblemError(401, "send a key: `Authorization: Bearer KEY`", {"WWW-Authenticate": "Bearer"})
        digest = sha256(key.encode()).digest()
        matches = {
            name: any(
                [hmac.compare_digest(digest, each) for each in several]
            )  # all of them, in constant time
            for name, several in self._digests.items()
        }
        if not any(matches.values()):
            raise ProblemError(401, "this key is not known", {"WWW-Authenticate": "Bearer"})
        if not (matches.get(scope) or matches.get("admin")):
            raise ProblemError(403, f"this key does not allow '{scope}'")

    def check_bind(self, host: str) -> None:
        """Refuse to listen beyond this machine without keys."""
        if self._digests or host == "localhost":
            return
        try:
            loopback = ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise UsageError(
                f"'{host}' can be reached from other machines, and no keys are set: set {VARIABLE} "
                "(decide=KEY,collect=KEY,admin=KEY), or bind 127.0.0.1"
            )
