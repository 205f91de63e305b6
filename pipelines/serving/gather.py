"""Gathered calls: what is asked while a call is under way goes into the next one, together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from anyio.to_thread import run_sync

from pipelines.errors import LoopError

Asked = TypeVar("Asked")
Told = TypeVar("Told")

_MOST, _WAITING = 256, 16 * 256


class BusyError(LoopError):
    """More wait already than a call in a while could answer."""


class Gathered(Generic[Asked, Told]):
    """One call in a thread at a time, for all that wait; nobody waits for a timer.

    `call` answers several at once, in their order; what it raises, all of them are told. For use within one
    event loop at a time.
    """

    def __init__(self, call: Callable[[Sequence[Asked]], Sequence[Told]]) -> None:
        self._call = call
        self._waiting: deque[tuple[Asked, asyncio.Future[Told]]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def ask(self, one: Asked) -> Told:
        """Wait for the answer to one. Raises BusyError at once where too many wait."""
        if len(self._waiting) >= _WAITING:
            raise BusyError(f"{_WAITING} calls wait already: send it again in a moment")
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            group = list(islice(self._waiting, _MOST))
            for _ in group:
                self._waiting.popleft()
            try:
                told = await run_sync(self._call, [one for one, _ in group])
            except Exception as error:
                for _, answer in group:
                    if not answer.done():  # who gave up (a cut connection) is told nothing
                        answer.set_exception(error)
                continue
            for (_, answer), each in zip(group, told, strict=True):
                if not answer.done():
                    answer.set_result(each)
