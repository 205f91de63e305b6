"""Gathered calls: together, in order, and each told its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from pipelines.serving import gather
from pipelines.serving.gather import BusyError, Gathered


class Doubler:
    """Doubles numbers, slowly enough that others come meanwhile; notes the groups."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        if len(self.groups) == 1:
            assert self.go.wait(10)
        if 13 in numbers:
            raise ValueError("thirteen")
        return [2 * each for each in numbers]


async def waiting(double: Doubler, gathered: Gathered[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    """Ask for 1, and once that is under way for other numbers."""
    first = asyncio.create_task(gathered.ask(1))
    while not double.groups:
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(gathered.ask(number)) for number in numbers]
    await asyncio.sleep(0)
    return [first, *others]


def test_what_comes_meanwhile_goes_together() -> None:
    double = Doubler()

    async def main() -> list[int]:
        tasks = await waiting(double, Gathered(double), 2, 3, 4)
        double.go.set()
        return [await each for each in tasks]

    assert asyncio.run(main()) == [2, 4, 6, 8]
    assert double.groups == [[1], [2, 3, 4]]


def test_a_failure_is_told_to_all_of_its_group_and_to_nobody_else() -> None:
    double = Doubler()

    async def main() -> list[object]:
        gathered = Gathered(double)
        tasks = await waiting(double, gathered, 2, 13)
        double.go.set()
        found: list[object] = list(await asyncio.gather(*tasks, return_exceptions=True))
        return [*found, await gathered.ask(5)]

    first, second, third, last = asyncio.run(main())
    assert (first, last) == (2, 10)
    assert isinstance(second, ValueError) and isinstance(third, ValueError)


def test_more_than_may_wait_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "_WAITING", 2)
    double = Doubler()

    async def main() -> list[int]:
        gathered = Gathered(double)
        tasks = await waiting(double, gathered, 2, 3)
        with pytest.raises(BusyError, match="wait already"):
            await gathered.ask(4)
        double.go.set()
        return [await each for each in tasks]

    assert asyncio.run(main()) == [2, 4, 6]


def test_who_gives_up_disturbs_nobody() -> None:
    double = Doubler()

    async def main() -> int:
        first, second = await waiting(double, Gathered(double), 2)
        first.cancel()
        double.go.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert asyncio.run(main()) == 4
