"""How much a caller may send: a longer body is refused while it is still on its way."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.serving.problems import answer

MOST_BYTES = 4 * 2**20
"""A thousand actions with the longest tokens and ids fit in."""


class BodyLimit:
    """ASGI middleware: 413 for a body that says, or turns out, to be longer than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._said(scope) > self.most:
            await answer(413, self._detail())(scope, receive, send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.most:
                raise HTTPException(413, self._detail())
            return message

        await self.app(scope, counted, send)

    def _said(self, scope: Scope) -> int:
        """Read the length that the caller gives; 0 where it gives none: then it is counted."""
        said = dict(scope["headers"]).get(b"content-length", b"")
        return int(said) if said.isdigit() else 0

    def _detail(self) -> str:
        return f"a body may hold {self.most:,} bytes: send less at once"
